"""A real `gateway run` under load, and signals: reloads and drains in which no request that was sent fails."""

import asyncio
import signal
import socket
import time
from pathlib import Path

import pytest
import yaml

from tests.fakes.clerk import FakeIssuer
from tests.fakes.gateway import CLERK, read_answer, settings
from tests.fakes.upstream import ScriptedUpstream, read_request, response
from tests.fakes.websocket import SWITCHED, handshake
from tests.test_cli import PATIENCE_S, command, finished, until

ASK = b"GET /public/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
TOKEN = "correct-horse-battery"


async def slowish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request a moment later, so that there is always one under way."""
    while request := await read_request(reader):
        if request.value("upgrade"):
            writer.write(SWITCHED)
            assert await reader.read() != b""
            return
        await asyncio.sleep(0.005)
        writer.write(response(body=b"x" * 100))


class Load:
    """Clients that ask one thing after the other, and count what became of it."""

    def __init__(self, port: int) -> None:
        self.port, self.answered, self.refused = port, 0, 0
        self.failed: list[str] = []
        self.over = False

    async def kept(self) -> None:
        """Use a connection as long as it may be used."""
        while not self.over and (opened := await self._connect()):
            reader, writer = opened
            while not self.over and await self._ask(reader, writer):
                pass
            writer.close()

    async def once(self) -> None:
        """Open a connection for each request."""
        while not self.over and (opened := await self._connect()):
            await self._ask(*opened)
            opened[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionRefusedError:
            self.refused += 1
            return None

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            writer.write(ASK)
            answer = await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.failed.append(repr(error))
            return False
        if answer.status != 200:
            self.failed.append(str(answer.status))
        self.answered += 1
        return answer.value("connection") != "close"


def written(folder: Path, upstream_port: int, **more: object) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings(upstream_port, **({"admin": {"port": 0, "token": TOKEN}} | more))))
    return path


async def until_answered(load: Load, more: int) -> None:
    wanted = load.answered + more
    async with asyncio.timeout(PATIENCE_S):
        while load.answered < wanted:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("delay_s", [0, 0.3])
async def test_a_drain_under_load_fails_no_request_that_was_sent(tmp_path: Path, delay_s: float) -> None:
    async with ScriptedUpstream(slowish) as upstream:
        path = written(tmp_path, upstream.port, drain_s=20, drain_delay_s=delay_s, logs={"access": False})
        async with command("run", "-c", str(path), cwd=tmp_path) as process:
            load = Load(int((await until(process, r'"listening".*"port":(\d+)'))[1]))
            clients = [asyncio.ensure_future(client()) for client in (load.kept, load.once) for _ in range(12)]
            await until_answered(load, 200)
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(asyncio.gather(*clients), PATIENCE_S)  # each ends once it is refused
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    assert load.failed == []
    assert load.refused == len(clients)


async def test_hundreds_in_the_backlog_are_served(tmp_path: Path) -> None:
    async with ScriptedUpstream(slowish) as upstream:
        path = written(tmp_path, upstream.port, drain_s=20)
        async with command("run", "-c", str(path), cwd=tmp_path) as process:
            port = int((await until(process, r'"listening".*"port":(\d+)'))[1])
            process.send_signal(signal.SIGSTOP)  # so that nothing is accepted
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
            for client in clients:
                client.sendall(ASK)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)

            async def answer(client: socket.socket) -> int:
                reader, writer = await asyncio.open_connection(sock=client)
                try:
                    return (await read_answer(reader)).status
                finally:
                    writer.close()

            assert set(await asyncio.gather(*map(answer, clients))) == {200}
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_while_it_drains_readiness_says_so_and_only_upgrades_are_refused(tmp_path: Path) -> None:
    async with ScriptedUpstream(slowish) as upstream:
        path = written(tmp_path, upstream.port, drain_s=20, drain_delay_s=600)
        async with command("run", "-c", str(path), cwd=tmp_path) as process:
            line = await until(process, r'"listening".*"port":(\d+),"admin_port":(\d+)')
            port, admin_port = int(line[1]), int(line[2])

            async def ask(port: int, data: bytes) -> tuple[int, str | None]:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data)
                answer = await read_answer(reader)
                writer.close()
                return answer.status, answer.value("connection")

            ready = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
            assert [await ask(each, ready) for each in (port, admin_port)] == [(200, None)] * 2
            process.send_signal(signal.SIGTERM)
            await until(process, '"draining"')
            assert await ask(port, ready) == (503, "close")
            assert await ask(admin_port, ready) == (503, None)
            assert await ask(port, ASK) == (200, "close")
            assert await ask(port, handshake()) == (503, "close")
            process.send_signal(signal.SIGTERM)  # a second one ends at once, and says so
            await until(process, '"stopped","all_finished":false,"why":"told twice"')
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 1


async def test_hup_under_load_fails_no_request_and_the_last_content_wins(tmp_path: Path) -> None:
    async with ScriptedUpstream(slowish) as upstream:
        path = written(tmp_path, upstream.port, logs={"access": False})
        async with command("run", "-c", str(path), cwd=tmp_path) as process:
            line = await until(process, r'"listening".*"port":(\d+),"admin_port":(\d+)')
            load = Load(int(line[1]))
            clients = [asyncio.ensure_future(load.kept()) for _ in range(8)]
            await until_answered(load, 50)
            for _ in range(20):
                process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0)
            await until(process, '"reloaded"')
            path.write_text("routes: [{path: /*, upstream: nowhere}]\nlistn: {}\n")
            process.send_signal(signal.SIGHUP)
            await until(process, r'"configuration".*listn: unknown key')
            await until_answered(load, 50)
            shared = {"logs": {"access": False}, "cors": None}
            written(tmp_path, upstream.port, **shared)
            process.send_signal(signal.SIGHUP)
            await until(process, r'"reloaded","changed":\["routes","cors"\]')
            await until_answered(load, 50)
            admin = {"port": int(line[2]), "token": TOKEN}
            (tmp_path / "to-ask.yaml").write_text(yaml.safe_dump({"admin": admin}))
            code, out, _ = await finished("reload", "-c", "to-ask.yaml", cwd=tmp_path)
            assert (code, out) == (0, "reloaded: nothing has changed\n")
            load.over = True
            await asyncio.gather(*clients)
            assert load.failed == []
            token = CLERK.session_token(time.time())
            reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
            writer.write(f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            assert (await read_answer(reader)).status == 200
            writer.close()


async def test_signals_while_it_starts(tmp_path: Path) -> None:
    async with FakeIssuer() as issuer, ScriptedUpstream(slowish) as upstream:
        issuer.hold = asyncio.Event()
        clerk = {"issuer": CLERK.issuer, "jwks_url": issuer.jwks_url}
        path = written(tmp_path, upstream.port, clerk=clerk)
        async with command("run", "-c", str(path), cwd=tmp_path) as process:
            await asyncio.wait_for(issuer.arrived.wait(), PATIENCE_S)
            process.send_signal(signal.SIGHUP)  # taken up once it has started
            process.send_signal(signal.SIGHUP)
            issuer.hold.set()
            await until(process, '"reloaded"')
        issuer.hold, issuer.arrived = asyncio.Event(), asyncio.Event()
        async with command("run", "-c", str(path), cwd=tmp_path) as process:
            await asyncio.wait_for(issuer.arrived.wait(), PATIENCE_S)
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_a_taken_admin_port_is_said_with_its_remedy(tmp_path: Path) -> None:
    async with ScriptedUpstream(slowish) as upstream:
        path = written(tmp_path, upstream.port, admin={"port": upstream.port})
        code, _, err = await finished("run", "-c", str(path), cwd=tmp_path)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{upstream.port}" in err
    assert "Set admin.port to a free port, or to null" in err
    assert "Traceback" not in err
