import re
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.forwarding import Trace, forwarding
from gateway.core.headers import (
    COMMON,
    HOP_BY_HOP,
    NOT_NOMINABLE,
    REMEMBERED_LENGTH,
    REMEMBERED_NAMES,
    RESERVED_NAMES,
    RESERVED_PREFIXES,
    WATCHED,
    ClientFields,
    FieldRules,
    Outbound,
    build_outbound,
    folded,
    refuse_repeated,
)
from gateway.core.model import Endpoint, Header, Identified, Inbound, Peer, Principal, Upstream
from gateway.core.routing import PathPattern, Route
from gateway.errors import BadRequest

RULES = FieldRules("X-User-", ("X-Tier",))
CLIENT = Peer("203.0.113.9", trusted=False, scheme="http", port=8080)
PROXY = Peer("10.0.0.1", trusted=True, scheme="http", port=8080)
TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
UPSTREAM = Upstream("api", (Endpoint("127.0.0.1", 3000, authority=b"upstream:3000"),))
ROUTE = Route("rest", PathPattern.read("/*"), UPSTREAM)
PRINCIPAL = Principal("user_1", "session", {}, frozenset(), 0, 60, user_id="user_1")
IDENTIFIED = Identified(PRINCIPAL, b"\r\nX-User-Id: user_1", b"")
JWT = b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyXzEifQ.c2ln"
TRACE_ID = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"00-" + TRACE_ID + b"-b7ad6b7169203331-00"
OURS = Trace(b"a" * 32, b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")

# What a server may fold into a dash: every character of a header name but letters and digits.
PUNCTUATION = st.sampled_from("-_.!#$%&'*+^`|~")
RESERVED = st.one_of(
    st.sampled_from([*RESERVED_NAMES, *HOP_BY_HOP, "X-Tier"]),
    st.builds(
        "".join,
        st.tuples(st.sampled_from(["X-User-", *RESERVED_PREFIXES]), st.sampled_from(["Id", "For", "", "x-y", "Uri"])),
    ),
)


def read(*raw: tuple[str, str], rules: FieldRules = RULES) -> ClientFields:
    return rules.read([(name.encode("latin-1"), value.encode("latin-1")) for name, value in raw])


def pairs(fields: list[bytes]) -> list[tuple[str, str]]:
    assert all(prefix.startswith(b"\r\n") and prefix.endswith(b": ") for prefix in fields[::2])
    return [(p[2:-2].decode(), v.decode("latin-1")) for p, v in zip(fields[::2], fields[1::2], strict=True)]


@st.composite
def respelt(draw: st.DrawFn, names: st.SearchStrategy[str] = RESERVED) -> str:
    """Draw a name that some server takes for one of these."""
    spelling = [draw(PUNCTUATION) if char == "-" else char for char in draw(names)]
    return "".join(char.upper() if draw(st.booleans()) else char.lower() for char in spelling)


# What of a client's fields goes on


@given(names=st.lists(respelt(), min_size=1), connection=st.one_of(st.none(), respelt()))
def test_no_reserved_field_survives_in_any_spelling(names, connection):
    raw = [(name, "x") for name in names] + ([("Connection", connection)] if connection else [])
    assert read(("Accept", "*/*"), *raw).fields == [b"\r\nAccept: ", b"*/*"]


@given(respelt(st.sampled_from(list(WATCHED))))
def test_watched_field_counts_under_its_own_name_alone(name):
    found = read((name, "x"))
    if name.lower() in WATCHED:
        assert found.seen == {name.lower(): b"x"}
    else:
        assert found == ([], {}, frozenset())


@pytest.mark.parametrize(
    "name", ["X-User", "XUser-Id", "X-Users-Id", "User-Id", "X-Tiers", "Clerk", "X-Request-Ids", "TEs"]
)
def test_field_that_is_not_reserved_goes_on(name):
    assert pairs(read((name, "x")).fields) == [(name, "x")]


@pytest.mark.parametrize("prefix", ["X_USER_", "x.user.", "x-UsEr-"])
def test_configured_names_are_protected_in_whatever_case_they_are_written(prefix):
    assert read(("X-User-Id", "x"), ("x_tier", "y"), rules=FieldRules(prefix, ("X.TIER",))).fields == []


def test_identity_prefix_wins_over_fields_that_would_go_on():
    found = read(("User-Agent", "curl"), ("Origin", "null"), rules=FieldRules("User-", ("Origin",)))
    assert found.fields == []
    assert found.seen == {"user-agent": b"curl", "origin": b"null"}


@pytest.mark.parametrize("name", ["X A", "X\xc4", "X:A", "X\r\nA", "X(", ""])
def test_name_that_is_no_token_never_goes_on(name):
    assert read((name, "x")) == ([], {}, frozenset())


@pytest.mark.parametrize("name", sorted(name for name, goes_on in WATCHED.items() if goes_on))
def test_field_that_rules_only_look_at_goes_on(name):
    assert pairs(read((name.title(), "x")).fields) == [(name.title(), "x")]


@given(st.lists(st.tuples(st.sampled_from(["X-A", "x-a", "Set-X", "Accept", "Origin"]), st.text("abc, \xff"))))
def test_repeated_fields_keep_order_number_and_spelling(raw):
    assert pairs(read(*raw).fields) == raw


def test_repeated_fields_are_joined_for_rules():
    found = read(
        ("Cookie", "a=1"),
        ("Origin", "x"),
        ("cookie", "b=2"),
        ("origin", "y"),
        ("Host", "h"),
        ("X-A", "1"),
        ("X-A", "2"),
    )
    assert found.seen == {"cookie": b"a=1; b=2", "origin": b"x, y", "host": b"h"}
    assert found.repeated == {"cookie", "origin"}


def test_three_of_a_field_are_all_seen():
    assert read(*[("X-Forwarded-For", each) for each in "abc"]).seen == {"x-forwarded-for": b"a, b, c"}


# Connection


@pytest.mark.parametrize("connection", ["X-Hop", "x-hop", " keep-alive ,\tX-HOP", "close, x-hop", "x-hop,"])
def test_connection_takes_away_what_it_names(connection):
    found = read(("X-Hop", "1"), ("X-A", "2"), ("Connection", connection), ("x-hop", "3"))
    assert pairs(found.fields) == [("X-A", "2")]


def test_all_connection_fields_count():
    assert read(("X-A", "1"), ("X-B", "2"), ("Connection", "X-A"), ("Connection", "X-B")).fields == []


def test_field_named_by_connection_is_not_seen_either():
    assert "cookie" not in read(("Cookie", "a=1"), ("Connection", "cookie")).seen


@pytest.mark.parametrize("name", sorted(NOT_NOMINABLE - {"connection"}))
def test_connection_cannot_take_away(name):
    assert read((name, "x"), ("Connection", f"close, {name.title()}, connection")).seen[name] == b"x"


@given(st.lists(respelt(st.sampled_from(["Host", "Content-Length", "Transfer-Encoding", "Connection", "X-User-Id"]))))
def test_connection_can_never_name_away_host_or_framing(nominated):
    found = read(("Host", "h"), ("Content-Length", "0"), ("Transfer-Encoding", "x"), ("X-User-Id", "me"),
                 ("Connection", ", ".join(nominated)))  # fmt: skip
    assert found.seen.keys() == {"host", "content-length", "transfer-encoding", "connection"}
    assert found.fields == []


@pytest.mark.parametrize("connection", ["keep-alive", "Keep-Alive", "close", "Upgrade", ""])
def test_plain_connection_takes_nothing_but_itself(connection):
    found = read(("X-A", "1"), ("Connection", connection), ("Upgrade", "websocket"))
    assert pairs(found.fields) == [("X-A", "1")]
    assert found.seen == {"connection": connection.encode(), "upgrade": b"websocket"}


# Remembered names


def test_invented_names_cost_bounded_memory_and_push_nothing_out():
    rules = FieldRules("X-User-")
    common = {name.encode(): rules._judged[name.encode()] for name in COMMON}
    for number in range(REMEMBERED_NAMES + 10):
        assert pairs(read((f"X-{number}", "1"), rules=rules).fields) == [(f"X-{number}", "1")]
    assert len(rules._judged) == REMEMBERED_NAMES
    assert common.items() <= rules._judged.items()
    assert read(("x_user_late", "1"), rules=rules).fields == []


def test_long_names_are_not_remembered():
    rules = FieldRules("X-User-")
    for length in (REMEMBERED_LENGTH, REMEMBERED_LENGTH + 1):
        assert pairs(read(("a" * length, "1"), rules=rules).fields) == [("a" * length, "1")]
    assert b"a" * REMEMBERED_LENGTH in rules._judged
    assert b"a" * (REMEMBERED_LENGTH + 1) not in rules._judged


@given(st.text())
def test_folding_leaves_letters_digits_and_dashes(name):
    assert re.fullmatch(r"[a-z0-9-]*", folded(name))
    assert folded(folded(name)) == folded(name)


# What an upstream receives


def inbound(
    peer: Peer = CLIENT, *, host: bytes = b"api.example.com", target: bytes = b"/x?y", fields: list[bytes] | None = None,
    seen: dict[str, bytes] | None = None, repeated: frozenset[str] = frozenset(),
) -> Inbound:  # fmt: skip
    return Inbound("GET", target, "/x", Header(fields or [], seen or {}, repeated, peer, host))


def head(request: Inbound, route: Route = ROUTE, identified: Identified | None = None, ids: Trace = OURS) -> list[str]:
    forwarding(request.header, TRUSTED)
    built = build_outbound(request, route, identified, ids)
    assert (built.method, built.route) == (request.method, route)
    return built.head.decode("latin-1").split("\r\n")


def on(*, upstream: dict[str, object] | None = None, **changes: object) -> Route:
    target = Upstream("api", UPSTREAM.endpoints, **(upstream or {}))  # type: ignore[arg-type]
    return Route("rest", PathPattern.read("/*"), target, **changes)  # type: ignore[arg-type]


def test_head_is_the_clients_fields_then_ours():
    assert head(inbound(fields=[b"\r\nAccept: ", b"*/*", b"\r\nAccept: ", b"a/b"]), ROUTE, IDENTIFIED) == [
        "GET /x?y HTTP/1.1",
        "Host: api.example.com",
        "Accept: */*",
        "Accept: a/b",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: api.example.com",
        "X-Forwarded-Port: 8080",
        "X-Request-Id: " + "a" * 32,
        "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "X-User-Id: user_1",
    ]


def test_an_assertion_stands_last():
    request = inbound()
    forwarding(request.header, TRUSTED)
    built = build_outbound(request, ROUTE, IDENTIFIED, OURS, assertion=b"\r\nX-User-Assertion: eyJ")
    assert built.head.endswith(b"\r\nX-User-Id: user_1\r\nX-User-Assertion: eyJ")


@pytest.mark.parametrize(
    ("preserve", "host", "sent"),
    [
        (True, b"api.example.com", "api.example.com"),
        (False, b"api.example.com", "upstream:3000"),
        (True, b"", "upstream:3000"),
    ],
    ids=["preserved", "of-the-upstream", "client-without-host"],
)
def test_upstream_gets_a_host(preserve, host, sent):
    assert head(inbound(host=host), on(upstream={"preserve_host": preserve}))[1] == f"Host: {sent}"


@pytest.mark.parametrize(
    ("identified", "identity", "said"),
    [(IDENTIFIED, True, True), (IDENTIFIED, False, False), (None, True, False)],
    ids=["known", "upstream-without-identity", "anonymous"],
)
def test_identity_is_said_where_there_is_one_and_the_upstream_takes_it(identified, identity, said):
    assert ("X-User-Id: user_1" in head(inbound(), on(upstream={"identity": identity}), identified)) is said


def test_prefixes_change_the_target_and_are_told():
    route = on(strip_segments=1, stripped=b"/x", add_prefix=b"/v2")
    lines = head(inbound(), route)
    assert lines[0] == "GET /v2/?y HTTP/1.1"
    assert "X-Forwarded-Prefix: /x" in lines
    assert not any("Prefix" in line for line in head(inbound(), on(add_prefix=b"/v2")))
    assert head(inbound(), on(strip_segments=1))[0] == "GET /?y HTTP/1.1"


@pytest.mark.parametrize(
    ("peer", "seen", "parent", "goes_on"),
    [
        pytest.param(PROXY, {"traceparent": PARENT, "tracestate": b"a=1"}, PARENT, True, id="trusted"),
        pytest.param(PROXY, {"traceparent": b"bad", "tracestate": b"a=1"}, OURS.traceparent, False, id="begun-anew"),
        pytest.param(PROXY, {"tracestate": b"a=1"}, OURS.traceparent, False, id="without-parent"),
        pytest.param(PROXY, {"traceparent": PARENT}, PARENT, False, id="none-sent"),
        pytest.param(CLIENT, {"traceparent": PARENT, "tracestate": b"a=1"}, PARENT, False, id="untrusted"),
    ],
)
def test_tracestate_goes_on_only_with_the_trace_it_belongs_to(peer, seen, parent, goes_on):
    assert ("tracestate: a=1" in head(inbound(peer, seen=seen), ids=Trace(b"a", parent))) is goes_on


@pytest.mark.parametrize(
    ("cookie", "forward_token", "sent"),
    [
        pytest.param(b"a=1; b=2", False, ["Cookie: a=1; b=2"], id="others"),
        pytest.param(b"a=1; __session=x; b=2", False, ["Cookie: a=1; b=2"], id="clerks-dropped"),
        pytest.param(b"__session_abc=x; __client_uat=1; __clerk_db_jwt=y", False, [], id="only-clerks"),
        pytest.param(b"a=1; __session=x", True, ["Cookie: a=1; __session=x"], id="forward-token"),
        pytest.param(b"", False, [], id="empty"),
    ],
)
def test_clerks_cookies_stay_here_unless_the_route_forwards_them(cookie, forward_token, sent):
    lines = head(inbound(seen={"cookie": cookie}), on(forward_token=forward_token))
    assert [line for line in lines if line.startswith("Cookie")] == sent


@pytest.mark.parametrize(
    ("value", "auth", "forward_token", "goes_on"),
    [
        pytest.param(b"Bearer " + JWT, "required", False, False, id="token"),
        pytest.param(b"Bearer opaque", "required", False, False, id="bearer-that-was-read"),
        pytest.param(b"Bearer opaque", "optional", False, False, id="bearer-on-optional"),
        pytest.param(b"Bearer opaque", "public", False, True, id="bearer-nobody-read"),
        pytest.param(b"Bearer " + JWT, "public", False, False, id="token-on-public"),
        pytest.param(b"bearer ak_1", "public", False, False, id="machine-token-on-public"),
        pytest.param(JWT, "public", False, False, id="token-without-scheme"),
        pytest.param(b"Basic dTpw", "required", False, True, id="other-scheme"),
        pytest.param(b"", "required", False, True, id="empty"),
        pytest.param(b"Bearer " + JWT, "required", True, True, id="forward-token"),
        pytest.param(b"Bearer ak_1", "public", True, True, id="forward-token-on-public"),
    ],
)
def test_authorization_goes_on_unless_it_is_a_credential_of_ours(value, auth, forward_token, goes_on):
    lines = head(inbound(seen={"authorization": value}), on(auth=auth, forward_token=forward_token))
    assert ("Authorization: " + value.decode() in lines) is goes_on
    assert goes_on or not any(line.startswith("Authorization") for line in lines)


@given(names=st.lists(respelt(), max_size=5), value=st.sampled_from(["evil", JWT.decode()]))
def test_upstream_receives_each_identity_and_forwarding_field_once_and_from_us(names, value):
    found = read(*[(name, value) for name in names])
    lines = head(inbound(fields=found.fields, seen=found.seen, repeated=found.repeated), ROUTE, IDENTIFIED)
    assert lines == head(inbound(), ROUTE, IDENTIFIED)


def test_a_header_that_comes_again_goes_on_by_the_rules_of_each_route():
    request = inbound(seen={"authorization": b"Basic dTpw", "cookie": b"__session=x"})
    kept, dropped = on(forward_token=True), on(stripped=b"/x")
    for _ in range(2):
        assert "Cookie: __session=x" in head(request, kept)
        assert "X-Forwarded-Prefix: /x" in head(request, dropped)
        assert not any(line.startswith("Cookie") for line in head(request, dropped))


def test_two_authorization_fields_are_refused():
    found = read(("Authorization", "Basic dTpw"), ("authorization", "Bearer x"))
    with pytest.raises(BadRequest) as refused:
        refuse_repeated(inbound(seen=found.seen, repeated=found.repeated).header)
    assert refused.value.reason == "two-credentials"
    refuse_repeated(inbound(repeated=frozenset({"cookie"})).header)


# Upgrades


OFFER = (
    (b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"k"), (b"Sec-WebSocket-Protocol", b"chat, gateway.auth"),
    (b"Sec-WebSocket-Protocol", b"gateway.bearer." + JWT), (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
)  # fmt: skip


def offered(*, upgrade: bool) -> list[str]:
    found = RULES.read(OFFER)
    request = Inbound("GET", b"/", "/", Header(*found, CLIENT, b"a"), upgrade)
    lines = [line for line in head(request) if "ebsocket" in line.lower() or line.startswith("Connection")]
    again = [line for line in head(request._replace(upgrade=not upgrade)) if line.startswith("Connection")]
    assert again == ([] if upgrade else ["Connection: Upgrade"])  # the header remembers neither
    return lines


def test_a_websocket_goes_on_as_one_without_its_token():
    assert offered(upgrade=True) == [
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: k", "Sec-WebSocket-Extensions: permessage-deflate",
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: chat",
    ]  # fmt: skip


def test_sub_protocols_of_no_websocket_go_nowhere():
    assert offered(upgrade=False) == [
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: k", "Sec-WebSocket-Extensions: permessage-deflate",
    ]  # fmt: skip


@pytest.mark.parametrize(("preserve", "host"), [(True, b"gw.example.com"), (False, b"two.internal")])
def test_another_endpoint_gets_its_own_host_where_that_is_asked_for(preserve, host):
    ends = (
        Endpoint("one.internal", 80, authority=b"one.internal"),
        Endpoint("two.internal", 80, authority=b"two.internal"),
    )
    route = Route("r", PathPattern.read("/*"), Upstream("api", ends, preserve_host=preserve))
    first = host if preserve else b"one.internal"
    made = Outbound("GET", b"GET /a HTTP/1.1\r\nHost: %b\r\nHost-Of: x" % first, route)
    assert made.head_for(ends[0]) == made.head
    assert made.head_for(ends[1]) == b"GET /a HTTP/1.1\r\nHost: %b\r\nHost-Of: x" % host


@pytest.mark.parametrize(
    ("method", "key", "may"),
    [
        ("GET", False, True), ("HEAD", False, True), ("OPTIONS", False, True), ("PUT", False, True),
        ("DELETE", False, True), ("QUERY", False, True), ("POST", False, False), ("PATCH", False, False),
        ("get", False, False), ("BREW", False, False), ("POST", True, True), ("PATCH", True, True),
    ],
)  # fmt: skip
def test_what_goes_on_knows_whether_it_may_be_repeated(method, key, may):
    request = inbound(seen={"idempotency-key": b"1"} if key else {})._replace(method=method)
    forwarding(request.header, TRUSTED)
    assert build_outbound(request, ROUTE, None, OURS).repeatable is may
    assert RULES.read([(b"Idempotency-Key", b"1")]).fields == [b"\r\nIdempotency-Key: ", b"1"]


# Convex


CONVEX = Upstream("convex", (Endpoint("h", 1, authority=b"otter.convex.cloud"),), preserve_host=False, convex=True)
OFFERS = [b"\r\nSec-WebSocket-Extensions: ", b"e", b"\r\nAccept: ", b"*/*", b"\r\nsec_websocket.extensions: ", b"f"]


def to_convex(upstream: Upstream, seen: dict[str, bytes], **changes: object) -> list[str]:
    header = Header(OFFERS, seen, frozenset(), CLIENT, b"gw.example.com")
    forwarding(header)
    made = Inbound("GET", b"/x", "/x", header)
    return head(made, Route("c", PathPattern.read("/*"), upstream, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("auth", ["public", "optional", "required"])
def test_convex_gets_the_token_but_neither_host_nor_extensions_nor_clerks_cookies(auth):
    seen = {"authorization": b"Bearer " + JWT, "cookie": b"__session=x; a=b"}
    lines = to_convex(CONVEX, seen, auth=auth)
    assert "Host: otter.convex.cloud" in lines
    assert f"Authorization: Bearer {JWT.decode()}" in lines
    assert "Cookie: a=b" in lines
    assert [line for line in lines if "orwarded-" in line] == [
        "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: http", "X-Forwarded-Port: 8080",
    ]  # fmt: skip
    assert not [line for line in lines if "xtensions" in line]
    assert "Accept: */*" in lines


def test_extensions_pass_where_messages_are_not_read():
    lines = to_convex(replace(CONVEX, allow_convex_admin=True), {})
    assert [line for line in lines if "xtensions" in line] == [
        "Sec-WebSocket-Extensions: e", "sec_websocket.extensions: f",
    ]  # fmt: skip
    assert not [line for line in lines if "Host: gw" in line]
