import pytest

from gateway.ops.doctor.asking import Unreached
from gateway.ops.doctor.evidence import read_evidence
from gateway.ops.doctor.surroundings import (
    admin_url,
    gateway_here,
    is_running,
    local_url,
    proxies,
    public,
    running_routes,
    signer,
    webhook_address,
)
from tests.ops.doctor.world import answer, configured, levels, said

URL = "https://api.example.com"
OK, DEGRADED = answer(200, {"status": "ok"}), answer(200, {"status": "degraded"})
HTML = answer(200, b"<!doctype html><title>x</title>", content_type="text/html")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("{port: 8080}", "http://127.0.0.1:8080"),
        ("{host: '::', port: 8080}", "http://[::1]:8080"),
        ("{host: 10.0.0.5, port: 80}", "http://10.0.0.5:80"),
        ("{port: 0}", None),
    ],
)
def test_the_gateway_is_looked_for_where_it_would_listen(listen, url):
    assert local_url(configured(listen=listen)) == url


@pytest.mark.parametrize(
    ("admin", "url"),
    [
        ("{token: correct-horse-battery}", "http://127.0.0.1:9901"),
        ("{}", None),
        ("{port: null}", None),
        ("{port: 0, token: correct-horse-battery}", None),
        ("{host: '::1', token: correct-horse-battery}", "http://[::1]:9901"),
    ],
)
def test_the_admin_listener_is_asked_where_somebody_answers(admin, url):
    assert admin_url(configured(admin=admin)) == url


@pytest.mark.parametrize(
    ("ready", "level", "words"),
    [
        pytest.param(OK, "ok", "runs on 0.0.0.0:8080", id="runs"),
        pytest.param(DEGRADED, "warning", "degraded", id="degraded"),
        pytest.param(answer(503, {"code": "keys_unavailable"}), "error", "has had no keys", id="without-keys"),
        pytest.param(answer(503, {"code": "draining"}), "warning", "is stopping", id="stopping"),
        pytest.param(answer(404, b"x"), "error", "is something else", id="another-server"),
        pytest.param(HTML, "error", "GATEWAY_PORT", id="a-web-page"),
        pytest.param(answer(200, []), "error", "is something else", id="a-list"),
        pytest.param(Unreached("not-http"), "error", "is something else", id="not-http"),
        pytest.param(Unreached("refused"), "skipped", "does not run", id="not-running"),
        pytest.param(None, "skipped", "is not looked for", id="not-asked"),
    ],
)
def test_what_listens_at_the_gateways_port_is_judged(ready, level, words):
    found = gateway_here(configured(), ready)
    assert found.level == level
    assert words in said(found)


def test_a_gateway_is_known_by_its_answer():
    assert is_running(OK)
    assert is_running(answer(503, {"code": "keys_unavailable"}))
    for other in (None, Unreached("refused"), HTML, answer(404, {"code": "no_route"}), answer(200, {"status": "up"})):
        assert not is_running(other)


@pytest.mark.parametrize(
    ("asked", "runs", "level", "words"),
    [
        pytest.param(OK, True, "ok", "leads to a gateway", id="good"),
        pytest.param(answer(301, location="https://www.example.com/healthz?a"), True, "error", 'answers 301 to "https://www.example.com/healthz"', id="redirects"),
        pytest.param(HTML, True, "error", "answered with a web page", id="another-site"),
        pytest.param(answer(404, b"x"), True, "error", "answered with 404", id="not-passed-on"),
        pytest.param(answer(502), True, "error", "answered with 502", id="bad-gateway"),
        pytest.param(answer(502), False, "warning", "no gateway runs here", id="not-started"),
        pytest.param(Unreached("dns"), True, "error", "Make its DNS record", id="dns"),
        pytest.param(Unreached("tls", "certificate has expired"), True, "error", "certificate has expired", id="tls"),
        pytest.param(Unreached("refused"), False, "warning", "Start the gateway", id="refused"),
        pytest.param(Unreached("timeout"), True, "warning", "may be shut", id="timeout"),
    ],
)  # fmt: skip
def test_public_url_must_lead_to_the_gateway(asked, runs, level, words):
    found = public(configured(public_url=URL), asked, runs_here=runs)
    assert levels(found) == [level]
    assert words in said(found)


def test_without_public_url_nothing_is_said_of_it():
    assert public(configured(), OK, runs_here=True) == []
    assert public(configured(public_url=URL), None, runs_here=True) == []


@pytest.mark.parametrize(
    ("sections", "headers", "asked", "level", "words"),
    [
        pytest.param({}, (), None, [], "", id="nothing-known"),
        pytest.param({"public_url": URL}, (), OK, ["warning"], "public_url is https", id="tls-ends-elsewhere"),
        pytest.param({"public_url": "http://api.example.com"}, (), answer(200, {"status": "ok"}, via="1.1 caddy"), ["warning"], "answers with via", id="via"),
        pytest.param({"public_url": "http://api.example.com"}, (), OK, [], "", id="plain"),
        pytest.param({}, ("X-Forwarded-For: 1.2.3.4",), None, ["warning"], "the request had x-forwarded-for", id="by-evidence"),
        pytest.param({"public_url": URL, "trusted_proxies": "[10.0.0.0/8]"}, (), OK, ["ok"], "10.0.0.0/8 may say", id="named"),
    ],
)  # fmt: skip
def test_a_proxy_that_nobody_named_is_found(sections, headers, asked, level, words):
    found = proxies(configured(**sections), read_evidence(headers=headers), asked)
    assert levels(found) == level
    assert words in said(found)


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [
        pytest.param(answer(400, {"reason": "event"}), ["ok"], "takes what the configured secret has signed", id="good"),
        pytest.param(answer(400, {"reason": "signature"}), ["error"], "has another one (400 signature)", id="another-secret"),
        pytest.param(answer(400, {"reason": "timestamp"}), ["error"], "five minutes apart", id="clock"),
        pytest.param(answer(503, {"code": "webhooks_not_configured"}), ["error"], "has no signing secret", id="no-secret"),
        pytest.param(answer(301, location="/x"), ["error"], "Clerk follows no redirect", id="redirects"),
        pytest.param(HTML, ["warning"], "does not lead to the gateway's webhook address", id="another-site"),
        pytest.param(answer(401, {"code": "missing_credential"}), ["warning"], "without asking for a sign-in", id="guarded"),
        pytest.param(Unreached("refused"), [], "", id="unreached"),
        pytest.param(None, [], "", id="not-asked"),
    ],
)  # fmt: skip
def test_what_the_webhook_address_answers_is_judged(asked, level, words):
    found = webhook_address("webhooks", f"{URL}/webhooks/clerk", asked)
    assert levels(found) == level
    assert words in said(found)


@pytest.mark.parametrize(
    ("asked", "level"),
    [
        pytest.param(answer(200, {"keys": [{}]}), ["ok"], id="good"),
        pytest.param(answer(200, {"keys": []}), ["error"], id="none"),
        pytest.param(answer(404, {"code": "no_route"}), ["error"], id="not-signing"),
        pytest.param(HTML, ["error"], id="html"),
        pytest.param(Unreached("refused"), [], id="unreached"),
    ],
)
def test_the_assertions_keys_must_be_where_upstreams_look(asked, level):
    found = signer(f"{URL}/.well-known/gateway/jwks.json", asked)
    assert levels(found) == level
    assert not level or URL in said(found)


def running(*names, **more):
    ends = [{"address": "127.0.0.1:3000", "up": True}]
    return answer(200, {"data": [{"name": name, "upstream": "api", "endpoints": ends} | more for name in names]})


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [
        pytest.param(running("rest"), ["ok"], "has these routes", id="same"),
        pytest.param(running("rest", "more"), ["warning"], "gateway reload", id="other-routes"),
        pytest.param(running("rest", path="/*", unknown=1), ["ok"], "has these routes", id="same-in-more-words"),
        pytest.param(running("rest", require={"role": ["org:admin"]}), ["warning"], "gateway reload", id="other-rule"),
        pytest.param(running("rest", endpoints=[{"address": "a:1", "up": False}]), ["warning"], "a:1 is left alone", id="down"),
        pytest.param(answer(401, {}), ["warning"], "another admin.token", id="another-token"),
        pytest.param(answer(200, {"data": "x"}), [], "", id="nonsense"),
        pytest.param(answer(500), [], "", id="fails"),
        pytest.param(Unreached("refused"), [], "", id="not-running"),
    ],
)  # fmt: skip
def test_what_the_running_gateway_says_of_itself_is_judged(asked, level, words):
    found = running_routes(configured(), asked)
    assert levels(found) == level
    assert words in said(found)
