"""A real gateway, killed while webhooks come in: what it acknowledged is there afterwards, whole, in both databases."""

import asyncio
import os
import random
from itertools import count
from pathlib import Path

import yaml

from gateway.store.database import Database
from tests.fakes.clerk_events import body, user
from tests.fakes.gateway import read_answer, settings
from tests.test_cli import command, until
from tests.web.test_webhooks import SECRET, signed

KILLS = int(os.environ.get("KILLS", "5"))
SENDERS = 16
NUMBERS = count(1)


async def send(port: int, acknowledged: dict[str, int]) -> None:
    """Send one webhook after the other until nobody answers; keep those that were acknowledged."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            number = next(NUMBERS)
            svix_id = f"msg_{number}"
            data = body("user.updated", user(f"user_{number % 50}", updated_at=number), at=number)
            lines = "".join(f"{name}: {value}\r\n" for name, value in signed(data, svix_id).items())
            head = f"POST /webhooks/clerk HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n{lines}\r\n"
            writer.write(head.encode() + data)
            answer = await read_answer(reader)
            assert answer.status == 200, answer.body
            acknowledged[svix_id] = number
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def test_nothing_acknowledged_is_lost_when_the_gateway_is_killed(url: str, tmp_path: Path) -> None:
    Database(url, migrating=True).close()
    file, rng = tmp_path / "gateway.yaml", random.Random(7)
    clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]}
    file.write_text(yaml.safe_dump(settings(1, clerk=clerk, store={"url": url}, logs={"access": False})))
    acknowledged: dict[str, int] = {}
    for _ in range(KILLS):
        had = len(acknowledged)
        async with command("run", "-c", str(file), cwd=tmp_path) as process:
            await until(process, '"store_up"')
            port = int((await until(process, r'"listening".*"port":(\d+)'))[1])
            sending = [asyncio.ensure_future(send(port, acknowledged)) for _ in range(SENDERS)]
            while len(acknowledged) < had + SENDERS:
                await asyncio.sleep(0.01)
            await asyncio.sleep(rng.random() * 0.1)
            process.kill()
            await asyncio.gather(*sending)
    database = Database(url)
    lost = [svix_id for svix_id in acknowledged if database.get(svix_id) is None]
    newest: dict[str, int] = {}
    for number in acknowledged.values():
        newest[f"user_{number % 50}"] = max(number, newest.get(f"user_{number % 50}", 0))
    rows = {key: database.directory.user(key) for key in newest}
    database.close()
    assert not lost
    assert len(acknowledged) >= KILLS * SENDERS
    # Newer ones than were acknowledged may be there: stored, and killed before the answer left.
    assert all(row is not None and (row.updated_at or 0) >= newest[key] for key, row in rows.items())
