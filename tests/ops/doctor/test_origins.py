import pytest

from gateway.ops.doctor.evidence import read_evidence
from gateway.ops.doctor.instances import instances_of
from gateway.ops.doctor.origins import agreement, called, origin
from tests.config.files import APP
from tests.ops.doctor.world import KEYED, configured, levels, said

CORS = "{origins: [https://app.example.com, 'https://*.preview.example.com']}"
ROUTES = "[{name: open, path: /open/*, upstream: api, auth: public}, {name: own, path: /own, upstream: api, cors: null}, {name: rest, path: /api/*, upstream: api}]"
UNLIMITED = "{issuer: clerk.example.com}"


def judged(text, *, clerk=KEYED, cors=CORS, url=None, routes=ROUTES):
    config = configured(clerk=clerk, cors=cors, routes=routes)
    _, those = called(config, read_evidence(url=url))
    return origin(text, config, instances_of(config), those)


def test_a_listed_origin_may_call_and_its_tokens_count():
    found = judged(APP, url="/api/x")
    assert levels(found) == ["ok", "ok"]
    assert "on route rest" in said(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("https://evil.example", ["https://evil.example is not listed on route rest", "cors.origins (GATEWAY_CORS_ORIGINS)"], id="another"),
        pytest.param("http://app.example.com", [f'"{APP}" is, and the texts must be equal'], id="scheme"),
        pytest.param("https://app.example.com:3000", [f'"{APP}" is'], id="port"),
        pytest.param("https://a.b.preview.example.com", ["is not listed"], id="two-labels"),
    ],
)  # fmt: skip
def test_an_origin_that_is_not_listed_is_an_error(text, words):
    found = judged(text, url="/api/x", clerk=UNLIMITED)
    assert levels(found) == ["error"]
    for word in words:
        assert word in said(found)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "*",
        "https://*.preview.example.com",
        "app.example.com",
        "https://app.example.com/",
        "HTTPS://APP.example.com",
    ],
)
def test_what_no_browser_sends_is_an_error_of_its_own(text):
    found = judged(text)
    assert levels(found) == ["error"]
    assert found[0].remedy


def test_tokens_of_a_page_that_may_call_may_still_be_refused():
    found = judged("https://x.preview.example.com", url="/api/x")
    assert levels(found) == ["ok", "error"]
    assert "Add https://x.preview.example.com under clerk.authorized_parties" in said(found)


def test_every_route_is_looked_at_without_a_url():
    found = judged(APP, clerk=UNLIMITED)
    assert levels(found) == ["ok", "warning"]
    assert "CORS is off on route own" in said(found)
    assert "on route open, rest" in said(found)


def test_at_the_gateways_own_addresses_the_general_cors_counts():
    assert levels(judged(APP, url="/healthz", clerk=UNLIMITED)) == ["ok"]


@pytest.mark.parametrize(
    ("url", "level", "words"),
    [
        pytest.param("https://api.example.com/api/x?a=b", "ok", "/api/x is route rest, auth: required, upstream api", id="route"),
        pytest.param("/nowhere", "error", "no route takes GET /nowhere (404 no_route); there are open /open/*, own /own", id="none"),
        pytest.param("/own/", "error", "no route takes GET /own/", id="slash"),
        pytest.param("/api/../x", "error", "can be read in two ways", id="ambiguous"),
        pytest.param("/webhooks/clerk", "ok", "own addresses", id="own"),
        pytest.param("https://api.example.com", "error", "no route takes GET /", id="root"),
    ],
)  # fmt: skip
def test_a_url_is_led_to_its_route(url, level, words):
    found, _ = called(configured(routes=ROUTES), read_evidence(url=url))
    assert levels(found) == [level]
    assert words in said(found)


def test_below_proxy_path_there_is_clerk():
    clerk = "{issuer: clerk.example.com, secret_key: sk_live_abcdefgh, proxy_path: /__clerk}"
    found, those = called(
        configured(clerk=clerk, public_url="https://api.example.com"), read_evidence(url="/__clerk/v1/x")
    )
    assert "Clerk's Frontend API" in said(found)
    assert those == ()


def test_a_host_decides_too():
    routes = "[{name: a, path: /*, upstream: api, host: a.example.com}]"
    config = configured(routes=routes)
    assert levels(called(config, read_evidence(url="https://a.example.com/"))[0]) == ["ok"]
    assert levels(called(config, read_evidence(url="https://b.example.com/"))[0]) == ["error"]
    assert levels(called(config, read_evidence(url="/", headers=("Host: a.example.com:80",)))[0]) == ["ok"]


@pytest.mark.parametrize("query", ["token=x", "a=b&access_token=x", "__session=x"])
def test_a_token_in_the_query_is_told_without_it(query):
    found, _ = called(configured(), read_evidence(url=f"/x?{query}secret"))
    assert levels(found) == ["error", "ok"]
    assert "secret" not in said(found)


def test_without_a_url_all_routes_are_meant():
    config = configured(routes=ROUTES)
    assert called(config, read_evidence()) == ([], config.routes)


@pytest.mark.parametrize(
    ("clerk", "cors", "level"),
    [
        pytest.param(KEYED, "{origins: [https://app.example.com, https://b.example.com]}", ["warning"], id="not-a-party"),
        pytest.param(KEYED, "{origins: [https://app.example.com, 'https://*.b.example.com']}", [], id="patterns-cannot-be-compared"),
        pytest.param(UNLIMITED, "{origins: [https://b.example.com]}", [], id="parties-not-checked"),
        pytest.param(KEYED, "null", [], id="no-cors"),
    ],
)  # fmt: skip
def test_origins_that_may_call_in_vain_are_found_without_evidence(clerk, cors, level):
    config = configured(clerk=clerk, cors=cors)
    found = agreement(config, instances_of(config))
    assert levels(found) == level
    assert not level or "https://b.example.com may call" in said(found)


def test_of_several_instances_any_ones_party_is_good():
    several = f"[{{name: a, issuer: clerk.example.com, authorized_parties: [{APP}]}}, {{name: b, issuer: clerk.other.example, authorized_parties: [https://b.example.com]}}]"
    config = configured(clerk="{}", issuers=several, cors="{origins: [https://b.example.com]}")
    assert agreement(config, instances_of(config)) == []
    assert levels(origin("https://b.example.com", config, instances_of(config), config.routes)) == ["ok", "ok"]
