"""The printed text: every command can be pasted as it stands."""

import re
import subprocess

import pytest

from gateway.ops.dev.guide import Addresses, command_name, guide, token_command

WHERE = Addresses("http://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1:8082")


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


def commands(text):
    return [line.strip() for line in text.splitlines() if line.strip().startswith("curl ")]


@pytest.mark.parametrize("line", commands(guide(WHERE, token="gateway token")))
def test_commands_are_good_shell(line):
    run = f"gateway() {{ echo TOKEN; }}; curl() {{ printf '%s\\n' \"$@\"; }}; {line}"
    words = subprocess.run(["/bin/sh", "-c", run], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[-1].startswith("http://127.0.0.1:8080/")
    assert ("TOKEN" in " ".join(words)) == ("gateway token" in line)
    assert not [word for word in words if "$(" in word or "gateway" in word]


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        pytest.param("http://127.0.0.1:8081", "gateway token", id="default"),
        pytest.param("http://127.0.0.1:9001", "gateway token --port 9000", id="other"),
    ],
)
def test_port_is_named_only_where_it_is_not_the_default(issuer, expected):
    assert token_command("gateway", Addresses("http://127.0.0.1:8080", issuer, "http://127.0.0.1:8082")) == expected


def test_addresses_and_the_way_out_are_said():
    text = guide(WHERE, token="gateway token")
    assert all(url in text for url in (WHERE.gateway, WHERE.issuer, WHERE.upstream))
    assert "Ctrl-C" in text


def test_lines_are_short():
    text = guide(WHERE, token="gateway token")
    assert max(map(len, text.splitlines())) <= 110
    assert not re.search(r"[^\x00-\x7f]", text)  # any terminal can show it
