"""`gateway reload` against a real admin listener, and against what is none."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from gateway.ops.reload import reload
from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import ScriptedUpstream, read_request, response

TOKEN = "correct-horse-battery"
ADMIN = {"port": 0, "token": TOKEN}


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway(1, admin=ADMIN) as started:
        yield started


async def asked(path: Path, **admin: object) -> tuple[int, str]:
    """Run the command with a file whose admin section is this; exit code and all it wrote."""
    (path / "gateway.yaml").write_text(yaml.safe_dump({"admin": admin}))
    lines: list[str] = []
    code = await asyncio.to_thread(reload, str(path / "gateway.yaml"), {}, write=lines.append)
    return code, "\n".join(lines)


async def test_it_says_what_changed(running: Running, tmp_path: Path) -> None:
    port = running.app.admin_port
    assert await asked(tmp_path, port=port, token=TOKEN) == (0, "reloaded: nothing has changed")
    running.file.write(1, admin=ADMIN, cors=None)
    assert await asked(tmp_path, port=port, token=TOKEN, host="0.0.0.0") == (0, "reloaded: routes, cors")


async def test_it_says_what_is_wrong_as_the_gateway_sees_it(running: Running, tmp_path: Path) -> None:
    running.file.write(1, admin=ADMIN, listn={}, routes=[])
    code, told = await asked(tmp_path, port=running.app.admin_port, token=TOKEN)
    assert code == 1
    assert 'listn: unknown key. Did you mean "listen"?' in told
    assert "test.yaml" in told
    assert told.splitlines()[-1] == "gateway: refused: the old configuration stays in force"


async def test_another_token_is_said(running: Running, tmp_path: Path) -> None:
    code, told = await asked(tmp_path, port=running.app.admin_port, token="another-horse-battery")
    assert (code, told) == (1, "gateway: the running gateway has another admin.token")


@pytest.mark.parametrize(
    ("admin", "words"),
    [
        pytest.param({"port": None}, "admin.port is null", id="off"),
        pytest.param({"port": 1}, "admin.token is not set", id="no-token"),
        pytest.param({"port": 1, "token": TOKEN}, "cannot ask 127.0.0.1:1: Connection refused", id="nobody"),
        pytest.param({"port": "x"}, "admin.port: must be a whole number", id="wrong"),
        pytest.param(
            {"host": "nowhere.invalid", "port": 1, "token": TOKEN}, "cannot ask nowhere.invalid:1", id="no-such-name"
        ),
    ],
)
async def test_who_cannot_be_asked_is_said(tmp_path: Path, admin: dict[str, object], words: str) -> None:
    code, told = await asked(tmp_path, **admin)
    assert code == 1
    assert words in told


async def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    lines: list[str] = []
    assert reload(str(tmp_path / "gone.yaml"), {}, write=lines.append) == 1
    assert "No such file" in lines[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "no gateway's answer", id="not-http"),
        pytest.param(response(200, b"<html>"), "no gateway's answer", id="not-json"),
        pytest.param(response(200, b"[]"), "no gateway's answer", id="no-object"),
        pytest.param(
            response(404, b'{"code": "no_route\\u001b[31m"}'), "refused: 404 no_route?[31m", id="an-older-one"
        ),
        pytest.param(response(503, b'{"code": "draining"}'), "refused: 503 draining", id="stopping"),
        pytest.param(response(400, b'{"findings": ["\\u001b[2J", 5]}'), "?[2J", id="findings-of-another-shape"),
        pytest.param(response(200, b'{"changed": "\\u001b"}'), "reloaded: ?", id="changes-of-another-shape"),
    ],
)
async def test_an_answer_of_somebody_else_does_no_harm(tmp_path: Path, answer: bytes, words: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)

    async with ScriptedUpstream(script) as other:
        code, told = await asked(tmp_path, port=other.port, token=TOKEN)
    assert words in told
    assert "\x1b" not in told
    assert code == (0 if answer.startswith(b"HTTP/1.1 200") and b"changed" in answer else 1)
