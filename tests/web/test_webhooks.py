"""The webhook endpoint, asked over loopback; signatures are the `svix` package's own."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from svix.webhooks import Webhook

from gateway.core.events import Sender
from gateway.errors import BadRequest, ConfigError
from gateway.web import webhooks
from gateway.web.generation import Generation
from gateway.web.webhooks import Signed, Verifier, read_signed
from tests.fakes.clerk import FakeClerk
from tests.fakes.clerk_events import body, gone, user
from tests.fakes.directory import until_up
from tests.fakes.gateway import Answer, Running, gateway, settings

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
OTHER = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI="
CREATED = body("user.created", user(), instance=None)


def signed(
    data: bytes, svix_id: str = "msg_1", *, secret: str = SECRET, at: float | None = None, spelling: str = "svix"
) -> dict[str, str]:
    """Give the header of a webhook as Clerk's service sends it."""
    seconds = int(time.time() if at is None else at)
    signature = Webhook(secret).sign(svix_id, datetime.fromtimestamp(seconds, UTC), data.decode())
    return {f"{spelling}-id": svix_id, f"{spelling}-timestamp": str(seconds), f"{spelling}-signature": signature}


@asynccontextmanager
async def receiving(tmp_path: Path, *, secrets: tuple[str, ...] = (SECRET,), **more: Any) -> AsyncIterator[Running]:
    """A gateway that takes webhooks; an upstream it has none of."""
    overrides = {
        "clerk": settings(1)["clerk"] | {"webhook_signing_secrets": list(secrets)} | more.pop("clerk", {}),
        "store": {"url": f"sqlite:///{tmp_path / 'gateway.db'}"},
    }
    async with gateway(1, **(overrides | more)) as running:
        await until_up(running)
        yield running


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with receiving(tmp_path) as started:
        yield started


async def send(
    running: Running, data: bytes = CREATED, fields: Mapping[str, str] | None = None, path: str = "/webhooks/clerk"
) -> Answer:
    return await running.ask("POST", path, fields=signed(data) if fields is None else fields, body=data)


@pytest.mark.parametrize("path", ["/webhooks/clerk", "/clerk-webhook"])
@pytest.mark.parametrize("spelling", ["svix", "webhook"])
async def test_a_webhook_is_stored_before_it_is_acknowledged(running: Running, path: str, spelling: str) -> None:
    answer = await send(running, fields=signed(CREATED, spelling=spelling), path=path)
    assert (answer.status, answer.json) == (200, {"status": "stored"})
    stored = await running.app.inbox.get("msg_1")
    assert stored is not None
    assert b"secret" not in (stored.payload or b"")
    assert stored.received_at == int(running.clock() * 1000)
    known = await running.app.inbox.user("user_1")
    assert known is not None
    assert known.email == "user_1@example.com"


async def test_a_repeated_id_is_good_and_changes_nothing(running: Running) -> None:
    await send(running)
    other = body("user.deleted", gone("user_1"))
    answer = await send(running, other, signed(other))
    assert (answer.status, answer.json) == (200, {"status": "repeated"})
    known = await running.app.inbox.user("user_1")
    assert known is not None
    assert not known.deleted


async def test_an_unknown_type_is_stored(running: Running) -> None:
    data = body("tomorrow.invented", {"anything": 1})
    assert (await send(running, data)).status == 200


@pytest.mark.parametrize("count", [1, 2])
async def test_any_of_several_secrets_is_enough(tmp_path: Path, count: int) -> None:
    async with receiving(tmp_path, secrets=(OTHER, SECRET)[-count:]) as running:
        assert (await send(running)).status == 200
        other = await send(running, fields=signed(CREATED, "msg_2", secret=OTHER))
        assert other.status == (200 if count == 2 else 400)


async def test_one_matching_signature_among_several_is_enough(running: Running) -> None:
    fields = signed(CREATED)
    fields["svix-signature"] = (
        f"v1a,abc v2,x nonsense {signed(CREATED, secret=OTHER)['svix-signature']} " + fields["svix-signature"]
    )
    assert (await send(running, fields=fields)).status == 200


GOOD = signed(CREATED)
MALFORMED = {
    "no-id": {"svix-id": None},
    "no-timestamp": {"svix-timestamp": None},
    "no-signature": {"svix-signature": None},
    "empty-id": {"svix-id": ""},
    "id-with-a-blank": {"svix-id": "msg 1"},
    "id-not-ascii": {"svix-id": "msg_\xe4"},
    "id-too-long": {"svix-id": "m" * 256},
    "timestamp-is-no-number": {"svix-timestamp": "soon"},
    "timestamp-nan": {"svix-timestamp": "nan"},
    "timestamp-infinite": {"svix-timestamp": "inf"},
    "timestamp-negative": {"svix-timestamp": "-1"},
    "timestamp-a-fraction": {"svix-timestamp": GOOD["svix-timestamp"] + ".5"},
    "timestamp-huge": {"svix-timestamp": "9" * 30},
    "timestamp-past-every-calendar": {"svix-timestamp": "9" * 12},
    "signature-without-comma": {"svix-signature": "v1"},
    "signature-two-commas": {"svix-signature": "v1,abcd,abcd"},
    "signature-not-base64": {"svix-signature": "v1,*"},
    "signature-half-base64": {"svix-signature": "v1,abcde"},
    "signature-not-ascii": {"svix-signature": "v1,\xe4\xf6"},
    "signature-of-another-version": {"svix-signature": "v2," + GOOD["svix-signature"][3:]},
    "signature-of-another-id": {"svix-id": "msg_2"},
    "signature-wrong": {"svix-signature": "v1,AAAA"},
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_header_is_a_400(running: Running, change: dict[str, str | None]) -> None:
    fields = {name: value for name, value in (signed(CREATED) | change).items() if value is not None}
    answer = await send(running, fields=fields)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert answer.json["reason"] in ("signature", "timestamp")
    assert await running.app.inbox.get(fields.get("svix-id") or "-") is None


async def test_a_field_that_comes_twice_is_a_400(running: Running) -> None:
    answer = await running.ask(
        "POST", "/webhooks/clerk", fields=signed(CREATED), lines=("svix-id: msg_2",), body=CREATED
    )
    assert answer.status == 400


@pytest.mark.parametrize(("age_s", "status"), [(295, 200), (310, 400), (-295, 200), (-310, 400)])
async def test_five_minutes_either_way(running: Running, age_s: int, status: int) -> None:
    answer = await send(running, fields=signed(CREATED, at=time.time() - age_s))
    assert answer.status == status
    if status == 400:
        assert answer.json["reason"] == "timestamp"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "signature", id="no-body"),
        pytest.param(b"{}", "event", id="no-type"),
        pytest.param(b"[1]", "event", id="a-list"),
        pytest.param(b"{", "event", id="not-json"),
        pytest.param(b'{"type": "t", "data": ' + b"[" * 2000 + b"]" * 2000 + b"}", "event", id="deep"),
    ],
)
async def test_a_signed_body_that_is_no_event_is_a_400(running: Running, data: bytes, reason: str) -> None:
    answer = await send(running, data, signed(data or b"x"))
    assert (answer.status, answer.json["reason"]) == (400, reason)


@pytest.mark.parametrize("data", [CREATED + b" ", CREATED.replace(b"Ada", b"Bob"), b"\xff\xfe\x00"])
async def test_other_bytes_than_were_signed_are_a_400(running: Running, data: bytes) -> None:
    answer = await send(running, data, signed(CREATED))
    assert (answer.status, answer.json["reason"]) == (400, "signature")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_a_405(running: Running, method: str) -> None:
    answer = await running.ask(method, "/clerk-webhook")
    assert (answer.status, answer.value("allow")) == (405, "POST")


async def test_too_much_is_refused_before_it_is_read(running: Running) -> None:
    head = b"POST /webhooks/clerk HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n"
    answer = await running.raw(head + b"\r\n")
    assert (answer.status, answer.json["code"], answer.value("connection")) == (413, "body_too_large", "close")
    answer = await running.raw(head + b"Expect: 100-continue\r\n\r\n")
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


async def test_too_much_in_chunks_is_refused(running: Running) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed(CREATED).items()).encode()
    head = b"POST /webhooks/clerk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + lines + b"\r\n"
    answer = await running.raw(head + b"100001\r\n" + b"x" * 0x100001 + b"\r\n0\r\n\r\n")
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


async def test_a_body_is_asked_for_where_it_is_taken(running: Running) -> None:
    reader, writer = await running.connect()
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed(CREATED).items())
    head = f"POST /webhooks/clerk HTTP/1.1\r\nHost: a\r\nContent-Length: {len(CREATED)}\r\nExpect: 100-continue\r\n{lines}\r\n"
    writer.write(head.encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(CREATED)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_slow_body_is_a_408(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "READ_S", 0.05)
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed(CREATED).items()).encode()
    answer = await running.raw(b"POST /webhooks/clerk HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n" + lines + b"\r\n{")
    assert (answer.status, answer.json["code"]) == (408, "request_timeout")


async def test_only_so_many_bodies_are_held(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "READ_AT_ONCE", 1)
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed(CREATED).items()).encode()
    _, writer = await running.connect()
    writer.write(b"POST /webhooks/clerk HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n" + lines + b"\r\n{")
    while (answer := await send(running)).status == 200:
        await asyncio.sleep(0.01)
    assert (answer.status, answer.json["code"]) == (503, "overloaded")
    writer.close()
    while (await send(running)).status != 200:
        await asyncio.sleep(0.01)


async def test_without_a_secret_it_is_not_configured_and_nothing_is_opened(tmp_path: Path) -> None:
    async with receiving(tmp_path, secrets=(), identity={"enrich": False}) as running:
        answer = await send(running)
        assert (answer.status, answer.json["code"]) == (503, "webhooks_not_configured")
        assert answer.value("retry-after") == "60"
        assert (await running.get("/readyz")).json == {"status": "ok"}
    assert os.listdir(tmp_path) == []


async def test_without_a_path_it_is_an_ordinary_route(tmp_path: Path) -> None:
    async with receiving(tmp_path, webhooks={"path": None}, identity={"enrich": False}) as running:
        answer = await send(running)
        assert (answer.status, answer.json["code"]) == (401, "missing_credential")
    assert os.listdir(tmp_path) == []


async def test_with_the_store_down_it_is_a_503_and_the_gateway_degraded(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none' / 'gateway.db'}"
    async with gateway(
        1, clerk=settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]}, store={"url": url}
    ) as running:
        answer = await send(running)
        assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
        assert answer.value("retry-after") == "5"
        ready = await running.get("/readyz")
        assert (ready.status, ready.json) == (200, {"status": "degraded"})
        while not any(line["event"] == "store_down" for line in await running.logged()):
            await asyncio.sleep(0.01)
        (tmp_path / "none").mkdir()
        while (await send(running)).status != 200:
            await asyncio.sleep(0.05)
        assert (await running.get("/readyz")).json == {"status": "ok"}


@pytest.mark.parametrize(
    ("configured", "said", "status"),
    [
        pytest.param("ins_1", "ins_1", 200, id="the-configured-one"),
        pytest.param("ins_1", "ins_2", 400, id="another"),
        pytest.param("ins_1", None, 200, id="unsaid"),
        pytest.param(None, "ins_2", 200, id="no-kid-known"),
    ],
)
async def test_the_instance_is_checked(tmp_path: Path, configured: str | None, said: str | None, status: int) -> None:
    async with receiving(tmp_path, clerk={"instance_id": configured}) as running:
        data = body("user.created", user(), instance=said)
        answer = await send(running, data)
        assert answer.status == status
        if status == 400:
            assert answer.json["reason"] == "instance"


async def test_a_reload_changes_secrets_and_opens_what_they_need(tmp_path: Path) -> None:
    store = {"url": f"sqlite:///{tmp_path / 'gateway.db'}"}
    async with receiving(tmp_path, secrets=()) as running:
        for secret, other in ((SECRET, OTHER), (OTHER, SECRET)):
            clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [secret]}
            running.file.write(1, clerk=clerk, store=store)
            assert await running.app.reload() == ["webhooks"]
            while (answer := await send(running, fields=signed(CREATED, secret=secret))).status == 503:
                await asyncio.sleep(0.02)
            assert answer.status == 200
            assert (await send(running, fields=signed(CREATED, secret=other))).status == 400


async def test_what_is_received_is_in_the_access_line_without_any_secret(running: Running) -> None:
    await send(running)
    lines = await running.logged()
    line = next(line for line in lines if line["event"] == "request")
    assert (line["path"], line["status"], line["method"]) == ("/webhooks/clerk", 200, "POST")
    assert "secret" not in str(lines)
    assert "example.com/a.png" not in str(lines)


async def test_nothing_that_is_sent_is_a_500(running: Running) -> None:
    for count, value in enumerate(
        ("", ",", " ", "v1,", "\x80", "v1,=", "v1,====", "v1,\u00bd", ", ,", "v1 v1,v1", "\t")
    ):
        for name in GOOD:
            answer = await send(running, fields=signed(CREATED, f"odd_{count}") | {name: value})
            assert answer.status == 400, (name, value)


def test_read_signed_takes_svix_first() -> None:
    fields = signed(CREATED, "a") | signed(CREATED, "b", spelling="webhook")
    assert read_signed(CIMultiDictProxy(CIMultiDict(fields))).svix_id == "a"


async def test_the_verifier_forgets_old_secrets() -> None:
    verifier = Verifier()
    good = Signed(*signed(CREATED).values())
    await verifier.check((SECRET,), good, CREATED)
    with pytest.raises(BadRequest):
        await verifier.check((OTHER,), good, CREATED)
    await verifier.check((OTHER, SECRET), good, CREATED)


@pytest.mark.parametrize(
    ("configured", "kids", "instances"),
    [
        pytest.param(None, {"ins_1", "ins_2"}, {"ins_1", "ins_2"}, id="the-key-set-s-kids"),
        pytest.param("ins_3", {"ins_1"}, {"ins_3"}, id="the-configured-one"),
        pytest.param(None, {"key-1"}, set(), id="kids-of-another-kind"),
        pytest.param(None, None, set(), id="no-keys"),
    ],
)
def test_which_instances_are_known(configured: str | None, kids: set[str] | None, instances: set[str]) -> None:
    names = ("another",) if kids is None else ("another", "clerk")
    config: Any = SimpleNamespace(issuers=[SimpleNamespace(name=name) for name in names])
    keys: Any = tuple(SimpleNamespace(kids=frozenset(each or ())) for each in ({"ins_9"}, kids))[: len(names)]
    known = Generation(config, keys, None).instances_of(Sender("clerk", (), configured))  # type: ignore[arg-type]
    assert known == instances


async def test_the_secret_of_one_instance_says_nothing_for_another(tmp_path: Path) -> None:
    blocks = [
        {"name": name, "issuer": f"{name}.example", "jwt_key": FakeClerk().pem(), "instance_id": f"ins_{name}",
         "webhook_signing_secrets": [secret]}
        for name, secret in (("one", SECRET), ("two", OTHER))
    ]  # fmt: skip
    store = {"url": f"sqlite:///{tmp_path / 'gateway.db'}"}
    async with gateway(1, issuers=blocks, clerk=None, store=store) as running:
        await until_up(running)
        for name, secret, status in (("one", SECRET, 200), ("two", OTHER, 200), ("two", SECRET, 400)):
            data = body("user.created", user(), instance=f"ins_{name}")
            answer = await send(running, data, signed(data, f"msg_{name}_{status}", secret=secret))
            assert answer.status == status
        assert answer.json["reason"] == "instance"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        pytest.param({"store": {"url": "postgresql://gw:hunter2@db/gateway"}}, "store.url", id="store"),
        pytest.param({"webhooks": {"path": "/other"}}, "webhooks.path", id="path"),
        pytest.param({"webhooks": {"aliases": []}}, "webhooks.aliases", id="aliases"),
    ],
)
async def test_what_needs_a_restart_is_said(running: Running, tmp_path: Path, change: dict[str, Any], key: str) -> None:
    clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]}
    running.file.write(1, **({"clerk": clerk, "store": {"url": f"sqlite:///{tmp_path / 'gateway.db'}"}} | change))
    with pytest.raises(ConfigError) as refused:
        await running.app.reload()
    assert [finding.key for finding in refused.value.findings] == [key]  # type: ignore[attr-defined]
    assert "hunter2" not in str(refused.value)
    assert (await send(running)).status == 200


IMPORTS = """
import asyncio, json, os, sys, tempfile, threading
from gateway.config import load_text
from gateway.telemetry import LineWriter
from gateway.web.app import Gateway

imported = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "svix":
            on_loop = threading.current_thread() is threading.main_thread()
            imported.append({"started": gateway._started.is_set(), "on_loop": on_loop})

def config(signed):
    secrets = ["whsec_" + "c2VjcmV0" * 4] if signed else []
    return load_text(json.dumps({
        "listen": {"host": "127.0.0.1", "port": 0}, "admin": {"port": None}, "logs": {"level": "error"},
        "store": {"url": f"sqlite:///{folder}/x.db"}, "clerk": {"webhook_signing_secrets": secrets},
        "upstreams": {"api": {"url": "http://127.0.0.1:1"}},
        "routes": [{"path": "/*", "upstream": "api", "auth": "public"}],
    }), {}, name="x.yaml")

async def main(first, then):
    global gateway
    gateway = Gateway(config(first), reread=lambda: config(then))
    await gateway.start()
    await gateway.reload()
    await gateway.close()  # which waits for what was begun

with tempfile.TemporaryDirectory() as folder:
    sys.meta_path.insert(0, Watch())
    asyncio.run(main(*json.loads(sys.argv[1])))
print(json.dumps(imported), "svix" in sys.modules)
"""


@pytest.mark.parametrize(
    ("signed", "imported"),
    [
        pytest.param([True, True], [{"started": True, "on_loop": False}], id="secrets"),
        pytest.param([False, True], [{"started": True, "on_loop": False}], id="secrets-by-a-reload"),
        pytest.param([False, False], [], id="no-secrets"),
    ],
)
def test_what_verifies_is_imported_beside_the_loop_once_it_listens(
    signed: list[bool], imported: list[dict[str, bool]]
) -> None:
    command = [sys.executable, "-c", IMPORTS, json.dumps(signed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"{json.dumps(imported)} {bool(imported)}"
