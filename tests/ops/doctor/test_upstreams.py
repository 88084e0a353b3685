import pytest

from gateway.ops.doctor.asking import Unreached
from gateway.ops.doctor.upstreams import Question, endpoint, questions
from tests.ops.doctor.world import answer, configured, levels, said

API = "{api: {url: http://api.internal:3000}}"
TLS = "{api: {url: https://api.internal}}"
HEALTHY = "{api: {url: http://api.internal:3000, health: {path: /up}}}"
CLOUD = "{convex: {url: 'https://happy-otter-123.convex.cloud'}}"
SELF = "{convex: {url: 'http://convex.internal:3210', kind: convex}}"
TO_CONVEX = "[{path: /*, upstream: convex}]"
PUBLIC = "https://api.example.com"


def asked(*answers, upstreams=API, **sections):
    found = questions(configured(upstreams=upstreams, **sections))
    assert len(found) == len(answers), found
    return list(zip(found, answers, strict=True))


def judged(*answers, **sections):
    return endpoint(asked(*answers, **sections))


def shown(question: Question):
    return question.url, question.host, dict(question.fields)


def test_an_upstream_is_asked_as_the_gateway_would():
    (alone,) = questions(configured(upstreams=API))
    assert shown(alone)[:2] == ("http://api.internal:3000/", "api.internal:3000")
    by_client, by_own, version = questions(configured(upstreams=API, public_url=PUBLIC))
    assert shown(by_client) == ("http://api.internal:3000/", "api.example.com",
        {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example.com"})  # fmt: skip
    assert shown(by_own)[1] == "api.internal:3000"
    assert shown(version) == ("http://api.internal:3000/version", "api.internal:3000", {})


def test_a_routes_host_is_the_clients():
    routes = "[{path: /*, upstream: api, host: a.example.com}]"
    assert questions(configured(upstreams=API, routes=routes))[0].host == "a.example.com"


def test_an_upstream_that_wants_its_own_host_is_asked_by_that():
    own = "{api: {url: 'http://api.internal:3000/v2', host_header: upstream}}"
    (question,) = questions(configured(upstreams=own, public_url=PUBLIC))
    assert shown(question)[:2] == ("http://api.internal:3000/v2/", "api.internal:3000")


def test_convex_is_told_of_no_client():
    (cloud,) = questions(configured(upstreams=CLOUD, routes=TO_CONVEX, public_url=PUBLIC))
    assert shown(cloud) == ("https://happy-otter-123.convex.cloud:443/version", "happy-otter-123.convex.cloud", {})
    (own,) = questions(configured(upstreams=SELF, routes=TO_CONVEX, public_url=PUBLIC))
    assert shown(own) == ("http://convex.internal:3210/", "convex.internal:3210", {})


def test_clerks_frontend_api_is_asked_where_it_is_proxied():
    clerk = "{issuer: clerk.example.com, secret_key: sk_live_abcdefgh, proxy_path: /__clerk}"
    *_, frontend = questions(configured(upstreams=API, clerk=clerk, public_url=PUBLIC))
    assert shown(frontend)[:2] == ("https://frontend-api.clerk.dev:443/", "frontend-api.clerk.dev")
    assert "sk_live" not in str(frontend.fields)


def test_each_endpoint_in_use_is_asked_and_no_other():
    upstreams = "{api: {targets: [{url: http://10.0.0.1:1}, {url: http://10.0.0.2:1}]}, old: {url: http://10.0.0.3:1}}"
    assert [question.endpoint.host for question in questions(configured(upstreams=upstreams))] == [
        "10.0.0.1",
        "10.0.0.2",
    ]
    told = "{api: {url: http://10.0.0.1:1}, mail: {url: http://10.0.0.3:1, webhooks: {events: '*', secret: whsec_c2VjcmV0c2VjcmV0c2VjcmV0}}}"
    assert [question.endpoint.host for question in questions(configured(upstreams=told))] == ["10.0.0.1", "10.0.0.3"]


@pytest.mark.parametrize(
    ("answers", "sections", "level", "words"),
    [
        pytest.param([answer(200)], {}, "ok", ["answers"], id="good"),
        pytest.param([answer(404, b"no such page")], {}, "ok", [], id="nothing-at-the-root"),
        pytest.param([answer(401)], {}, "ok", [], id="asks-for-a-sign-in"),
        pytest.param([answer(302, location="/login")], {}, "ok", [], id="leads-on"),
        pytest.param([answer(302, location="https://login.example.com/")], {}, "ok", [], id="leads-elsewhere"),
        pytest.param([answer(302, location="https://[nowhere")], {}, "ok", [], id="leads-nowhere"),
        pytest.param([answer(500)], {}, "warning", ["answers 500"], id="fails"),
        pytest.param([Unreached("dns")], {}, "error", ["cannot be resolved", "502", "service's name"], id="dns"),
        pytest.param([Unreached("refused")], {}, "error", ["is refused", "host.docker.internal"], id="refused"),
        pytest.param([Unreached("timeout")], {}, "error", ["no answer in time", "firewalls"], id="timeout"),
        pytest.param([Unreached("not-http")], {}, "error", ["does not speak HTTP/1.1"], id="not-http"),
        pytest.param([Unreached("link-local")], {}, "error", ["link-local"], id="link-local"),
        pytest.param([Unreached("failed", "No route to host")], {}, "error", ["No route to host"], id="failed"),
        pytest.param([Unreached("tls", "Hostname mismatch, certificate is not valid for 'api.internal'.")], {"upstreams": TLS}, "error", ["must name api.internal", "tls.server_name", "tls.ca"], id="tls-name"),
        pytest.param([Unreached("tls", "WRONG_VERSION_NUMBER")], {"upstreams": TLS}, "error", ["speaks no TLS", "url: http://api.internal:443"], id="plain-http"),
        pytest.param([Unreached("tls", "TLSV13_ALERT_CERTIFICATE_REQUIRED")], {"upstreams": TLS}, "error", ["tls.client_cert"], id="wants-a-certificate"),
        pytest.param([answer(400, b"Client sent: The plain HTTP request was sent to HTTPS port")], {}, "error", ["wants TLS", "url: https://api.internal:3000"], id="wants-tls"),
        pytest.param([answer(301, location="https://api.internal/")], {}, "error", ["wants to be asked over https", "url: https://api.internal"], id="redirects-to-https"),
        pytest.param([answer(421)], {"upstreams": TLS}, "error", ["421", "host_header: upstream"], id="misdirected"),
        pytest.param([answer(204), answer(200)], {"upstreams": HEALTHY}, "ok", ["/up answers 204"], id="healthy"),
        pytest.param([answer(503), answer(200)], {"upstreams": HEALTHY}, "error", ["health check is answered 503", "503 no_healthy_endpoint"], id="unhealthy"),
        pytest.param([answer(404), answer(200)], {"upstreams": HEALTHY}, "error", ["health.path"], id="wrong-health-path"),
        pytest.param([answer(302, location="/login"), answer(200)], {"upstreams": HEALTHY}, "ok", [], id="health-redirects"),
        pytest.param([answer(200, b"1.2.3")], {"upstreams": CLOUD, "routes": TO_CONVEX}, "ok", [], id="convex"),
        pytest.param([answer(404)], {"upstreams": CLOUD, "routes": TO_CONVEX}, "error", ["empty 404", '"happy-otter-123.convex.cloud"', "deployment's name"], id="no-such-deployment"),
        pytest.param([answer(404)], {"upstreams": SELF, "routes": TO_CONVEX}, "error", ["empty 404"], id="convex-behind-a-name"),
    ],
)  # fmt: skip
def test_what_an_endpoint_answers_is_judged(answers, sections, level, words):
    found = judged(*answers, **sections)
    assert levels(found) == [level]
    for word in words:
        assert word in said(found)


def test_one_that_cannot_be_reached_is_said_once():
    assert levels(judged(*[Unreached("refused")] * 3, public_url=PUBLIC)) == ["error"]


def test_one_that_does_not_believe_the_scheme_goes_in_circles():
    circle = answer(301, location="https://api.example.com/")
    found = judged(circle, circle, answer(404, b"x"), public_url=PUBLIC)
    assert "clients go in circles" in said(found)
    assert "SECURE_PROXY_SSL_HEADER" in said(found)
    assert set(levels(found)) == {"error"}


@pytest.mark.parametrize("status", [400, 403, 404, 421])
def test_one_that_knows_its_own_name_alone_is_found(status):
    (found,) = judged(answer(status, b"bad host"), answer(200, b"hello"), answer(404, b"x"), public_url=PUBLIC)
    assert f'answers {status} to the client\'s Host, "api.example.com", and 200 to its own' in found.found
    assert "host_header: upstream" in found.remedy
    alike = judged(answer(status, b"x"), answer(status, b"x"), answer(404, b"x"), public_url=PUBLIC)
    assert "to its own" not in said(alike)


def test_convex_behind_the_clients_host_is_found():
    (found,) = judged(
        answer(404), answer(200, b"This Convex deployment is running."), answer(200, b"1.2.3"), public_url=PUBLIC
    )
    assert 'is Convex, which knows no "api.example.com", the client\'s Host: empty 404s' in found.found
    assert found.remedy == "Write upstreams.api.kind: convex"
    # Whoever answers anything to /version is not Convex yet.
    (other,) = judged(answer(404), answer(200, b"x"), answer(200, b"<html>page</html>"), public_url=PUBLIC)
    assert "host_header: upstream" in other.remedy


def test_where_both_names_are_alike_nothing_is_said_of_hosts():
    assert levels(judged(answer(404, b"x"), answer(404, b"x"), answer(404, b"x"), public_url=PUBLIC)) == ["ok"]
