"""Which pages may open a socket with a cookie (CONTRACT §4), for no CORS rule guards a handshake."""

import pytest

from tests.fakes.gateway import APP, CLERK, gateway
from tests.fakes.upstream import ScriptedUpstream
from tests.fakes.websocket import handshake
from tests.wire.test_tunnels import Upstream

HOST = "gw.example.com"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param((f"Origin: {APP}",), 101, id="listed-for-cors"),
        pytest.param(("Origin: https://party.example.com",), 101, id="authorized-party"),
        pytest.param((f"Origin: http://{HOST}",), 101, id="own"),
        pytest.param((f"Origin: https://{HOST}",), 101, id="own-behind-somebody's-tls"),
        pytest.param((f"Origin: http://{HOST}:80",), 403, id="own-but-not-as-browsers-write-it"),
        pytest.param((f"Origin: http://{HOST}:81",), 403, id="own-on-another-port"),
        pytest.param((f"Origin: ws://{HOST}",), 403, id="own-with-another-scheme"),
        pytest.param((f"Origin: http://{HOST.upper()}",), 403, id="own-in-capitals"),
        pytest.param((f"Origin: {APP.upper()}",), 403, id="listed-in-capitals"),
        pytest.param((f"Origin: {APP.replace('https', 'http')}",), 403, id="listed-with-another-scheme"),
        pytest.param((f"Origin: {APP}:8443",), 403, id="listed-on-another-port"),
        pytest.param((f"Origin: {APP}.evil.example",), 403, id="listed-leads-another"),
        pytest.param((f"Origin: {APP}/",), 403, id="no-origin-but-an-address"),
        pytest.param(("Origin: https://evil.example",), 403, id="unlisted"),
        pytest.param((f"Origin: https://sub.{HOST}",), 403, id="subdomain"),
        pytest.param(("Origin: null",), 403, id="null"),
        pytest.param(("Origin: null", "Sec-Fetch-Site: same-origin"), 403, id="null-whatever-else"),
        pytest.param(("Origin:",), 403, id="empty"),
        pytest.param((f"Origin: {APP}", "Origin: https://evil.example"), 403, id="two"),
        pytest.param((f"Origin: {APP}", f"Origin: {APP}"), 403, id="the-same-twice"),
        pytest.param((f"Origin: {APP} https://evil.example",), 403, id="a-list"),
        pytest.param((), 403, id="none"),
        pytest.param(("Sec-Fetch-Site: same-origin",), 101, id="none-but-the-same-origin"),
        pytest.param(("Sec-Fetch-Site: same-site",), 403, id="none-but-the-same-site"),
        pytest.param(("Sec-Fetch-Site: cross-site",), 403, id="none-and-cross-site"),
        pytest.param(("Sec-Fetch-Site: none",), 403, id="none-and-typed-in"),
        pytest.param(("Sec-Fetch-Site: Same-Origin",), 403, id="none-and-misspelt"),
        pytest.param(("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: same-origin"), 403, id="none-and-said-twice"),
        pytest.param(("Origin: https://evil.example", "Sec-Fetch-Site: same-origin"), 403, id="unlisted-whatever-else"),
        pytest.param(("Origin: https://evil.example", "Connection: Origin"), 403, id="named-away"),
        pytest.param(("Origin: https://evil.example", "X-Forwarded-Host: evil.example"), 403, id="forwarded-host"),
        pytest.param((f"Origin: {APP}", "Authorization: Basic eDp5"), 101, id="another-scheme-is-no-credential"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/ws", "/optional/ws"])
async def test_a_cookie_opens_a_socket_for_pages_that_may(path: str, lines: tuple[str, ...], status: int) -> None:
    upstream = Upstream()
    clerk = {"issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [APP, "https://party.example.com"]}
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port, clerk=clerk) as running:
        cookie = f"Cookie: __session={running.token()}; __client_uat={int(running.clock()) - 10}"
        reader, writer = await running.connect()
        writer.write(handshake(path, cookie, *lines))
        head = await reader.readuntil(b"\r\n\r\n")
        assert int(head[9:12]) == status
        if status == 403:
            assert b'"reason":"origin"' in await reader.read()
        writer.close()
        upstream.over.set()
    assert listening.connections == (status == 101)


@pytest.mark.parametrize(
    ("proto", "status"), [("https", 101), ("http", 403), ("", 403)], ids=["tls", "plain", "unsaid"]
)
async def test_whether_a_page_is_our_own_is_known_by_the_scheme_a_trusted_proxy_names(proto: str, status: int) -> None:
    upstream = Upstream()
    trusting = {"trusted_proxies": ["127.0.0.0/8"]}
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port, **trusting) as running:
        cookie = f"Cookie: __session={running.token()}; __client_uat={int(running.clock()) - 10}"
        lines = [f"Origin: https://{HOST}", *([f"X-Forwarded-Proto: {proto}"] if proto else [])]
        reader, writer = await running.connect()
        writer.write(handshake("/ws", cookie, *lines))
        assert int((await reader.readuntil(b"\r\n\r\n"))[9:12]) == status
        writer.close()


async def test_a_sub_protocol_token_needs_no_origin_and_is_not_rescued_by_a_cookie() -> None:
    upstream = Upstream()
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port) as running:
        cookie = f"Cookie: __session={running.token()}; __client_uat={int(running.clock()) - 10}"
        for token, status in ((running.token(), 101), ("bad", 401)):
            reader, writer = await running.connect()
            offer = f"Sec-WebSocket-Protocol: gateway.auth, gateway.bearer.{token}"
            writer.write(
                handshake("/ws", cookie, offer, "Origin: https://evil.example" if status == 101 else f"Origin: {APP}")
            )
            assert int((await reader.readuntil(b"\r\n\r\n"))[9:12]) == status
            writer.close()
        upstream.over.set()
