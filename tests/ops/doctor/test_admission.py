import pytest

from gateway.core.verify import read_token
from gateway.ops.doctor.admission import use
from gateway.ops.doctor.instances import instances_of
from gateway.ops.doctor.peeked import peek
from tests.ops.doctor.world import CLERK, NOW, configured, levels, said

TOLD = {"email": "ada@example.com", "name": "Ada"}
BOTH = "[{name: both, path: /*, upstream: api, token: [session, template], audience: [legacy]}]"


def used(raw, *, routes=None, is_enriched=False, **sections):
    config = configured(**(sections | ({"routes": routes} if routes else {})))
    claims = peek(raw).claims
    return list(use(read_token(raw.encode()), claims, instances_of(config)[0], config.routes, is_enriched=is_enriched))


def test_one_that_says_everything_is_taken():
    assert used(CLERK.session_token(NOW, **TOLD)) == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param(CLERK.session_token(NOW), ["no claim email or name", "X-User-Email or X-User-Name", "Customize session token", '"email": "{{user.primary_email_address}}"', '"name": "{{user.full_name}}"'], id="session"),
        pytest.param(CLERK.session_token(NOW, email="a@b.c"), ["no claim name,"], id="without-name"),
        pytest.param(CLERK.session_token(NOW, email=None, name="Ada"), ["no claim email,"], id="null-email"),
    ],
)  # fmt: skip
def test_claims_that_are_missing_are_named_with_what_to_add(raw, words):
    (found,) = used(raw)
    assert found.level == "warning"
    for word in words:
        assert word in said(found)
    assert used(raw, is_enriched=True) == []


def test_a_templates_claims_are_added_to_the_template():
    (found,) = used(CLERK.template_token(NOW, aud="legacy"), routes=BOTH)
    assert "JWT templates" in found.remedy


def test_who_is_told_nothing_misses_nothing():
    silent = "{api: {url: http://127.0.0.1:3000, identity: false}}"
    assert used(CLERK.session_token(NOW), upstreams=silent) == []


@pytest.mark.parametrize(
    ("raw", "routes", "words"),
    [
        pytest.param(CLERK.template_token(NOW, **TOLD), None, ["a template token, which route rest does not take", "without a template"], id="template"),
        pytest.param(CLERK.session_token(NOW, sid=..., **TOLD), None, ["without sid", "401 token-verification-failed"], id="no-session"),
        pytest.param(CLERK.session_token(NOW, sts="pending", **TOLD), None, ["401 session-pending", "allow_pending"], id="pending"),
        pytest.param(CLERK.session_token(NOW, **TOLD), BOTH, ["aud is missing, and route both asks for legacy"], id="no-audience"),
        pytest.param(CLERK.session_token(NOW, aud="x", **TOLD), BOTH, ["aud is x"], id="another-audience"),
        pytest.param(CLERK.session_token(NOW, fea="dashboard", **TOLD), None, ["fea"], id="unreadable-features"),
    ],
)  # fmt: skip
def test_what_no_route_takes_is_an_error(raw, routes, words):
    found = used(raw, routes=routes)
    assert levels(found) == ["error"]
    for word in words:
        assert word in said(found)


def test_another_template_is_offered_to_templates_alone():
    only_templates = "[{name: t, path: /*, upstream: api, token: [template], audience: [legacy]}]"
    (found,) = used(CLERK.session_token(NOW, **TOLD), routes=only_templates)
    assert "is a session token, which route t does not take" in found.found
    assert "or write token: [session, template]" not in found.remedy
    assert "or write token: [session, template]" in used(CLERK.template_token(NOW, **TOLD))[0].remedy


def test_what_one_route_takes_is_no_error():
    routes = "[{path: /a, upstream: api, audience: [legacy]}, {path: /*, upstream: api, allow_pending: true}]"
    assert used(CLERK.session_token(NOW, sts="pending", **TOLD), routes=routes) == []
    public = "[{path: /*, upstream: api, auth: public}]"
    assert used(CLERK.template_token(NOW), routes=public) == []
    assert used(CLERK.session_token(NOW, sts="pending"), routes=public) == []


def test_a_route_of_another_instance_is_named():
    several = "[{name: a, issuer: clerk.example.com}, {name: b, issuer: clerk.other.example}]"
    routes = "[{name: theirs, path: /*, upstream: api, issuer: b}]"
    (found,) = used(CLERK.session_token(NOW, **TOLD), clerk="{}", issuers=several, routes=routes)
    assert "is of a, whose tokens route theirs does not take (401 token-invalid-issuer)" in found.found
