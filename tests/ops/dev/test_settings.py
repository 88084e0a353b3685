"""What `gateway dev` tells its gateway, and where it keeps its files."""

import stat

import pytest

from gateway import config
from gateway.config.availability import UNBUILT
from gateway.errors import ConfigError
from gateway.ops.dev import DevError
from gateway.ops.dev.guide import Addresses
from gateway.ops.dev.instance import Instance
from gateway.ops.dev.settings import Secrets, folder, variables, write_file, written_out

WHERE = Addresses("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "http://127.0.0.1:4")


def test_everything_is_asked_for():
    known = Secrets(Instance("http://127.0.0.1:2"))
    environ = variables(WHERE, known, store="sqlite:////tmp/x.db", keys="/no/such/keys")
    loaded = config.load_text(config.builtin("dev.yaml"), environ, name="dev.yaml")
    assert (loaded.port, loaded.admin.port, loaded.admin.token) == (1, 4, known.admin_token.encode())
    assert loaded.webhooks.secrets == (known.webhook_secret,)
    assert loaded.store.url == "sqlite:////tmp/x.db"
    assert loaded.needs_store


def test_the_file_for_other_commands_says_the_same():
    environ = variables(
        WHERE, Secrets(Instance("http://127.0.0.1:2")), store="sqlite:////tmp/x.db", keys="/no/such/keys"
    )
    text = written_out(config.builtin("dev.yaml"), environ)
    assert "${" not in text
    later = {"clerk.secret_key", "clerk.api_url"} & {each.pattern for each in UNBUILT}
    try:
        loaded = config.load_text(text, {}, name="gateway-dev.yaml")
    except ConfigError as error:
        assert {finding.key for finding in error.findings} - {"clerk.issuer"} == later  # http: for development only
    else:
        assert not later
        assert loaded.store.url == "sqlite:////tmp/x.db"


def test_variables_without_a_value_take_their_default():
    assert written_out("${A}-${B:-x}-${C:-}-${D:-y}", {"A": "1", "D": "2"}) == "1-x--2"


def test_secrets_are_new_each_time_and_of_clerks_form():
    one, other = Secrets(Instance("http://127.0.0.1:2")), Secrets(Instance("http://127.0.0.1:2"))
    assert one.admin_token != other.admin_token
    assert one.secret_key != other.secret_key
    assert one.webhook_secret != other.webhook_secret
    assert one.secret_key.startswith("sk_test_")
    assert one.webhook_secret.startswith("whsec_")


def test_a_folder_that_is_not_kept_is_ones_own_and_goes():
    with folder(None) as path:
        (path / "gateway-dev.db").write_text("x")
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not path.exists()


def test_a_folder_to_keep_is_made_and_stays(tmp_path):
    with folder(str(tmp_path / "a" / "b")) as path:
        (path / "gateway-dev.db").write_text("x")
    assert (tmp_path / "a" / "b" / "gateway-dev.db").exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_folder_there_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DevError, match="--keep"), folder(str(tmp_path / "file" / "x")):
        raise AssertionError


def test_the_file_is_its_owners_alone_and_writes_through_no_link(tmp_path):
    target, path = tmp_path / "other", tmp_path / "gateway-dev.yaml"
    target.write_text("theirs")
    path.symlink_to(target)
    write_file(path, "ours")
    assert (path.read_text(), target.read_text()) == ("ours", "theirs")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(DevError, match="--keep"):
        write_file(tmp_path / "none" / "x", "")
