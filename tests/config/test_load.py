import os
from pathlib import Path

import pytest

from gateway.config import Unreadable, load, locate, reload
from gateway.errors import ConfigError
from tests.config.files import KEY, written

CONFIG = Path(__file__).parents[2] / "config"
ENOUGH = {"CLERK_PUBLISHABLE_KEY": KEY, "GATEWAY_UPSTREAM": "http://127.0.0.1:3000"}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory without a configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_named_file_wins(elsewhere):
    (elsewhere / "mine.yaml").write_text(written(listen="{port: 1}"))
    (elsewhere / "other.yaml").write_text(written(listen="{port: 2}"))
    config = load("mine.yaml", {"GATEWAY_CONFIG": "other.yaml"})
    assert (config.port, config.source) == (1, "mine.yaml")


def test_the_variable_comes_before_the_usual_file(elsewhere):
    (elsewhere / "config").mkdir()
    (elsewhere / "config" / "gateway.yaml").write_text(written(listen="{port: 1}"))
    (elsewhere / "other.yaml").write_text(written(listen="{port: 2}"))
    assert load(None, {"GATEWAY_CONFIG": "other.yaml"}).port == 2
    assert load(None, {"GATEWAY_CONFIG": ""}).source == "config/gateway.yaml"


@pytest.mark.usefixtures("elsewhere")
def test_without_a_file_the_built_in_one_takes_everything_from_the_environment():
    config = load(None, ENOUGH)
    assert (config.source, config.host, config.port, config.cors) == ("built-in", "0.0.0.0", 8080, None)
    (route,) = config.routes
    assert (route.auth, route.pattern.matches("/any/path"), route.upstream.endpoints[0].port) == (
        "required",
        True,
        3000,
    )


@pytest.mark.usefixtures("elsewhere")
def test_every_variable_of_the_contract_counts():
    environ = ENOUGH | {
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": "9000",
        "GATEWAY_CORS_ORIGINS": "https://a.example, https://*.b.example",
        "CLERK_AUTHORIZED_PARTIES": "https://a.example,https://b.example",
        "CLERK_JWT_ISSUER_DOMAIN": "https://clerk.example.com",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0,whsec_c2VjcmV0c2VjcmV0c2VjcmV1",
        "GATEWAY_STORE_URL": "postgresql://db.internal/gateway",
    }
    config = load(None, environ)
    assert len(config.webhooks.secrets) == 2
    assert str(config.store) == "postgresql://db.internal/gateway"
    assert (config.host, config.port, config.warnings) == ("127.0.0.1", 9000, ())
    assert config.issuer.token_policy.authorized_parties == {"https://a.example", "https://b.example"}
    assert config.cors.granted(b"https://x.b.example")


@pytest.mark.usefixtures("elsewhere")
def test_a_secret_key_in_the_environment_asks_for_nothing_by_itself():
    config = load(None, ENOUGH | {"CLERK_SECRET_KEY": "sk_live_abcdefgh"})
    assert config.backend.secret_key == "sk_live_abcdefgh"
    assert config.sync.every_h == 0
    assert not [warning for warning in config.warnings if warning.level == "warning"]


@pytest.mark.usefixtures("elsewhere")
def test_cors_of_everybody_goes_without_credentials():
    config = load(None, ENOUGH | {"GATEWAY_CORS_ORIGINS": "*"})
    assert config.cors.origins.any
    assert not config.cors.credentials


@pytest.mark.usefixtures("elsewhere")
def test_without_anything_both_missing_variables_are_named():
    with pytest.raises(ConfigError) as refused:
        load(None, {})
    clerk, upstream = map(str, refused.value.findings)
    assert "CLERK_PUBLISHABLE_KEY=" in clerk
    assert "CLERK_JWT_ISSUER_DOMAIN=" in clerk
    assert "GATEWAY_UPSTREAM=http://127.0.0.1:3000" in upstream


def test_a_byte_order_mark_does_not_count(elsewhere):
    (elsewhere / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + written().encode())
    assert load("bom.yaml", {}).routes


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        pytest.param("missing.yaml", "No such file", id="missing"),
        pytest.param(".", "Is a directory", id="directory"),
        pytest.param("latin.yaml", "not UTF-8", id="not-utf-8"),
        pytest.param("broken.yaml", "not YAML", id="not-yaml"),
        pytest.param("a\0b", "not a file name", id="no-name"),
    ],
)
def test_what_cannot_be_read_is_unreadable(elsewhere, name, fragment):
    (elsewhere / "latin.yaml").write_bytes("# ä".encode("latin-1"))
    (elsewhere / "broken.yaml").write_text("a: [")
    with pytest.raises(Unreadable, match=fragment):
        load(name, {})


def test_findings_are_not_unreadable(elsewhere):
    (elsewhere / "f.yaml").write_text("a: 1")
    with pytest.raises(ConfigError) as refused:
        load("f.yaml", {})
    assert not isinstance(refused.value, Unreadable)


def test_the_file_of_dev_is_good():
    environ = {"GATEWAY_DEV_ISSUER": "http://127.0.0.1:8081", "GATEWAY_DEV_UPSTREAM": "http://127.0.0.1:8082"}
    environ |= {
        "GATEWAY_PORT": "9000",
        "GATEWAY_DEV_KEYS": "/no/such/keys",
        "GATEWAY_DEV_SECRET_KEY": "sk_test_abcdefgh",
    }
    config = load(str(CONFIG / "dev.yaml"), environ)
    names = ["page", "public", "optional", "admin", "reports", "machines", "template", "rest"]
    assert [route.name for route in config.routes] == names
    assert (config.host, config.port, config.logs.format) == ("127.0.0.1", 9000, "console")
    assert "http://localhost:9000" in config.issuer.token_policy.authorized_parties
    assert {warning.key for warning in config.warnings} <= {"clerk.issuer", "clerk.api_url", "clerk.handshake"}
    assert (config.admin, config.webhooks.secrets, config.needs_store) == (None, (), False)


def test_the_example_for_production_is_good_and_has_nothing_to_warn_of():
    config = load(str(CONFIG / "production.example.yaml"), {"CLERK_PUBLISHABLE_KEY": KEY})
    assert config.warnings == ()


def test_a_file_is_located_once_and_loaded_again_under_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(written())
    assert locate(None, {}) is None
    assert locate("mine.yaml", {"GATEWAY_CONFIG": "other.yaml"}) == "mine.yaml"
    assert locate(None, {"GATEWAY_CONFIG": "mine.yaml"}) == "mine.yaml"
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").write_text("routes: []")
    assert locate(None, {}) == "config/gateway.yaml"
    assert reload(None, ENOUGH).source == "built-in"  # also now that the usual file is there
    assert reload("mine.yaml", {}) == load("mine.yaml", {})


def test_a_pipe_is_not_read_again(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(Unreadable, match="cannot be read again"):
        reload(str(pipe), {})


def test_a_file_that_is_gone_says_so(tmp_path):
    with pytest.raises(Unreadable, match="No such file"):
        reload(str(tmp_path / "gone.yaml"), {})


def test_the_convex_example_is_good():
    environ = {"CLERK_PUBLISHABLE_KEY": KEY, "CONVEX_URL": "https://happy-otter-1.convex.cloud"}
    config = load(str(CONFIG / "convex.example.yaml"), environ | {"CONVEX_SITE_URL": "http://convex.internal:3211"})
    assert config.warnings == ()
    assert all(route.upstream.convex for route in config.routes)
