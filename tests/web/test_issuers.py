"""Several Clerk instances at one gateway: each with its own keys, parties and cookies."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.config.clerk import cookie_suffix
from gateway.core.verify import read_token
from gateway.web.issuers import Issuers
from tests.config.files import publishable_key
from tests.fakes.clerk import M2M, FakeClerk, FakeIssuer
from tests.fakes.gateway import APP, Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream

ONE = FakeClerk("https://clerk.one.example", kid="ins_one", key_name="first")
TWO = FakeClerk("https://clerk.two.example", kid="ins_two", key_name="other")
PARTY = "https://two.example"
ROUTES = [
    {"name": "one", "path": "/one/*", "upstream": "api", "issuer": "one"},
    {"name": "two", "path": "/two/*", "upstream": "api", "issuer": "two"},
    {"name": "any", "path": "/*", "upstream": "api"},
]


def block(clerk: FakeClerk, name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "issuer": clerk.issuer, "authorized_parties": [APP if name == "one" else PARTY]} | more


def good(clerk: FakeClerk, running: Running, **claims: Any) -> str:
    return clerk.session_token(running.clock(), **({"azp": APP if clerk is ONE else PARTY} | claims))


def suffixed(clerk: FakeClerk, running: Running, token: str) -> str:
    suffix = cookie_suffix(publishable_key(clerk.issuer.removeprefix("https://")).rstrip("="))
    return f"__session_{suffix}={token}; __client_uat_{suffix}={int(running.clock()) - 9}"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(Echo()) as started:
        yield started


@pytest.fixture(params=["fetched", "given"])
async def running(upstream: ScriptedUpstream, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with FakeIssuer(ONE) as first, FakeIssuer(TWO) as second:
        urls = {"one": first.jwks_url, "two": second.jwks_url}
        blocks = [
            block(clerk, name, **({"jwks_url": urls[name]} if request.param == "fetched" else {"jwt_key": clerk.pem()}))
            for clerk, name in ((ONE, "one"), (TWO, "two"))
        ]
        async with gateway(upstream.port, clerk={}, issuers=blocks, routes=ROUTES) as started:
            yield started


async def reason(running: Running, target: str, token: str) -> str | None:
    answer = await running.get(target, token=token)
    return None if answer.status == 200 else answer.json["reason"]


async def test_either_is_taken_where_no_route_says_which(running: Running, upstream: ScriptedUpstream) -> None:
    for clerk in (ONE, TWO, ONE):
        assert await reason(running, "/x", good(clerk, running)) is None


async def test_a_route_takes_the_one_it_names(running: Running) -> None:
    one, two = good(ONE, running), good(TWO, running)
    for _ in range(2):  # the second time from memory
        assert await reason(running, "/one/x", one) is None
        assert await reason(running, "/one/x", two) == "token-invalid-issuer"
        assert await reason(running, "/two/x", one) == "token-invalid-issuer"
        assert await reason(running, "/two/x", two) is None
        assert await reason(running, "/x", two) is None  # not remembered as nobody's


@pytest.mark.parametrize("target", ["/x", "/one/x", "/two/x"])
async def test_a_key_of_one_never_verifies_the_others(running: Running, target: str) -> None:
    for kid in ("ins_one", "ins_two", "ins_other"):
        for said_by, key, party in ((ONE, TWO.key, PARTY), (TWO, ONE.key, APP)):
            claims = said_by.session_claims(running.clock(), azp=party)  # all that the key's owner would ask for
            said = await reason(running, target, ONE.mint(claims, key=key, header={"kid": kid}))
            assert said in ("token-invalid-signature", "jwk-kid-mismatch", "token-invalid-issuer")


async def test_each_has_its_own_parties(running: Running) -> None:
    assert await reason(running, "/x", good(ONE, running, azp=PARTY)) == "token-invalid-authorized-parties"
    assert await reason(running, "/x", good(TWO, running, azp=APP)) == "token-invalid-authorized-parties"


async def test_nobodys_token(running: Running) -> None:
    other = FakeClerk("https://clerk.three.example", kid="ins_three", key_name="other")
    assert await reason(running, "/x", good(other, running, azp=APP)) in ("token-invalid-issuer", "jwk-kid-mismatch")
    assert await reason(running, "/x", ONE.sign(b'{"alg": "RS256"}', b"[]")) == "token-invalid-issuer"


async def test_cookies_of_either(running: Running, upstream: ScriptedUpstream) -> None:
    one, two = (suffixed(clerk, running, good(clerk, running, sub=f"user_{clerk.kid}")) for clerk in (ONE, TWO))
    for cookies, status in ((one, 200), (two, 200), (f"{two}; {one}", 200)):
        assert (await running.get("/x", fields={"Cookie": cookies})).status == status
    # A cookie is its instance's, whosever token stands in it.
    swapped = suffixed(ONE, running, good(TWO, running))
    assert (await running.get("/x", fields={"Cookie": swapped})).json["reason"] == "token-invalid-issuer"
    assert (await running.get("/x", token=good(TWO, running))).status == 200
    assert (await running.get("/x", fields={"Cookie": swapped})).json["reason"] == "token-invalid-issuer"


async def test_signed_out_of_one_and_in_with_the_other(running: Running) -> None:
    out = suffixed(ONE, running, "x").split("; ")[1].split("=")[0] + "=5"
    inside = suffixed(TWO, running, good(TWO, running))
    assert (await running.get("/x", fields={"Cookie": f"{out}; {inside}"})).status == 200
    answer = await running.get("/x", fields={"Cookie": out})
    assert (answer.status, answer.json["reason"]) == (401, "client-uat-but-no-session-token")


async def test_nobody_is_somebody_else_because_a_token_has_expired(running: Running) -> None:
    expired = suffixed(ONE, running, good(ONE, running, exp=int(running.clock()) - 60))
    two = suffixed(TWO, running, good(TWO, running))
    answer = await running.get("/x", fields={"Cookie": f"{two}; {expired}"})
    assert (answer.status, answer.json["reason"].partition("-refresh-")[0]) == (401, "session-token-expired")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_whose_cookies_a_route_does_not_take_hide_nobody_elses(running: Running, method: str) -> None:
    one, two = (suffixed(clerk, running, good(clerk, running)) for clerk in (ONE, TWO))
    expired = suffixed(ONE, running, good(ONE, running, exp=int(running.clock()) - 60))
    for target, cookies, status in (
        ("/one/x", f"{two}; {one}", 200),
        ("/two/x", f"{one}; {two}", 200),
        ("/two/x", f"{expired}; {two}", 200),
        ("/one/x", two, 401),
        ("/two/x", one, 401),
    ):
        fields = {"Cookie": cookies, "Sec-Fetch-Site": "same-origin"}
        assert (await running.ask(method, target, fields=fields)).status == status


async def test_signed_in_to_both_a_route_takes_the_session_of_the_one_it_names(running: Running) -> None:
    both = "; ".join(suffixed(clerk, running, good(clerk, running, sub=f"user_{clerk.kid}")) for clerk in (ONE, TWO))
    for target, user in (("/one/x", "user_ins_one"), ("/two/x", "user_ins_two"), ("/x", "user_ins_one")):
        for fields in ({"Cookie": both}, {"Cookie": both, "Sec-Fetch-Dest": "document"}):
            answer = await running.get(target, fields=fields)
            assert (answer.status, dict(answer.json["headers"]).get("X-User-Id")) == (200, user)
    one = suffixed(ONE, running, good(ONE, running))
    answer = await running.get("/two/x", fields={"Cookie": one})
    assert (answer.status, answer.json["reason"]) == (401, "session-token-and-uat-missing")


async def test_a_page_of_a_party_of_one_may_not_act_for_the_other(running: Running) -> None:
    cookie = suffixed(TWO, running, good(TWO, running))
    for origin, status in ((PARTY, 200), ("https://elsewhere.example", 403)):
        fields = {"Cookie": cookie, "Origin": origin}
        assert (await running.ask("POST", "/x", fields=fields)).status == status


async def test_one_that_cannot_be_asked_does_not_hold_up_the_other(upstream: ScriptedUpstream) -> None:
    async with FakeIssuer(TWO) as second:
        blocks = [block(ONE, "one", jwks_url="http://127.0.0.1:1/k"), block(TWO, "two", jwks_url=second.jwks_url)]
        async with gateway(upstream.port, clerk={}, issuers=blocks, routes=ROUTES, first_keys_s=0.2) as running:
            assert (await running.get("/readyz")).json == {"status": "degraded"}
            assert await reason(running, "/x", good(TWO, running)) is None
            assert (await running.get("/x", token=good(ONE, running))).status == 503


async def test_a_reload_keeps_the_keys_that_stay(upstream: ScriptedUpstream) -> None:
    async with FakeIssuer(ONE) as first, FakeIssuer(TWO) as second:
        one, two = block(ONE, "one", jwks_url=first.jwks_url), block(TWO, "two", jwks_url=second.jwks_url)
        async with gateway(upstream.port, clerk={}, issuers=[one], routes=ROUTES[2:]) as running:
            token = good(TWO, running)
            assert await reason(running, "/x", token) in ("jwk-kid-mismatch", "token-invalid-issuer")
            asked = first.requests
            running.file.write(upstream.port, clerk={}, issuers=[two, one], routes=ROUTES)
            assert await running.app.reload() == ["issuers", "routes"]
            assert await reason(running, "/two/x", token) is None
            assert first.requests == asked
            second.status = 500
            running.file.write(upstream.port, clerk={}, issuers=[one], routes=ROUTES[2:])
            await running.app.reload()
            assert await reason(running, "/x", token) == "jwk-kid-mismatch"
            assert await reason(running, "/x", good(ONE, running)) is None


def test_machines_tokens_are_told_by_their_kid() -> None:
    made = [fixed_issuer(ONE, "one"), fixed_issuer(TWO, "two")]
    claims = {"sub": "mch_1", "iss": "https://elsewhere.example"}
    token = read_token(TWO.mint(claims, header={"cat": M2M}).encode())
    chosen = Issuers(made).of(token)
    assert chosen is not None
    assert chosen.name == "two"
    assert Issuers(made).of(token, named="one") is None
    assert Issuers(made[:1]).of(token) is made[0]


def fixed_issuer(clerk: FakeClerk, name: str) -> Any:
    import json

    from gateway.core.session import CredentialPolicy
    from gateway.core.verify import TokenPolicy, parse_jwks
    from gateway.net.jwks import StaticKeys
    from gateway.web.issuers import Issuer

    keys = StaticKeys(parse_jwks(json.dumps(clerk.jwks()).encode()))
    return Issuer(name, keys, TokenPolicy(frozenset({clerk.issuer})), CredentialPolicy(clerk.issuer, name=name))
