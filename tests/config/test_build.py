from ipaddress import ip_network

import pytest

from gateway.config import LogPolicy
from gateway.core.model import Limits
from tests.config.files import findings, loaded, only, written


def test_defaults_are_the_contracts():
    config = loaded(written())
    assert (config.host, config.port, config.public_url, config.trusted_proxies) == ("0.0.0.0", 8080, None, ())
    assert config.limits == Limits(32_768, 128, 10_485_760, 10, 30, 75, 10_000, 0)
    assert config.logs == LogPolicy("json", "info", True)
    assert (config.drain_s, config.drain_delay_s, config.warnings, config.source) == (30, 0, (), "gateway.yaml")


def test_everything_is_taken_as_written():
    config = loaded(
        written(
            listen="{host: '::', port: 0}",
            trusted_proxies="10.0.0.0/8, 192.0.2.1, 2001:db8::/32",
            limits="{header_bytes: 8192, headers: 20, body_bytes: 0, header_read_s: 1, body_idle_s: 2, keepalive_s: 0,"
            " connections: 4, connections_per_ip: 5}",
            logs="{format: console, level: debug, access: false}",
            drain_s="1",
            drain_delay_s="2",
        )
    )
    assert (config.host, config.port, config.public_url) == ("::", 0, None)
    assert config.trusted_proxies == tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32")))
    assert config.limits == Limits(8192, 20, 0, 1, 2, 0, 4, 5)
    assert config.logs == LogPolicy("console", "debug", False)
    assert (config.drain_s, config.drain_delay_s) == (1, 2)


@pytest.mark.parametrize(
    ("sections", "key", "fragment"),
    [
        pytest.param({"listen": "{host: 'a b'}"}, "listen.host", "neither a host name", id="host"),
        pytest.param({"listen": "{host: '*'}"}, "listen.host", "neither a host name", id="any-host"),
        pytest.param({"listen": "{host: '127.0.0.1:80'}"}, "listen.host", "neither a host name", id="host-and-port"),
        pytest.param({"trusted_proxies": "['*']"}, "trusted_proxies", "choose its own address", id="any-proxy"),
        pytest.param(
            {"trusted_proxies": "[10.0.0.1/8]"}, "trusted_proxies", "write 10.0.0.0/8", id="address-of-network"
        ),
        pytest.param({"trusted_proxies": "[10.0.0.0/33]"}, "trusted_proxies", "is not a network", id="no-network"),
        pytest.param({"limits": "{header_bytes: 8191}"}, "limits.header_bytes", "greater than", id="header-bytes"),
        pytest.param({"limits": "{headers: 15}"}, "limits.headers", "greater than", id="headers"),
        pytest.param({"limits": "{connections: 0}"}, "limits.connections", "greater than", id="connections"),
        pytest.param({"limits": "{header_read_s: 0}"}, "limits.header_read_s", "greater than", id="header-read"),
        pytest.param({"limits": "{body_idle_s: 0}"}, "limits.body_idle_s", "greater than", id="body-idle"),
    ],
)
def test_a_wrong_value_is_refused(sections, key, fragment):
    finding = only(written(**sections))
    assert (finding.key, finding.level) == (key, "error")
    assert fragment in finding.message


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_trusting_everybody_is_insecure(network):
    finding = only(written(trusted_proxies=f"['{network}']"))
    assert (finding.key, finding.level) == ("trusted_proxies", "insecure")


def test_advice_on_routes_waits_until_they_are_whole():
    text = "[{path: /*, upstream: api, auth: wrong}, {path: /a, upstream: api}]"
    assert [finding.level for finding in findings(written(routes=text))] == ["error"]


def test_warnings_come_with_the_configuration():
    assert [finding.level for finding in loaded(written(trusted_proxies="['::/0']")).warnings] == ["insecure"]
