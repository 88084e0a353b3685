import pytest

from gateway.ops.doctor.machine_token import machine_kind, machine_token
from tests.ops.doctor.world import CLERK, KEYED, NOW, configured, said

ROUTES = (
    "[{name: reports, path: /reports/*, upstream: api, token: [api_key, m2m]}, {name: rest, path: /*, upstream: api}]"
)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        pytest.param("ak_abcdefgh", "api_key", id="api-key"),
        pytest.param("mt_abcdefgh", "m2m", id="m2m"),
        pytest.param("oat_abcdefgh", "oauth", id="oauth"),
        pytest.param(CLERK.m2m_token(NOW), "m2m", id="signed-m2m"),
        pytest.param(CLERK.oauth_token(NOW), "oauth", id="signed-oauth"),
        pytest.param(CLERK.session_token(NOW), None, id="session"),
        pytest.param("sk_live_abcdefgh", None, id="secret-key"),
        pytest.param("é", None, id="not-ascii"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_machines_token_is_told_by_its_form(raw, kind):
    assert machine_kind(raw) == kind


@pytest.mark.parametrize(
    ("kind", "routes", "words"),
    [
        pytest.param("api_key", ROUTES, ["skipped", "route reports takes", "gateway explain"], id="taken"),
        pytest.param("oauth", ROUTES, ["error", "route reports, rest does not take (401 token-type-mismatch)",
                                       "token: [session, oauth]"], id="another-kind"),
        pytest.param("m2m", "[{path: /*, upstream: api, auth: public}]", ["error", "no route takes"], id="public"),
    ],
)  # fmt: skip
def test_whether_a_route_takes_its_kind(kind, routes, words):
    found = said(machine_token(kind, configured(clerk=KEYED, routes=routes).routes))
    for word in words:
        assert word in found
