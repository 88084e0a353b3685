import pytest

from gateway.core.model import ListenTls, UpstreamTls
from tests.config.files import findings, loaded, only, written
from tests.fakes.certificates import authority


@pytest.fixture
def pair(tmp_path):
    return authority().issue("a.example").write(tmp_path, "own")


@pytest.fixture
def ca(tmp_path):
    return authority().write(tmp_path)


def listening(tls):
    return written(listen=f"{{port: 8443, tls: {tls}}}")


def towards(tls, url="https://api.internal"):
    return written(upstreams=f"{{api: {{url: {url}, tls: {tls}}}}}")


def test_the_listeners_tls_is_as_written(pair, ca):
    text = listening(f"{{cert: {pair.cert}, key: {pair.key}, client_ca: {ca}}}")
    assert findings(text) == ()
    assert loaded(text).tls == ListenTls(pair.cert, pair.key, ca)


@pytest.mark.parametrize("tls", ["null", "{}", "{cert: '${CERT:-}', key: '${KEY:-}'}"], ids=["null", "empty", "unset"])
def test_without_values_it_is_plain_http(tls):
    assert loaded(listening(tls)).tls is None


@pytest.mark.parametrize(("given", "missing"), [("cert", "key"), ("key", "cert")])
def test_a_certificate_without_its_key_is_an_error(pair, given, missing):
    finding = only(listening(f"{{{given}: {getattr(pair, given)}}}"))
    assert (finding.level, finding.key) == ("error", f"listen.tls.{missing}")
    assert finding.message == f"is missing: {given} is of no use without it"


def test_an_authority_of_clients_alone_is_an_error(ca):
    assert {finding.key for finding in findings(listening(f"{{client_ca: {ca}}}"))} == {
        "listen.tls.cert",
        "listen.tls.key",
    }


def test_files_that_will_not_do_are_found_where_they_are_named(pair):
    text = listening(f"{{cert: {pair.cert}, key: /nowhere.key, client_ca: {pair.key}}}")
    found = {finding.key: (finding.level, finding.line) for finding in findings(text)}
    assert found == {"listen.tls.key": ("error", 4), "listen.tls.client_ca": ("error", 4)}


# --- upstreams -------------------------------------------------------------------------------------------------------


def test_an_upstreams_tls_is_as_written(pair, ca):
    text = towards(f"{{ca: {ca}, client_cert: {pair.cert}, client_key: {pair.key}, server_name: Api.Internal}}")
    assert findings(text) == ()
    expected = UpstreamTls(True, ca, pair.cert, pair.key, "api.internal")
    assert loaded(text).routes[0].upstream.tls == expected


def test_the_default_is_to_verify_by_the_systems_authorities():
    assert loaded(towards("{}")).routes[0].upstream.tls == UpstreamTls(verify=True)


def test_not_to_verify_is_insecure():
    finding = only(towards("{verify: false, server_name: api}"))
    assert (finding.level, finding.key) == ("insecure", "upstreams.api.tls.verify")


@pytest.mark.parametrize(
    ("tls", "key", "level", "fragment"),
    [
        pytest.param("{ca: /nowhere.pem}", "ca", "error", "No such file", id="no-file"),
        pytest.param("{client_cert: /nowhere.pem}", "client_key", "error", "is missing", id="no-key"),
        pytest.param("{client_key: /nowhere.key}", "client_cert", "error", "is missing", id="no-cert"),
        pytest.param("{server_name: 'not a name'}", "server_name", "error", "neither a host name", id="name"),
    ],
)
def test_settings_that_will_not_do(tls, key, level, fragment):
    finding = only(towards(tls))
    assert (finding.level, finding.key, fragment in finding.message) == (level, f"upstreams.api.tls.{key}", True)


def test_an_authority_that_nobody_asks_is_warned_of(ca):
    found = {finding.key: finding.level for finding in findings(towards(f"{{verify: false, ca: {ca}}}"))}
    assert found == {"upstreams.api.tls.verify": "insecure", "upstreams.api.tls.ca": "warning"}


@pytest.mark.parametrize("tls", ["{verify: false}", "{ca: /nowhere.pem}", "{server_name: a}"])
def test_tls_settings_of_a_plain_upstream_are_warned_of(tls):
    finding = only(towards(tls, url="http://127.0.0.1:3000"))
    assert (finding.level, finding.key) == ("warning", "upstreams.api.tls")
    assert finding.message.startswith("is not used")
