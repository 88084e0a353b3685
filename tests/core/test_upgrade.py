"""The opening handshake: a token among sub-protocols, what an upstream gets, what the client is told."""

import pytest

from gateway.core.upgrade import Offer, answer_lines, check_accepted, read_offer, request_lines
from gateway.errors import BadUpstreamResponse

SWITCH = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
# RFC 6455 §1.3
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("value", "offer"),
    [
        pytest.param(None, Offer((), b"", b""), id="none"),
        pytest.param(b"", Offer((), b"", b""), id="empty"),
        pytest.param(b"chat, v2.chat", Offer((), b"", b"chat, v2.chat"), id="others-only"),
        pytest.param(b"gateway.auth, gateway.bearer.a.b.c", Offer((b"a.b.c",), b"gateway.auth", b""), id="ours-only"),
        pytest.param(b"chat,gateway.bearer.t ,\tgateway.auth,v2", Offer((b"t",), b"gateway.auth", b"chat, v2"), id="among"),
        pytest.param(b"gateway.bearer.t", Offer((b"t",), b"", b""), id="token-alone"),
        pytest.param(b"gateway.auth", Offer((), b"gateway.auth", b""), id="without-a-token"),
        pytest.param(b"Gateway.Auth, GATEWAY.bearer.T", Offer((b"T",), b"Gateway.Auth", b""), id="in-capitals"),
        pytest.param(b"gateway.bearer.", Offer((b"",), b"", b""), id="empty-token"),
        pytest.param(b"gateway.bearer.a, gateway.bearer.b", Offer((b"a", b"b"), b"", b""), id="two-tokens"),
        pytest.param(b"gateway.authentic, xgateway.bearer.t", Offer((), b"", b"gateway.authentic, xgateway.bearer.t"),
                     id="others-that-look-alike"),
        pytest.param(b", ,chat,", Offer((), b"", b"chat"), id="empty-entries"),
    ],
)  # fmt: skip
def test_a_list_of_sub_protocols_is_taken_apart(value: bytes | None, offer: Offer) -> None:
    assert read_offer(value) == offer


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        pytest.param(None, SWITCH, id="none"),
        pytest.param(b"gateway.auth, gateway.bearer.t", SWITCH, id="ours-only"),
        pytest.param(b"chat, gateway.bearer.t, v2", SWITCH + b"\r\nSec-WebSocket-Protocol: chat, v2", id="among"),
    ],
)
def test_an_upstream_never_gets_what_was_meant_for_the_gateway(value: bytes | None, lines: bytes) -> None:
    assert request_lines(value) == lines


CHOSEN = b"\r\nsec-websocket-protocol: chat"


@pytest.mark.parametrize(
    ("value", "head", "more"),
    [
        pytest.param(None, [], b"", id="nothing-offered"),
        pytest.param(b"chat", [], b"", id="none-chosen"),
        pytest.param(
            b"chat, gateway.auth, gateway.bearer.t", [], b"\r\nSec-WebSocket-Protocol: gateway.auth", id="ours"
        ),
        pytest.param(b"gateway.auth, gateway.bearer.t, chat", [CHOSEN], b"", id="theirs"),
        pytest.param(b"gateway.bearer.t", [], b"", id="ours-was-not-offered"),
    ],
)
def test_a_client_is_told_a_sub_protocol_it_offered(value: bytes | None, head: list[bytes], more: bytes) -> None:
    assert answer_lines(value, [b"\r\nServer: x", *head]) == SWITCH + more


@pytest.mark.parametrize(
    "accept",
    [ACCEPT, ACCEPT.lower().replace(ACCEPT[24:].lower(), ACCEPT[24:]), ACCEPT + b" "],
    ids=["usual", "low", "blank"],
)
def test_the_answer_to_this_handshake_is_taken(accept: bytes) -> None:
    check_accepted(KEY, [b"\r\nServer: x", accept, CHOSEN])


@pytest.mark.parametrize(
    "head",
    [
        pytest.param([], id="missing"),
        pytest.param([ACCEPT.swapcase()], id="wrong"),
        pytest.param([ACCEPT, ACCEPT], id="twice"),
        pytest.param([b"\r\nSec-WebSocket-Accepted: " + ACCEPT[24:]], id="another-field"),
        pytest.param([ACCEPT, CHOSEN, CHOSEN], id="two-sub-protocols"),
    ],
)
def test_a_101_that_belongs_to_no_handshake_is_refused(head: list[bytes]) -> None:
    with pytest.raises(BadUpstreamResponse):
        check_accepted(KEY, head)
