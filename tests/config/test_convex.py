import pytest

from gateway.config.convex import DEFAULTS
from tests.config.files import APP, KEY, findings, loaded, only, written

CLOUD = "https://happy-otter-1.convex.cloud"
CORS = f"{{origins: [{APP}], headers: [Authorization, Content-Type, Convex-Client]}}"


def text(upstream=f"url: {CLOUD}", route="", **sections):
    return written(
        upstreams=f"{{api: {{{upstream}}}}}", routes=f"[{{name: rest, path: /*, upstream: api{route}}}]", **sections
    )


def route(*args, **sections):
    return loaded(text(*args, **sections)).routes[0]


@pytest.mark.parametrize("upstream", [
    f"url: {CLOUD}", "url: https://happy-otter-1.convex.site", "url: https://HAPPY-otter-1.Convex.Cloud:8443/x",
    "url: http://a.b.convex.site", "targets: [{url: https://happy-otter-1.convex.cloud}]",
    "kind: convex, url: http://127.0.0.1:3210", "kind: convex, targets: [{url: http://127.0.0.1:3210}]",
])  # fmt: skip
def test_an_upstream_is_convex_by_its_kind_or_host(upstream):
    made = route(upstream).upstream
    assert (made.convex, made.preserve_host, made.identity, made.allow_convex_admin) == (True, False, False, False)


@pytest.mark.parametrize("host", [
    "convex.cloud.example.com", "notconvex.cloud", "example.com/x.convex.cloud", "convex.cloud", "x.convex.dev",
])  # fmt: skip
def test_a_host_that_only_resembles_convex_is_an_upstream(host):
    made = route(f"url: https://{host}").upstream
    assert (made.convex, made.preserve_host, made.identity) == (False, True, True)


def test_convex_may_come_from_the_environment():
    config = loaded(text("url: '${UP}'"), {"UP": CLOUD})
    assert config.routes[0].upstream.convex
    assert config.warnings == ()


def test_its_routes_ask_for_less_where_the_file_does_not_say():
    made = route()
    assert (made.auth, made.admission.token_types, made.admission.audience) == (
        "optional", {"session", "template"}, {"convex"},
    )  # fmt: skip
    assert (DEFAULTS["auth"], route("url: http://h").auth) == ("optional", "required")


@pytest.mark.parametrize(("said", "auth", "kinds", "audience"), [
    (", auth: public", "public", {"session", "template"}, {"convex"}),
    (", auth: required, methods: [POST]", "required", {"session", "template"}, {"convex"}),
    (", token: session", "optional", {"session"}, {"convex"}),
    (", audience: [other]", "optional", {"session", "template"}, {"other"}),
    (", token: session, audience: []", "optional", {"session"}, set()),
    (", auth: null", "optional", {"session", "template"}, {"convex"}),
])  # fmt: skip
def test_what_the_file_says_stands(said, auth, kinds, audience):
    made = route(route=said)
    assert findings(text(route=said)) == ()
    assert (made.auth, made.admission.token_types, made.admission.audience) == (auth, kinds, audience)


TEMPLATE = "token: template needs an audience: a template's token is meant for somebody in particular"


@pytest.mark.parametrize(("upstream", "said", "sections", "level", "key", "fragment"), [
    pytest.param(f"url: {CLOUD}", ", audience: []", {}, "error", "routes[0].audience", TEMPLATE, id="no-audience"),
    pytest.param(
        f"url: {CLOUD}", ", token: template, audience: []", {}, "error", "routes[0].token", TEMPLATE, id="template"
    ),
    pytest.param(f"url: {CLOUD}, kind: http", "", {}, "error", "upstreams.api.kind", "this is Convex", id="kind"),
    pytest.param(
        f"targets: [{{url: {CLOUD}}}], kind: http", "", {}, "error", "upstreams.api.kind", "is Convex", id="target-kind"
    ),
    pytest.param(
        f"url: {CLOUD}, host_header: preserve", "", {}, "warning", "upstreams.api.host_header", "means nothing", id="host"
    ),
    pytest.param(f"url: {CLOUD}, identity: true", "", {}, "warning", "upstreams.api.identity", "means nothing", id="identity"),
    pytest.param(
        f"url: {CLOUD}, allow_convex_admin: true", "", {}, "insecure", "upstreams.api.allow_convex_admin", "admin key",
        id="admin",
    ),
    pytest.param(
        "url: http://127.0.0.1:1, allow_convex_admin: true", "", {}, "warning", "upstreams.api.allow_convex_admin",
        "not kind: convex", id="admin-of-nothing",
    ),
    pytest.param(f"url: {CLOUD}", ", auth: required", {}, "warning", "routes[0].auth", "open WebSocket", id="required"),
    pytest.param(
        f"url: {CLOUD}", ", require: {org: true}", {}, "warning", "routes[0].require", "open WebSocket", id="require"
    ),
    pytest.param(
        f"url: {CLOUD}", "", {"cors": f"{{origins: [{APP}]}}"}, "warning", "routes[0].cors", "Convex-Client", id="cors"
    ),
    pytest.param(
        f"url: {CLOUD}", "",
        {"clerk": f"{{publishable_key: {KEY}, authorized_parties: [{APP}], audience: [other]}}"},
        "warning", "routes[0].audience", "clerk.audience lacks convex", id="clerks-audience",
    ),
])  # fmt: skip
def test_what_makes_no_sense_is_told(upstream, said, sections, level, key, fragment):
    finding = only(text(upstream, said, **sections))
    assert (finding.level, finding.key) == (level, key)
    assert fragment in finding.message
    assert finding.remedy or level == "warning"


@pytest.mark.parametrize(("upstream", "said", "sections"), [
    (f"url: {CLOUD}, host_header: upstream, identity: false, kind: convex", "", {}),
    (f"url: {CLOUD}", ", auth: required, methods: [POST]", {}),
    (f"url: {CLOUD}", "", {"cors": CORS}),
    (f"url: {CLOUD}", "", {"cors": f"{{origins: [{APP}], headers: ['*']}}"}),
    (f"url: {CLOUD}", "", {"cors": f"{{origins: [{APP}], headers: [authorization, convex-client]}}"}),
    (f"url: {CLOUD}", ", methods: [GET]", {"cors": f"{{origins: [{APP}]}}"}),
    (f"url: {CLOUD}", "", {"clerk": f"{{publishable_key: {KEY}, authorized_parties: [{APP}], audience: [convex, x]}}"}),
    ("url: http://127.0.0.1:1", ", auth: required", {"cors": f"{{origins: [{APP}]}}"}),
])  # fmt: skip
def test_what_makes_sense_is_silent(upstream, said, sections):
    assert findings(text(upstream, said, **sections)) == ()


def test_admin_keys_pass_only_where_the_file_says_so():
    assert route(f"url: {CLOUD}, allow_convex_admin: true").upstream.allow_convex_admin
    assert not route("url: http://127.0.0.1:1, allow_convex_admin: true").upstream.allow_convex_admin


def test_a_broken_address_is_told_once():
    finding = only(text("kind: convex, url: nonsense"))
    assert finding.key == "upstreams.api.url"
