import pytest

from gateway.ops.doctor.asking import Unreached
from gateway.ops.doctor.backend import Template, answered, code_of, read_templates, templates, user
from tests.ops.doctor.world import CLERK, KEYED, SECRET, answer, configured, instance, jwks_of, levels, said

REFUSED = {"errors": [{"code": "clerk_key_invalid", "message": f"no such key {SECRET}"}]}
CONVEX = "{convex: {url: 'https://happy-otter-123.convex.cloud'}}"
TO_CONVEX = "[{path: /*, upstream: convex}]"
TEMPLATED = "[{name: legacy, path: /*, upstream: api, token: [template], audience: [legacy]}]"
WHOLE = {"aud": "legacy", "email": "{{user.primary_email_address}}", "name": "{{user.full_name}}"}


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [
        pytest.param(answer(200, jwks_of(CLERK)), "ok", ["takes the secret key"], id="good"),
        pytest.param(answer(401, REFUSED), "error", ["does not take the secret key", "clerk_key_invalid", "CLERK_SECRET_KEY"], id="refused"),
        pytest.param(answer(403, b"<html>"), "error", ["403, without a reason"], id="forbidden"),
        pytest.param(answer(429), "warning", ["rate limit is spent"], id="limited"),
        pytest.param(answer(502), "error", ["answers 502", "status.clerk.com"], id="down"),
        pytest.param(answer(200, b"<html>hello"), "error", ["a web page", "clerk.api_url"], id="html"),
        pytest.param(answer(200, {"a": 1}), "error", ["something else (status 200)"], id="something-else"),
        pytest.param(answer(404, {}), "error", ["without /v1"], id="wrong-path"),
        pytest.param(answer(302, location="https://x"), "error", ["status 302"], id="redirect"),
        pytest.param(Unreached("dns"), "error", ["cannot be resolved", "clerk.api_url"], id="dns"),
        pytest.param(Unreached("timeout"), "error", ["no answer in time", "firewall"], id="timeout"),
    ],
)  # fmt: skip
def test_what_the_backend_api_answers_is_judged(asked, level, words):
    found = answered(instance(KEYED), asked)
    assert found.level == level
    for word in words:
        assert word in said(found)
    assert SECRET not in said(found)


def test_jwt_key_is_no_remedy_for_the_backend_api():
    assert "jwt_key" not in said(answered(instance(KEYED), Unreached("timeout")))


def test_without_a_secret_key_it_is_not_used():
    found = answered(instance(), None)
    assert (found.level, "CLERK_SECRET_KEY" in found.found) == ("skipped", True)


@pytest.mark.parametrize(
    "body", [b"x", {}, {"errors": []}, {"errors": [{"code": 5}]}, {"errors": [{"code": "a b"}]}, []]
)
def test_only_clerks_words_are_repeated(body):
    assert code_of(answer(400, body)) is None


def test_templates_are_read_as_clerk_lists_them():
    entry = {"object": "jwt_template", "name": "convex", "claims": {"aud": "convex"}, "signing_algorithm": "RS256"}
    assert read_templates(answer(200, [entry, {"no": "name"}])) == (Template("convex", {"aud": "convex"}),)
    assert read_templates(answer(200, {"data": [entry]})) == (Template("convex", {"aud": "convex"}),)
    own = entry | {"signing_algorithm": "HS256"}
    assert read_templates(answer(200, [own]))[0].is_own_key
    for bad in (None, Unreached("dns"), answer(404, []), answer(200, b"x"), answer(200, 5)):
        assert read_templates(bad) is None


@pytest.mark.parametrize(
    ("known", "enriched", "level", "words"),
    [
        pytest.param([], True, ["error"], ["no JWT template", "aud legacy", '"aud": "legacy"'], id="missing"),
        pytest.param([Template("t", {"aud": "other"})], True, ["error"], ["route legacy asks for"], id="another-audience"),
        pytest.param([Template("t", WHOLE)], False, ["ok"], ["is there"], id="whole"),
        pytest.param([Template("t", WHOLE | {"aud": ["a", "legacy"]})], False, ["ok"], [], id="one-of-several-audiences"),
        pytest.param([Template("t", {"aud": "legacy"})], False, ["warning"],
                     ['"t" has no claim email or name', "{{user.primary_email_address}}", "{{user.full_name}}"], id="without-claims"),
        pytest.param([Template("t", {"aud": "legacy", "email": "x"})], False, ["warning"], ["no claim name"], id="without-name"),
        pytest.param([Template("t", {"aud": "legacy"})], True, ["ok"], [], id="directory-fills-it-in"),
        pytest.param([Template("t", WHOLE, is_own_key=True)], False, ["error"], ["custom signing key"], id="own-key"),
    ],
)  # fmt: skip
def test_templates_that_routes_wait_for_are_looked_for(known, enriched, level, words):
    routes = configured(routes=TEMPLATED).routes
    found = templates(instance(KEYED), known, routes, enriched=enriched)
    assert levels(found) == level
    for word in words:
        assert word in said(found)


def test_convexs_may_be_the_session_token_too():
    routes = configured(upstreams=CONVEX, routes=TO_CONVEX).routes
    (found,) = templates(instance(KEYED), [], routes, enriched=False)
    assert (found.level, "Activate Convex" in found.remedy) == ("warning", True)
    assert levels(templates(instance(KEYED), [Template("convex", {"aud": "convex"})], routes, enriched=False)) == ["ok"]


def test_without_such_routes_or_an_answer_nothing_is_said():
    assert templates(instance(KEYED), [], configured().routes, enriched=False) == []
    assert templates(instance(KEYED), None, configured(routes=TEMPLATED).routes, enriched=False) == []


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [
        pytest.param(answer(200, {"id": "user_1"}), ["ok"], "Clerk knows user_1", id="known"),
        pytest.param(answer(404, {"errors": [{"code": "resource_not_found"}]}), ["error"], "not among the users", id="missing"),
        pytest.param(answer(404, b"<html>"), [], "", id="not-clerks-word"),
        pytest.param(answer(200, {"banned": True, "locked": True}), ["error"], "banned and locked", id="banned"),
        pytest.param(answer(500), [], "", id="down"),
        pytest.param(answer(200, b"x"), [], "", id="nonsense"),
        pytest.param(Unreached("dns"), [], "", id="unreached"),
        pytest.param(None, [], "", id="not-asked"),
    ],
)  # fmt: skip
def test_what_clerk_says_of_the_user_is_judged(asked, level, words):
    found = user(instance(KEYED), "user_1", asked)
    assert levels(found) == level
    assert words in said(found)
