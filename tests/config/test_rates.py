import json
import re
from pathlib import Path

import pytest

from gateway.core.limits import Rate, RatePolicy
from tests.config.files import findings, loaded, only, shown, written

SCHEMA = json.loads((Path(__file__).parents[2] / "config" / "schema.json").read_text())


def route(rest: str) -> str:
    return written(routes=f"[{{name: rest, path: /*, upstream: api, {rest}}}]")


def test_nothing_is_limited_unless_it_is_said():
    config = loaded(written())
    assert config.rates == RatePolicy()
    assert config.routes[0].rates == RatePolicy()


def test_general_limits_are_read():
    config = loaded(
        written(rate_limits="{by_ip: 100/s, by_user: 1000/min burst 200, by_org: 5000/h, by_machine: null}")
    )
    assert config.rates == RatePolicy(
        by_ip=Rate(100, 1, 100), by_user=Rate(1000, 60, 200), by_org=Rate(5000, 3600, 5000)
    )


def test_a_routes_text_counts_each_caller():
    assert loaded(route("rate_limit: 10/s burst 30")).routes[0].rates == RatePolicy(by_caller=Rate(10, 1, 30))


def test_a_routes_mapping_counts_what_it_names():
    rates = loaded(route("rate_limit: {by_ip: 10/s, by_org: 20/s, by_caller: 30/s}")).routes[0].rates
    assert rates == RatePolicy(by_ip=Rate(10, 1, 10), by_org=Rate(20, 1, 20), by_caller=Rate(30, 1, 30))


def test_a_variable_may_give_a_rate_or_none():
    text = route('rate_limit: "${RATE:-}"')
    assert loaded(text, {"RATE": "10/s"}).routes[0].rates == RatePolicy(by_caller=Rate(10, 1, 10))
    assert loaded(text).routes[0].rates == RatePolicy()


@pytest.mark.parametrize(
    ("value", "key"),
    [
        pytest.param("fast", "routes[0].rate_limit", id="word"),
        pytest.param("100", "routes[0].rate_limit", id="number"),
        pytest.param("0/s", "routes[0].rate_limit", id="none"),
        pytest.param("100/d", "routes[0].rate_limit", id="day"),
        pytest.param("10/s burst 0", "routes[0].rate_limit", id="no-burst"),
        pytest.param("[10/s]", "routes[0].rate_limit", id="list"),
        pytest.param("true", "routes[0].rate_limit", id="flag"),
        pytest.param("{by_ip: fast}", "routes[0].rate_limit.by_ip", id="in-a-mapping"),
        pytest.param("{by_org: 5}", "routes[0].rate_limit.by_org", id="number-in-a-mapping"),
    ],
)
def test_what_is_no_rate_is_one_finding(value, key):
    finding = only(route(f"rate_limit: {value}"))
    assert (finding.level, finding.key, finding.line) == ("error", key, 3)
    assert finding.message == 'must be a rate per s, min or h: "100/s", or "1000/min burst 200"'


def test_a_misspelt_key_is_told():
    finding = only(route("rate_limit: {by_usr: 10/s}"))
    assert (finding.key, finding.message, finding.remedy) == (
        "routes[0].rate_limit.by_usr", "unknown key", 'Did you mean "by_user"?',
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param(written(rate_limits="{by_ip: 100/s burst 2}"), "rate_limits.by_ip", id="general"),
        pytest.param(route("rate_limit: 100/s burst 5"), "routes[0].rate_limit", id="text"),
        pytest.param(route("rate_limit: {by_user: 9/min burst 1}"), "routes[0].rate_limit.by_user", id="mapping"),
    ],
)
def test_a_burst_that_no_page_gets_by_with_is_warned_of(text, key):
    finding = only(text)
    assert shown(finding)[:2] == ("warning", key)
    assert "a browser asks for 6 things at a time" in finding.message


@pytest.mark.parametrize("rate", ["100/s burst 6", "5/min", "5/min burst 5", "1/s burst 50"])
def test_other_bursts_are_not(rate):
    assert findings(written(rate_limits=f"{{by_ip: {rate}}}")) == ()


@pytest.mark.parametrize("name", ["by_user", "by_org", "by_machine"])
def test_a_limit_of_the_verified_on_a_public_route_counts_nobody(name):
    finding = only(route(f"auth: public, rate_limit: {{{name}: 10/s}}"))
    assert shown(finding)[:2] == ("warning", f"routes[0].rate_limit.{name}")


@pytest.mark.parametrize("limit", ["10/s", "{by_ip: 10/s}", "{by_caller: 10/s}"])
def test_a_limit_of_addresses_on_a_public_route_counts(limit):
    assert [f for f in findings(route(f"auth: public, rate_limit: {limit}")) if "rate" in f.key] == []


def test_editors_know_a_rate_by_itself_and_by_name():
    forms = SCHEMA["$defs"]["RouteSection"]["properties"]["rate_limit"]["anyOf"]
    text, mapping, null = forms
    assert re.match(text["pattern"], "1000/min burst 200")
    assert not re.match(text["pattern"], "fast")
    assert (mapping, null) == ({"$ref": "#/$defs/RouteRates"}, {"type": "null"})
