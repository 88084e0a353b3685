"""What is asked of Clerk's Backend API, and what of its answers is left to whoever asked; the rest: `test_clerk_api`."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.errors import ClerkApiDown
from gateway.net.clerk_client import Answer, ClerkClient, Patience, open_session
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors
from tests.fakes.gateway import Clock


@pytest.fixture
async def clerk() -> AsyncIterator[FakeBackendApi]:
    async with FakeBackendApi(World()) as started:
        yield started


@pytest.fixture
async def client(clerk: FakeBackendApi) -> AsyncIterator[ClerkClient]:
    async with open_session() as session:
        yield ClerkClient(clerk.url, clerk.secret_key, session, patience=Patience(attempts=1))


async def test_content_is_sent_as_json_and_a_no_is_an_answer(clerk: FakeBackendApi, client: ClerkClient) -> None:
    clerk.canned.append(Canned(404, errors("token-invalid")))
    answer = await client.answer("POST", "/m2m_tokens/verify", content={"token": "mt_1"})
    assert (answer.status, answer.code) == (404, "token-invalid")
    assert clerk.requests == ["POST /m2m_tokens/verify"]


async def test_one_attempt_is_one(clerk: FakeBackendApi, client: ClerkClient) -> None:
    clerk.canned += [Canned(500, b"")] * 2
    with pytest.raises(ClerkApiDown):
        await client.answer("GET", "/v1/users")
    assert len(clerk.requests) == 1


async def test_who_comes_last_has_the_last_turn(clerk: FakeBackendApi) -> None:
    now, woken = Clock(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await woken.wait()
        await asyncio.sleep(0)

    async with open_session() as session:
        client = ClerkClient(clerk.url, clerk.secret_key, session, per_s=1, now=now, sleep=sleep)
        await client.answer("GET", "/v1/first")
        waiting = asyncio.create_task(client.answer("GET", "/v1/second"))
        await asyncio.sleep(0)
        now.seconds += 1  # its turn has come, but not yet its wakening
        last = asyncio.create_task(client.answer("GET", "/v1/last"))
        await asyncio.sleep(0)
        woken.set()
        async with asyncio.timeout(5):
            await waiting
        now.seconds += 1
        await last
    assert clerk.requests == ["GET /v1/first", "GET /v1/second", "GET /v1/last"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": []}', b'{"errors": [{"code": 1}]}', b"{}"])
def test_a_code_is_clerks_or_none(body: bytes) -> None:
    assert Answer(404, body).code is None
