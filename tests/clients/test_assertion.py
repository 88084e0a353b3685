"""The README's upstreams in Python, Node and Go verify what a gateway signs, and nothing else. As they stand there."""

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest

from gateway.store.signing_keys import base64url
from tests.clients.conftest import HERE
from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream

ROOT = HERE.parents[1]
THERE, ISSUER = "http://127.0.0.1:8080", "https://api.example.com"
FIRST_S = 120.0  # Go compiles before it answers
DRIVERS = {
    "python": """
import json, sys
for line in sys.stdin:
    try:
        print(json.dumps(caller({"X-User-Assertion": line.strip()})), flush=True)
    except (KeyError, jwt.PyJWTError):
        print("null", flush=True)
""",
    "js": """
import { createInterface } from "node:readline";
for await (const line of createInterface({ input: process.stdin }))
  console.log(await caller({ "x-user-assertion": line }).then(JSON.stringify, () => "null"));
""",
    "go": """package main

import (
	"bufio"
	"fmt"
	"encoding/json"
	"net/http"
	"os"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		said, _ := caller(http.Header{"X-User-Assertion": {lines.Text()}})
		text, _ := json.Marshal(said)
		fmt.Println(string(text))
	}
}
""",
}


def snippet(language: str, port: int) -> str:
    """Give the README's code, for a gateway at another port."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## The signed assertion\n")[2].partition("\n## ")[0]
    (code,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert THERE in code
    return str(code.replace(THERE, f"http://127.0.0.1:{port}"))


def command(language: str, folder: Path, port: int) -> list[str]:
    """Write the program and give what runs it; skip where that is not installed."""
    code, driver = snippet(language, port), DRIVERS[language]
    if language == "python":
        return [sys.executable, "-c", code + driver]
    if language == "js":
        if shutil.which("node") is None or not (HERE / "node_modules" / "jose").exists():
            pytest.skip("Node or jose is not installed: apt-get install nodejs npm; npm ci --prefix tests/clients")
        return ["node", "--input-type=module", "-e", code + driver]
    if shutil.which("go") is None:
        pytest.skip("Go is not installed: apt-get install golang-go")
    (folder / "caller.go").write_text(code)
    (folder / "main.go").write_text(driver)
    return ["go", "run", str(folder / "caller.go"), str(folder / "main.go")]


class Upstream:
    """A program that is given assertions, and says whom it takes the caller for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def takes(self, token: str) -> str | None:
        """Give the `sub`, or None where it refuses."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(token.encode() + b"\n")
        async with asyncio.timeout(FIRST_S):
            said = json.loads(await self._process.stdout.readline())
        return None if said is None else str(said.get("sub") or said.get("Sub"))


@asynccontextmanager
async def program(language: str, folder: Path, port: int) -> AsyncIterator[Upstream]:
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command(language, folder, port), cwd=HERE, **pipes)
    try:
        yield Upstream(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def identity(folder: Path, **more: object) -> dict[str, object]:
    return {"assertion": {"enabled": True, "issuer": ISSUER, "keys_dir": str(folder / "keys")} | more}


async def assertion(running: Running, echo: Echo) -> str:
    assert (await running.get("/x", token=running.token())).status == 200
    value = echo.last.value("x-user-assertion")
    assert value is not None
    return value


def forged(token: str) -> list[str]:
    """Make what nobody may take of a good one."""
    head, payload, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False})
    other = base64url(json.dumps(claims | {"sub": "user_mallory"}).encode()).decode()
    none = base64url(b'{"alg":"none","typ":"JWT"}').decode()
    hs256 = jwt.encode(claims, "x" * 32, headers={"kid": jwt.get_unverified_header(token)["kid"]})
    kid = base64url(json.dumps({"alg": "ES256", "kid": "another"}).encode()).decode()
    return [f"{head}.{other}.{signature}", f"{none}.{payload}.", hs256, f"{kid}.{payload}.{signature}",
            f"{head}.{payload}.", f"{head}.{payload}.{'A' * 86}", f"{head}.{payload}", "x"]  # fmt: skip


@pytest.mark.parametrize("language", ["python", "js", "go"])
async def test_the_readmes_upstream_takes_what_is_signed_for_it_and_nothing_else(language: str, tmp_path: Path) -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream:
        url = {"url": f"http://127.0.0.1:{upstream.port}"}
        async with gateway(upstream.port, identity=identity(tmp_path)) as running:
            async with program(language, tmp_path, running.port) as asked:
                good = await assertion(running, echo)
                assert await asked.takes(good) == "user_1"
                for token in forged(good):
                    assert await asked.takes(token) is None, token
                running.clock.seconds -= 3600
                assert await asked.takes(await assertion(running, echo)) is None  # expired
                running.clock.seconds += 3600
                running.file.write(upstream.port, identity=identity(tmp_path, issuer="https://other.example.com"))
                await running.app.reload()
                assert await asked.takes(await assertion(running, echo)) is None
                routes = [{"path": "/*", "upstream": "billing"}]
                running.file.write(
                    upstream.port, identity=identity(tmp_path), upstreams={"billing": url}, routes=routes
                )
                await running.app.reload()
                assert await asked.takes(await assertion(running, echo)) is None
                assert await asked.takes(good) == "user_1"
