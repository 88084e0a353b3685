"""The printed text: every command can be pasted as it stands."""

import re
import subprocess

import pytest

from gateway.ops.dev.guide import Addresses, command_name, dev_command, guide, token_command
from gateway.ops.dev.instance import Instance
from gateway.ops.dev.settings import Secrets

WHERE = Addresses("http://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1:8082", "http://127.0.0.1:8083")
KNOWN = Secrets(Instance(WHERE.issuer))
FILE = "/tmp/gateway-dev-x/gateway-dev.yaml"
TEXT = guide(WHERE, KNOWN, token="gateway token", dev="gateway dev", command="gateway", file=FILE)


@pytest.mark.parametrize(
    ("environ", "executable", "on_path", "expected"),
    [
        pytest.param({}, "/home/a/app/.venv/bin/python", True, "gateway", id="installed"),
        pytest.param({}, "/home/a/app/.venv/bin/python", False, ".venv/bin/python -m gateway", id="not-on-path"),
        pytest.param({}, "/usr/bin/python3", False, "/usr/bin/python3 -m gateway", id="python-elsewhere"),
        pytest.param({"UV": "/usr/bin/uv"}, "/x/python", True, "uv run gateway", id="uv"),
        pytest.param({"UV": "/home/a/app/.uv/bin/uv"}, "/x/python", True, ".uv/bin/uv run gateway", id="uv-beside"),
        pytest.param({"UV": "/home/a/app2/uv"}, "/x/python", True, "uv run gateway", id="folder-of-like-name"),
    ],
)
def test_command_works_from_another_terminal(environ, executable, on_path, expected):
    assert command_name(environ, executable=executable, on_path=on_path, cwd="/home/a/app") == expected


def commands(first):
    return [line.strip() for line in TEXT.splitlines() if line.strip().startswith(f"{first} ")]


def words_of(line):
    run = f"gateway() {{ echo TOKEN; }}; curl() {{ printf '%s\\n' \"$@\"; }}; {line}"
    return subprocess.run(["/bin/sh", "-c", run], capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("line", commands("curl"))
def test_commands_are_good_shell(line):
    words = words_of(line)
    assert words[-1].startswith(("http://127.0.0.1:8080/", "http://127.0.0.1:8083/v1/"))
    assert ("TOKEN" in " ".join(words)) == ("gateway token" in line)
    assert not [word for word in words if "$(" in word or "gateway" in word]


@pytest.mark.parametrize("line", commands("gateway"))
def test_gateways_own_commands_are_good_shell(line):
    if "://127" not in line.split()[1]:  # "gateway   http://…" is an address
        assert words_of(line) == ["TOKEN"]


def test_the_directory_is_asked_with_its_token():
    (line,) = [line for line in commands("curl") if "/v1/" in line]
    assert f"Authorization: Bearer {KNOWN.admin_token}" in line


@pytest.mark.parametrize(
    ("issuer", "option"),
    [
        pytest.param("http://127.0.0.1:8081", "", id="default"),
        pytest.param("http://127.0.0.1:9001", " --port 9000", id="other"),
    ],
)
def test_port_is_named_only_where_it_is_not_the_default(issuer, option):
    where = Addresses("http://127.0.0.1:8080", issuer, "http://127.0.0.1:8082", "http://127.0.0.1:8083")
    assert token_command("gateway", where) == f"gateway token{option}"
    assert dev_command("gateway", where) == f"gateway dev{option}"


def test_addresses_secrets_and_the_way_out_are_said():
    assert all(url in TEXT for url in (WHERE.gateway, WHERE.issuer, WHERE.upstream, WHERE.admin, FILE))
    assert all(secret in TEXT for secret in (KNOWN.admin_token, KNOWN.secret_key, KNOWN.webhook_secret))
    assert "Ctrl-C" in TEXT


def test_a_file_with_a_blank_in_its_name_is_quoted():
    text = guide(WHERE, KNOWN, token="t", dev="d", command="gateway", file="/tmp/a b/x.yaml")
    assert "-c '/tmp/a b/x.yaml'" in text


def test_lines_are_short():
    assert max(map(len, TEXT.splitlines())) <= 120
    assert not re.search(r"[^\x00-\x7f]", TEXT)  # any terminal can show it
