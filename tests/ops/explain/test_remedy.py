import pytest

from gateway import errors
from gateway.ops.explain.remedy import REMEDIES
from gateway.ops.explain.request import Asked
from tests.fakes.clerk import FakeClerk
from tests.fakes.gateway import CLERK
from tests.ops.explain.conftest import NOW, story

OTHER = FakeClerk("https://clerk.other.example", kid="ins_other", key_name="other")
# What no single request can be refused with before it is sent on; "" is that of redirects, which refuse nothing.
BEHIND = {
    "", "upstream_unreachable", "bad_upstream_response", "upstream_timeout", "no_healthy_endpoint", "draining",
    "request_timeout", "not_found", "store_unavailable", "webhooks_not_configured",
}  # fmt: skip


def test_every_refusal_before_the_upstream_has_a_remedy():
    codes = {kind.code for kind in errors.GatewayError.__subclasses__()}
    assert codes - BEHIND == REMEDIES.keys()


@pytest.mark.parametrize(
    ("claims", "remedy"),
    [
        ({"iss": OTHER.issuer}, "It is another instance's: check clerk.publishable_key or clerk.issuer, "),
        ({"sts": "pending"}, 'Let the user finish the session\'s tasks, or set allow_pending: true for route "rest"'),
        ({"azp": "https://x.example"}, "Add the page's origin to clerk.authorized_parties (CLERK_AUTHORIZED_PARTIES)"),
        ({"iat": NOW + 60}, "Set this machine's clock (NTP), or raise clerk.clock_skew_s a little"),
    ],
)
async def test_a_remedy_names_the_keys_to_change(claims, remedy):
    told = await story(asked=Asked("GET", "/x", CLERK.session_token(NOW, **claims)))
    assert told.verdict.remedy.startswith(remedy)


async def test_of_several_instances_it_names_the_one_that_the_route_asks_for():
    issuers = [{"name": each.kid, "issuer": each.issuer, "jwt_key": each.pem()} for each in (CLERK, OTHER)]
    routes = [{"name": "two", "path": "/two", "upstream": "api", "issuer": "ins_other"},
              {"name": "rest", "path": "/*", "upstream": "api"}]  # fmt: skip
    token = CLERK.session_token(NOW)
    told = [
        (await story(asked=Asked("GET", path, token, headers=()), clerk={}, issuers=issuers, routes=routes)).verdict
        for path in ("/two", "/x")
    ]
    assert "issuers[1].issuer" in told[0].remedy
    assert told[1].code is None


async def test_what_nobody_has_foreseen_has_none(monkeypatch):
    monkeypatch.setitem(REMEDIES, "missing_credential", {})
    assert (await story()).verdict.remedy == ""
