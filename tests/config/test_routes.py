import pytest

from gateway.core.policy import Requirement
from gateway.core.routing import canonical_path, rewrite_target
from tests.config.files import findings, loaded, only, written


def routes(*texts, **sections):
    return loaded(
        written(routes="[" + ", ".join(f"{{{text}, upstream: api}}" for text in texts) + "]", **sections)
    ).routes


def route(text, **sections):
    return routes(text, **sections)[0]


def test_a_route_is_as_written():
    made = route(
        "name: uploads, path: /up/*, host: API.example.com, methods: 'GET, PUT', auth: optional, token: [session, template],"
        " audience: [convex], timeouts: {connect_s: 1, response_s: 2, idle_s: 3}, max_body_bytes: 0,"
        " allow_encoded: ['%2f', ';'], allow_pending: true, forward_token: true, stream_max_age_s: 3600"
    )
    assert (made.name, made.pattern.text, made.pattern.below) == ("uploads", "/up", True)
    assert (made.host, made.methods, made.auth) == ("api.example.com", {"GET", "PUT"}, "optional")
    assert (made.admission.token_types, made.admission.audience) == ({"session", "template"}, {"convex"})
    assert made.admission.allow_pending
    assert (made.connect_s, made.response_s, made.idle_s, made.max_body_bytes) == (1, 2, 3, 0)
    assert (made.allow_encoded, made.forward_token, made.stream_max_age_s) == ({"%2f", ";"}, True, 3600)


def test_defaults_are_the_contracts():
    made = route("path: /*")
    assert (made.name, made.host, made.methods, made.auth) == ("route-1", None, frozenset(), "required")
    assert (made.admission.token_types, made.admission.audience) == ({"session"}, frozenset())
    assert not made.admission.allow_pending
    assert made.require == Requirement()
    assert (made.max_body_bytes, made.response_s, made.forward_token) == (10_485_760, 30, False)
    assert made.stream_max_age_s == 0


@pytest.mark.parametrize("never", ["0", "null", "0.0"])
def test_a_stream_may_live_for_ever(never):
    assert route(f"path: /*, stream_max_age_s: {never}").stream_max_age_s == 0


def test_what_a_route_leaves_out_is_its_upstreams_or_the_limits():
    made = route(
        "path: /*, timeouts: {idle_s: 9}",
        upstreams="{api: {url: http://127.0.0.1:3000, forward_token: true, timeouts: {response_s: 7}}}",
        limits="{body_bytes: 5}",
    )
    assert (made.connect_s, made.response_s, made.idle_s) == (5, 7, 9)
    assert (made.forward_token, made.max_body_bytes) == (True, 5)


def test_a_route_may_keep_tokens_its_upstream_would_get():
    upstreams = "{api: {url: http://127.0.0.1:3000, forward_token: true}}"
    assert not route("path: /*, forward_token: false", upstreams=upstreams).forward_token


@pytest.mark.parametrize(
    ("text", "require"),
    [
        pytest.param("role: admin", Requirement(roles=frozenset({"org:admin"})), id="role"),
        pytest.param("role: [org:a, b]", Requirement(roles=frozenset({"org:a", "org:b"})), id="roles"),
        pytest.param("permission: org:x:y", Requirement(permissions=frozenset({"org:x:y"})), id="permission"),
        pytest.param("org: true", Requirement(org_any=True), id="any-org"),
        pytest.param("org: acme", Requirement(orgs=frozenset({"acme"})), id="org"),
        pytest.param("org: [acme, org_1]", Requirement(orgs=frozenset({"acme", "org_1"})), id="orgs"),
        pytest.param("plan: o:pro", Requirement(plans=frozenset({"o:pro"})), id="plan"),
        pytest.param("feature: export", Requirement(features=frozenset({"o:export", "u:export"})), id="bare-feature"),
        pytest.param("claims: {a.b: 1, c: true}", Requirement(claims=(("a.b", 1), ("c", True))), id="claims"),
        pytest.param("max_age_min: 10", Requirement(max_age_first_min=10), id="age"),
        pytest.param(
            "max_age_min: {first: 60, second: 10}", Requirement(max_age_first_min=60, max_age_second_min=10), id="ages"
        ),
    ],
)
def test_require_becomes_what_the_policy_compares(text, require):
    assert route(f"path: /*, require: {{{text}}}").require == require


def test_impersonation_may_be_refused():
    assert not route("path: /*, allow_impersonation: false").require.allow_impersonation


@pytest.mark.parametrize(
    ("text", "sent", "arrives", "stripped"),
    [
        pytest.param("path: /api/*, strip_prefix: /api", b"/api/x?y", b"/x?y", b"/api", id="strip"),
        pytest.param("path: /api/*, strip_prefix: /api/", b"/api", b"/", b"/api", id="strip-to-nothing"),
        pytest.param("path: /a/b/*, strip_prefix: /a", b"/a/b/c", b"/b/c", b"/a", id="strip-a-part"),
        pytest.param("path: /*, add_prefix: /v1/", b"/x", b"/v1/x", b"", id="add"),
        pytest.param("path: /a/*, strip_prefix: /a, add_prefix: /b", b"/a/x", b"/b/x", b"/a", id="both"),
        pytest.param("path: /*, strip_prefix: /", b"/x", b"/x", b"", id="strip-nothing"),
        pytest.param("path: /a, strip_prefix: /a", b"/a", b"/", b"/a", id="strip-exact"),
    ],
)
def test_prefixes_change_what_arrives(text, sent, arrives, stripped):
    made = route(text)
    assert made.pattern.matches(canonical_path(sent.decode().partition("?")[0]).text)
    assert rewrite_target(sent, made) == arrives
    assert made.stripped == stripped


def test_the_upstreams_own_path_comes_first():
    made = route("path: /*, add_prefix: /v1", upstreams="{api: {url: http://127.0.0.1:3000/base/}}")
    assert rewrite_target(b"/x", made) == b"/base/v1/x"


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        pytest.param("path: /*, name: 'a b'", "routes[0].name", "must be 1 to 64", id="name"),
        pytest.param("name: a", "routes[0].path", "is missing", id="no-path"),
        pytest.param("path: a", "routes[0].path", "is /exact or a prefix", id="no-slash"),
        pytest.param("path: /a*", "routes[0].path", "is /exact or a prefix", id="star-inside"),
        pytest.param("path: /a/../b", "routes[0].path", "can never match", id="dots"),
        pytest.param("path: /a//b", "routes[0].path", "can never match without allow_encoded", id="two-slashes"),
        pytest.param("path: /*, host: 'a.example:80'", "routes[0].host", "without scheme, port", id="host-port"),
        pytest.param("path: /*, host: 'https://a.example'", "routes[0].host", "without scheme, port", id="host-scheme"),
        pytest.param("path: /*, host: 'a.*.example'", "routes[0].host", "neither a host name", id="host-star"),
        pytest.param("path: /*, host: '*'", "routes[0].host", "neither a host name", id="host-any"),
        pytest.param("path: /*, host: '[::1]:80'", "routes[0].host", "without scheme, port", id="host-address-port"),
        pytest.param("path: /*, methods: [get]", "routes[0].methods", "is not a method", id="lower-case"),
        pytest.param("path: /*, methods: [TRACE]", "routes[0].methods", "never served", id="trace"),
        pytest.param("path: /*, auth: none", "routes[0].auth", "must be 'required'", id="auth"),
        pytest.param("path: /*, token: cookie", "routes[0].token", "must be 'session'", id="token"),
        pytest.param("path: /*, token: template", "routes[0].token", "needs an audience", id="template"),
        pytest.param(
            "path: /*, token: [session, template]", "routes[0].token", "needs an audience", id="also-template"
        ),
        pytest.param(
            "path: /*, auth: public, require: {org: true}", "routes[0].require", "nobody is identified", id="public"
        ),
        pytest.param("path: /*, require: {plan: x:pro}", "routes[0].require.plan", "expected a name", id="plan"),
        pytest.param(
            "path: /*, require: {feature: 'o:'}", "routes[0].require.feature", "expected a name", id="feature"
        ),
        pytest.param("path: /*, require: {max_age_min: 0}", "routes[0].require.max_age_min", "greater than", id="age"),
        pytest.param("path: /a/*, strip_prefix: /b", "routes[0].strip_prefix", "does not lead", id="strip-other"),
        pytest.param(
            "path: /ab/*, strip_prefix: /a", "routes[0].strip_prefix", "does not lead", id="strip-part-of-segment"
        ),
        pytest.param("path: /*, strip_prefix: /a", "routes[0].strip_prefix", "does not lead", id="strip-beyond"),
        pytest.param("path: /*, add_prefix: v1", "routes[0].add_prefix", "is /exact or", id="add-no-slash"),
        pytest.param("path: /*, add_prefix: '/v1?x'", "routes[0].add_prefix", "is /exact or", id="add-query"),
        pytest.param("path: /*, allow_encoded: ['%5c']", "routes[0].allow_encoded", "must be '%2f'", id="backslash"),
        pytest.param("path: /*, stream_max_age_s: -1", "routes[0].stream_max_age_s", "0", id="negative-age"),
        pytest.param("path: /*, stream_max_age_s: 1h", "routes[0].stream_max_age_s", "number", id="age-with-a-unit"),
        pytest.param(
            "path: /*, stream_max_age_s: true", "routes[0].stream_max_age_s", "number", id="age-that-is-a-flag"
        ),
        pytest.param("path: /*, timeouts: {idle_s: 0}", "routes[0].timeouts.idle_s", "greater than 0", id="timeout"),
        pytest.param("path: /*, max_body_bytes: -1", "routes[0].max_body_bytes", "greater than", id="body"),
    ],
)
def test_a_wrong_route_is_refused(text, key, fragment):
    finding = only(written(routes=f"[{{{text}, upstream: api}}]"))
    assert finding.key.startswith(key)
    assert finding.level == "error"
    assert fragment in finding.message


def test_what_means_nothing_on_a_public_route_is_noticed():
    text = "path: /*, auth: public, token: session, audience: [a], allow_pending: true, allow_impersonation: false"
    found = findings(written(routes=f"[{{{text}, upstream: api}}]"))
    assert {finding.level for finding in found} == {"warning"}
    assert [finding.key.partition(".")[2] for finding in found] == [
        "token", "audience", "allow_pending", "allow_impersonation",
    ]  # fmt: skip


def test_an_odd_path_may_be_allowed():
    assert route("path: /a//b, allow_encoded: ['//']").pattern.text == "/a//b"


def test_a_host_pattern_is_kept():
    assert route("path: /*, host: '*.Example.com'").host == "*.example.com"
    assert route("path: /*, host: '[::1]'").host == "::1"


@pytest.mark.parametrize(
    ("text", "key", "message", "remedy"),
    [
        pytest.param("", "routes[0].upstream", "is missing", "Write upstream: and one of: api", id="missing"),
        pytest.param(
            ", upstream: apo", "routes[0].upstream", 'there is no upstream "apo"', 'Did you mean "api"?', id="typo"
        ),
        pytest.param(
            ", upstream: x", "routes[0].upstream", 'there is no upstream "x"', "Upstreams are: api", id="unknown"
        ),
    ],
)
def test_a_route_to_nowhere_is_refused(text, key, message, remedy):
    finding = next(found for found in findings(written(routes=f"[{{path: /*{text}}}]")) if found.level == "error")
    assert (finding.key, finding.message, finding.remedy) == (key, message, remedy)


def test_a_route_without_any_upstream_to_go_to_says_so():
    finding = next(found for found in findings(written(upstreams="{}")) if "there is no" in found.message)
    assert finding.remedy == "Upstreams are: none is defined"


def test_two_routes_of_one_name_are_refused():
    text = "[{name: a, path: /a, upstream: api}, {name: a, path: /b, upstream: api}]"
    finding = only(written(routes=text))
    assert (finding.key, finding.message) == ("routes[1].name", '"a" is already the name of routes[0]')


def test_no_routes_are_refused():
    text = "clerk: {issuer: a.example, authorized_parties: [https://a.example]}\n"
    assert [finding.key for finding in findings(text)] == ["routes"]


def test_names_that_are_left_out_count_the_routes():
    assert [made.name for made in routes("path: /a", "path: /b, name: b", "path: /c")] == ["route-1", "b", "route-3"]
