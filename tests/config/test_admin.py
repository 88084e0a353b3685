import pytest

from gateway.config import load_admin
from gateway.errors import ConfigError
from tests.config.files import findings, loaded, only, written

TOKEN = "correct-horse-battery"


def test_it_is_on_loopback_by_default_and_answers_nobody_without_a_token():
    admin = loaded(written()).admin
    assert (admin.host, admin.port, admin.loopback, admin.token) == ("127.0.0.1", 9901, True, None)


@pytest.mark.parametrize("section", ["{}", "null"])
def test_an_empty_section_is_the_default(section):
    assert loaded(written(admin=section)).admin.port == 9901


def test_null_is_off():
    assert loaded(written(admin="{port: null}")).admin is None
    assert loaded(written(admin="{host: 0.0.0.0, port: null}")).admin is None  # and asks for no token


@pytest.mark.parametrize("value", ["off", "null"])
def test_a_variable_can_switch_it_off(value):
    assert loaded(written(admin="{port: '${PORT:-9901}'}"), {"PORT": value}).admin is None


def test_a_variable_gives_port_and_token():
    text = written(admin="{port: '${PORT:-9901}', token: '${TOKEN:-}'}")
    admin = loaded(text, {"PORT": "9", "TOKEN": TOKEN}).admin
    assert (admin.port, admin.token) == (9, TOKEN.encode())
    assert loaded(text).admin.token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "'::'", "10.0.0.1", "admin.internal"])
def test_off_loopback_a_token_is_required(host):
    finding = only(written(admin=f"{{host: {host}}}"))
    assert (finding.key, finding.level, finding.line) == ("admin.token", "error", 4)
    assert "host: 127.0.0.1" in finding.remedy
    admin = loaded(written(admin=f"{{host: {host}, token: {TOKEN}}}")).admin
    assert admin.loopback is False


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "'::1'", "'[::1]'"])
def test_loopback_has_several_names(host):
    assert loaded(written(admin=f"{{host: {host}}}")).admin.loopback is True


@pytest.mark.parametrize("host", ["'http://localhost'", "1.2.3", "'a b'"])
def test_a_host_that_is_none_is_refused(host):
    assert only(written(admin=f"{{host: {host}, token: {TOKEN}}}")).key == "admin.host"


@pytest.mark.parametrize("token", ["'correct horse battery'", "пароль-пароль-пароль", '"correct-horse\\r\\nX: y"'])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(token):
    finding = only(written(admin=f"{{token: {token}}}"))
    assert (finding.key, finding.level) == ("admin.token", "error")
    assert "horse" not in str(finding)


def test_a_short_token_is_insecure():
    finding = only(written(admin="{token: hunter2}"))
    assert (finding.key, finding.level) == ("admin.token", "insecure")
    assert "hunter2" not in str(finding)


@pytest.mark.parametrize(
    "listen", ["{port: 9901, host: 0.0.0.0}", "{port: 9901, host: '::'}", "{port: 9901, host: 127.0.0.1}"]
)
def test_two_listeners_need_two_ports(listen):
    assert only(written(listen=listen)).key == "admin.port"


def test_ports_may_be_equal_on_different_addresses_and_where_any_free_one_is_taken():
    assert findings(written(listen="{port: 9901, host: 10.0.0.1}")) == ()
    assert findings(written(listen="{port: 0}", admin="{port: 0}")) == ()


def test_where_it_is_can_be_known_whatever_else_is_wrong(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"listn: 5\nroutes: [{{path: x}}]\nclerk: {{issuer: '${{UNSET}}'}}\nadmin: {{port: 7, token: {TOKEN}}}\n"
    )
    admin = load_admin(str(path), {})
    assert (admin.port, admin.token) == (7, TOKEN.encode())


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("admin: {port: x}", "admin.port", id="wrong"),
        pytest.param("admin: {prot: 1}", "admin.prot", id="misspelt"),
        pytest.param("admin: {token: '${UNSET}'}", "admin.token", id="unset"),
        pytest.param("admin: {host: 0.0.0.0}", "admin.token", id="no-token"),
        pytest.param("admin: {port: 1, port: 2}", "admin.port", id="twice"),
        pytest.param("admin: {", "", id="not-yaml"),
    ],
)
def test_what_is_wrong_with_it_is_said(tmp_path, text, key):
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_admin(str(path), {})
    assert [finding.key for finding in refused.value.findings] == [key]


@pytest.mark.parametrize("text", ["", "[]", "text", "other: {}"])
def test_a_file_without_it_has_the_default(tmp_path, text):
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    assert load_admin(str(path), {}).port == 9901
