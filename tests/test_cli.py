"""The commands as a person runs them: real processes, exit codes, signals."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from tests.fakes.gateway import CLERK, read_answer, settings
from tests.fakes.upstream import Echo, ScriptedUpstream

PATIENCE_S = 30  # never waited for unless something hangs


@asynccontextmanager
async def command(
    *args: str, environ: Mapping[str, str] | None = None, cwd: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `gateway ARGS` in an environment of its own."""
    root = str(Path(__file__).parent.parent)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *args, cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root, **(environ or {})},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(
    *args: str, environ: Mapping[str, str] | None = None, cwd: Path, typed: str = ""
) -> tuple[int | None, str, str]:
    """Run to the end, with this on standard input; give exit code, output and errors."""
    async with command(*args, environ=environ, cwd=cwd) as process, asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate(typed.encode())
    return process.returncode, out.decode(), err.decode()


async def until(process: asyncio.subprocess.Process, pattern: str) -> re.Match[str]:
    """Read output until a line matches."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while line := (await process.stdout.readline()).decode():
            if found := re.search(pattern, line):
                return found
    assert process.stderr is not None
    raise AssertionError((await process.stderr.read()).decode())


async def get(port: int, target: str, token: str | None = None) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n".encode())
    answer = await read_answer(reader)
    writer.close()
    return answer.status


def environment(upstream_port: int) -> dict[str, str]:
    return {
        "CLERK_JWT_ISSUER_DOMAIN": CLERK.issuer, "CLERK_JWT_KEY": CLERK.pem().replace("\n", "\\n"),
        "CLERK_AUTHORIZED_PARTIES": "https://app.example.com", "GATEWAY_UPSTREAM": f"http://127.0.0.1:{upstream_port}",
        "GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": "0", "GATEWAY_ADMIN_PORT": "0",
    }  # fmt: skip


async def test_run_serves_from_the_environment_alone_and_stops_on_term(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(Echo()) as upstream,
        command("run", environ=environment(upstream.port), cwd=tmp_path) as process,
    ):
        port = int((await until(process, r'"listening".*"port":(\d+)'))[1])
        assert await get(port, "/x") == 401
        assert await get(port, "/x", CLERK.session_token(time.time())) == 200
        process.send_signal(signal.SIGHUP)
        await until(process, '"reloaded"')
        assert await get(port, "/healthz") == 200
        process.send_signal(signal.SIGTERM)
        await until(process, '"stopped"')
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_a_hup_before_run_is_ready_ends_nothing_and_is_not_forgotten(tmp_path: Path) -> None:
    pipe, text = tmp_path / "gateway.yaml", yaml.safe_dump(settings(1))
    os.mkfifo(pipe)
    async with command("run", "-c", str(pipe), cwd=tmp_path) as process:
        with await asyncio.to_thread(pipe.open, "w") as writing:  # once somebody reads
            process.send_signal(signal.SIGHUP)
            writing.write(text)
        await until(process, '"event":"listening"')
        await until(process, '"event":"reload_refused"')  # for a pipe can be read once only


async def test_run_refuses_a_broken_configuration_with_every_problem(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("listn: {}\nroutes: [{path: /*, upstream: nowhere}]\n")
    code, out, err = await finished("run", "-c", "bad.yaml", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "bad.yaml:1" in err
    assert 'Did you mean "listen"' in err
    assert "bad.yaml:2" in err


async def test_run_says_when_its_port_is_taken(tmp_path: Path) -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        taken = environment(upstream.port) | {"GATEWAY_PORT": str(upstream.port)}
        code, _, err = await finished("run", environ=taken, cwd=tmp_path)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{upstream.port}" in err


async def test_run_says_why_there_is_nothing_to_sign_with(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "signing-key-000001.json").write_text("{}")
    assertion = {"enabled": True, "issuer": "https://gw.example.com", "keys_dir": str(tmp_path / "keys")}
    (tmp_path / "gw.yaml").write_text(yaml.safe_dump(settings(3000, identity={"assertion": assertion})))
    code, _, err = await finished("run", "-c", "gw.yaml", cwd=tmp_path)
    assert code == 2
    assert "gw.yaml: identity.assertion.keys_dir" in err
    assert "signing-key-000001.json is not a signing key" in err
    assert "Traceback" not in err


async def test_run_takes_no_second_worker_yet(tmp_path: Path) -> None:
    code, _, err = await finished("run", "--workers", "2", cwd=tmp_path)
    assert code == 2
    assert "not available yet" in err


@pytest.mark.parametrize(
    ("text", "args", "code"),
    [
        pytest.param("routes: []\n", (), 1, id="findings"),
        pytest.param("{", (), 2, id="not-yaml"),
        pytest.param(None, (), 2, id="no-such-file"),
    ],
)
async def test_check_tells_by_its_exit_code(tmp_path: Path, text: str | None, args: tuple[str, ...], code: int) -> None:
    if text is not None:
        (tmp_path / "some.yaml").write_text(text)
    assert (await finished("check", "-c", "some.yaml", *args, cwd=tmp_path))[0] == code


async def test_check_is_stricter_when_asked(tmp_path: Path) -> None:
    loose = environment(1) | {"CLERK_AUTHORIZED_PARTIES": ""}
    assert (await finished("check", environ=loose, cwd=tmp_path))[0] == 0
    assert (await finished("check", "--strict", environ=loose, cwd=tmp_path))[0] == 1


async def test_token_says_what_to_start(tmp_path: Path) -> None:
    code, out, err = await finished("token", "--port", "1", cwd=tmp_path)
    assert (code, out) == (1, "")
    assert "gateway dev" in err


async def test_dev_serves_all_until_ctrl_c(tmp_path: Path) -> None:
    ports = ("--port", "0", "--issuer-port", "0", "--upstream-port", "0")
    async with command("dev", *ports, cwd=tmp_path) as process:
        port = int((await until(process, r"gateway +http://127\.0\.0\.1:(\d+)"))[1])
        assert [await get(port, path) for path in ("/", "/public/hello", "/hello")] == [200, 200, 401]
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_commands_beside_dev_ask_the_one_that_runs(tmp_path: Path) -> None:
    ports = ("--port", "0", "--issuer-port", "0", "--upstream-port", "0")
    async with command("dev", *ports, "--keep", "kept", cwd=tmp_path) as process:
        issuer = int((await until(process, r"issuer +http://127\.0\.0\.1:(\d+)"))[1])
        before = ("dev", "--port", str(issuer - 1))
        code, out, _ = await finished(
            *before, "event", "user.updated", "--user", "bob", "--set", "first_name=Ed", "--twice", cwd=tmp_path
        )
        assert (code, [line.split()[2:] for line in out.splitlines()]) == (0, [["200", "stored"], ["200", "repeated"]])
        svix_id = out.split()[1]
        code, out, _ = await finished("dev", "event", "--again", svix_id, "--port", str(issuer - 1), cwd=tmp_path)
        assert (code, out.split()[1:]) == (0, [svix_id, "200", "repeated"])
        code, out, _ = await finished(*before, "event", "user.updated", "--bad-signature", cwd=tmp_path)
        assert (code, out.split()[2:]) == (1, ["400", "bad_request,", "signature"])
        code, out, _ = await finished(*before, "event", "user.updated", "--old", "600", cwd=tmp_path)
        assert (code, out.split()[2:]) == (1, ["400", "bad_request,", "timestamp"])
        code, out, _ = await finished(*before, "event", "user.updated", "--delay-order", cwd=tmp_path)
        assert (code, out.split()[2]) == (0, "held")
        code, out, _ = await finished(*before, "users", cwd=tmp_path)
        assert (code, "Ed Brown" in out) == (0, True)
        assert (tmp_path / "kept" / "gateway-dev.db").exists()


async def test_dev_event_reaches_any_url_without_a_dev(tmp_path: Path) -> None:
    secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
    async with ScriptedUpstream(Echo()) as upstream:
        to = ("--url", f"http://127.0.0.1:{upstream.port}/webhooks", "--port", "1")
        code, out, _ = await finished("dev", "event", "user.created", *to, "--secret", secret, cwd=tmp_path)
        assert (code, out.split()[2]) == (0, "200")
        given = {"CLERK_WEBHOOK_SIGNING_SECRET": secret}
        assert (await finished("dev", "event", "user.created", *to, environ=given, cwd=tmp_path))[0] == 0
        code, _, err = await finished("dev", "event", "user.created", *to, cwd=tmp_path)
        assert (code, "--secret" in err) == (1, True)
    code, out, _ = await finished("dev", "event", "user.created", *to, "--secret", secret, cwd=tmp_path)
    assert (code, "no answer" in out) == (1, True)
    code, out, _ = await finished(
        "dev", "event", "user.created", "--print", "--secret", secret, "--port", "1", cwd=tmp_path
    )
    assert (code, out.split(":")[0]) == (0, "svix-id")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        pytest.param(("event", "user.updated", "--port", "1"), 1, "Start it with `gateway dev`", id="not-running"),
        pytest.param(("users", "--port", "1"), 1, "Start it with `gateway dev`", id="nobody-to-list"),
        pytest.param(("event",), 1, "name a type", id="nothing"),
        pytest.param(("event", "user.updated", "--set", "x"), 2, "name=value", id="no-change"),
        pytest.param(("event", "user.updated", "--secret", "whsec_x"), 2, "--secret is for --url", id="secret-alone"),
    ],
)
async def test_dev_commands_say_what_is_missing(tmp_path: Path, args: tuple[str, ...], code: int, says: str) -> None:
    ended, out, err = await finished("dev", *args, cwd=tmp_path)
    assert (ended, out) == (code, "")
    assert says in err


async def test_dev_says_why_it_does_not_start(tmp_path: Path) -> None:
    code, _, err = await finished("dev", "--port", "0", "--keep", "/dev/null/x", cwd=tmp_path)
    assert (code, "--keep" in err) == (1, True)


async def test_explain_reads_a_token_from_standard_input_and_never_writes_it(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(settings(3000)))
    token = CLERK.session_token(time.time())
    args = ("explain", "-c", "gateway.yaml", "get", "/x", "--token", "-")
    code, out, err = await finished(*args, cwd=tmp_path, typed=f"{token}\n")
    assert (code, err) == (0, "")
    assert "\n  X-User-Id: user_1\n" in out
    assert not [part for part in token.split(".") if part[:20] in out]


async def test_explain_refuses_what_no_client_could_send(tmp_path: Path) -> None:
    code, _, err = await finished("explain", "GET", "/x", "--header", "Bearer secret-token", cwd=tmp_path)
    assert code == 2
    assert '--header "Bearer": write NAME: VALUE' in err
    assert "secret" not in err


async def test_doctor_says_what_is_wrong_and_explains_a_token(tmp_path: Path) -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        environ = environment(upstream.port) | {"CLERK_JWT_ISSUER_DOMAIN": "http://127.0.0.1:1"}
        code, out, _ = await finished("doctor", environ=environ, cwd=tmp_path)
        assert (code, "upstream all" in out or "upstream api" in out) == (0, True)  # with a jwt_key no issuer is needed
        expired = CLERK.session_token(time.time() - 900)
        told = ("doctor", "--json", "--token", expired, "--header", "Origin: https://app.example.com")
        code, out, _ = await finished(*told, environ=environ, cwd=tmp_path)
        found = {each["found"] for each in json.loads(out) if each["subject"] == "token"}
        assert (code, any("expired 14 min ago" in each for each in found)) == (1, True)
        assert expired not in out
    code, _, err = await finished("doctor", "--url", "nonsense", environ=environ, cwd=tmp_path)
    assert (code, "--url" in err) == (2, True)


def test_the_list_of_commands_cuts_nothing_short() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output.partition("Commands:")[2]
    assert "explain" in shown
    assert "..." not in shown
