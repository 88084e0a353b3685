import asyncio
import time

import pytest

from gateway.config import load_text
from gateway.ops.doctor.asking import Answer, Asker, Unreached
from gateway.ops.doctor.facts import Questions, gather
from gateway.ops.doctor.instances import instances_of
from gateway.ops.doctor.peeked import peek
from tests.fakes.certificates import authority
from tests.ops.doctor.scene import SECRET_KEY, WEBHOOK_SECRET, scene


async def gathered(world, *, token=None, each_s=10.0):
    config = load_text(world.text, {}, name="test.yaml")
    told = []
    async with Asker() as asker:
        about = Questions(config, instances_of(config), peek(token) if token else None, asker, time.time)
        facts = await gather(about, told=lambda label, is_over: told.append((label, is_over)), each_s=each_s)
    return facts, told


async def test_everything_is_asked_once_and_told(tmp_path):
    async with scene(tmp_path) as world:
        facts, told = await gathered(world, token=world.token())
        issuer = world.issuer.url
        asked = [facts.key_sets[issuer], facts.backends[issuer], facts.users[issuer], facts.endpoints[0][1]]
        assert [each.status for each in asked] == [200] * 4
        assert facts.store.missing
        assert facts.ready == Unreached("refused")
        assert (facts.public, facts.routes, facts.late, facts.templates, facts.webhooks) == (None, None, [], {}, [])
        labels = {"keys", "Backend API", "user", "upstream api", "store", "gateway"}
        assert {label for label, _ in told} == labels
        assert sorted(told) == sorted([(label, over) for label in labels for over in (False, True)])
        assert world.api.last_headers["Authorization"] == f"Bearer {SECRET_KEY}"
        assert sorted(world.api.requests) == ["GET /v1/jwks", "GET /v1/users/user_1"]


async def test_the_secret_key_goes_to_the_backend_api_alone(tmp_path):
    async with scene(tmp_path) as world:
        world.sections["public_url"] = world.issuer.url
        await gathered(world, token=world.token())
        assert "Authorization" not in world.issuer.last_headers
        assert all(request.value("authorization") is None for request in world.echo.requests)


async def test_another_issuers_user_is_not_asked_for(tmp_path):
    async with scene(tmp_path) as world:
        facts, _ = await gathered(world, token=world.token(iss="https://elsewhere.example"))
        assert facts.users == {}


async def test_what_hangs_is_given_up_and_the_rest_is_there(tmp_path):
    async def silent(reader, writer):
        await reader.read()

    async with scene(tmp_path, script=silent) as world:
        world.issuer.hold = asyncio.Event()
        facts, told = await gathered(world, each_s=1.0)
        assert set(facts.late) == {"keys", "upstream api"}
        assert isinstance(facts.backends[world.issuer.url], Answer)
        assert ("keys", True) in told


async def test_a_certificate_file_that_cannot_be_used_is_said(tmp_path):
    async with scene(tmp_path) as world:
        ca = authority().write(tmp_path)
        world.sections["upstreams"] = {"api": {"url": "https://127.0.0.1:1", "tls": {"ca": ca}}}
        config = load_text(world.text, {}, name="test.yaml")
        (tmp_path / "ca.pem").unlink()
        async with Asker() as asker:
            facts = await gather(Questions(config, (), None, asker, time.time), told=lambda *_: None)
        assert facts.endpoints[0][1].why == "tls"


@pytest.mark.parametrize("answered", [b'{"status": "ok"}', b"<html>"])
async def test_a_signed_nothing_goes_to_gateways_alone(tmp_path, answered):
    async with scene(tmp_path) as world:
        world.issuer.body = answered
        world.sections["public_url"] = world.issuer.url
        facts, _ = await gathered(world)
        posted = [url for _, url, _ in facts.webhooks]
        assert WEBHOOK_SECRET not in str(world.issuer.last_headers)
    assert posted == ([f"{world.issuer.url}/webhooks/clerk"] if answered.startswith(b"{") else [])


async def test_every_secret_is_tried(tmp_path):
    async with scene(tmp_path) as world:
        world.issuer.body = b'{"status": "ok"}'
        world.sections["public_url"] = world.issuer.url
        world.clerk_section["webhook_signing_secrets"] = [WEBHOOK_SECRET, "whsec_YW5vdGhlcmFub3RoZXJhbm90aGVy"]
        facts, _ = await gathered(world)
        assert [subject for subject, _, _ in facts.webhooks] == ["webhooks, secret 1", "webhooks, secret 2"]
        shop, world.clerk_section = world.clerk_section | {"name": "shop"}, {}
        team = {"name": "team", "issuer": "http://127.0.0.1:1", "webhook_signing_secrets": [WEBHOOK_SECRET]}
        world.sections["issuers"] = [shop | {"webhook_signing_secrets": []}, team]
        facts, _ = await gathered(world)
        assert [subject for subject, _, _ in facts.webhooks] == ["webhooks of team"]


async def test_a_question_that_breaks_takes_no_other_along(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.ops.doctor.facts.look", lambda *_: 1 / 0)
    async with scene(tmp_path) as world:
        facts, _ = await gathered(world)
        assert facts.broken == {"store": "ZeroDivisionError"}
        assert isinstance(facts.key_sets[world.issuer.url], Answer)
