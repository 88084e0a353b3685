"""What is asked, all at once, and what came of it: `Facts`. Reads only; what it means is the other files' to say.

Nothing is asked but the addresses that the configuration names, and each question ends by itself within seconds.
"""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hmac import digest
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from gateway.config import Config
from gateway.config.webhooks import signing_key
from gateway.core.assertion import PATH as KEYS
from gateway.core.events import WebhookPolicy
from gateway.core.model import BackendAddress
from gateway.errors import StoreDown
from gateway.net.clerk_client import API_VERSION
from gateway.net.tls import client_context, reason_of
from gateway.ops.doctor.asking import Asked, Asker, Unreached, apart
from gateway.ops.doctor.instances import Instance
from gateway.ops.doctor.peeked import Peeked
from gateway.ops.doctor.store import look
from gateway.ops.doctor.surroundings import admin_url, is_running, local_url
from gateway.ops.doctor.upstreams import Question, questions

if TYPE_CHECKING:
    from gateway.store.look import Look

EACH_S: Final = 12.0  # after which a question is given up whatever it waits for
AT_ONCE: Final = 32
NO_EVENT: Final = b"{}"  # whoever has signed it, no gateway takes it for an event
Told = Callable[[str, bool], None]  # which question, and whether it is over


@dataclass
class Facts:
    """What came of every question; what is not there was not asked, or not answered in time."""

    key_sets: dict[str, Asked] = field(default_factory=dict)  # by issuer, as the next four
    backends: dict[str, Asked] = field(default_factory=dict)
    proxies: dict[str, Asked] = field(default_factory=dict)  # of Frontend APIs
    templates: dict[str, Asked] = field(default_factory=dict)
    users: dict[str, Asked] = field(default_factory=dict)
    endpoints: list[tuple[Question, Asked]] = field(default_factory=list)
    store: "Look | StoreDown | None" = None
    ready: Asked | None = None  # /readyz of the gateway here
    public: Asked | None = None  # /healthz below public_url
    routes: Asked | None = None  # of the running gateway
    webhooks: list[tuple[str, str, Asked]] = field(default_factory=list)  # which secret, URL, and what came of it
    signers: list[tuple[str, Asked]] = field(default_factory=list)  # where assertions' keys are, and what came
    late: list[str] = field(default_factory=list)  # questions that were given up
    broken: dict[str, str] = field(default_factory=dict)  # those that came to nothing, and what was raised


class Questions(NamedTuple):
    """What there is to ask about."""

    config: Config
    instances: tuple[Instance, ...]
    token: Peeked | None
    asker: Asker
    clock: Callable[[], float]  # Unix seconds


async def gather(about: Questions, *, told: Told, each_s: float = EACH_S) -> Facts:
    """Ask everything at once; `told` when a question begins and when it is over."""
    facts, room = Facts(), asyncio.Semaphore(AT_ONCE)

    async def bounded(label: str, work: Callable[[], Awaitable[None]]) -> None:
        async with room:
            told(label, False)
            try:
                async with asyncio.timeout(each_s):
                    await work()
            except TimeoutError:
                facts.late.append(label)
            except Exception as fault:  # the other answers are worth having all the same
                facts.broken[label] = type(fault).__name__
            finally:
                told(label, True)

    async with asyncio.TaskGroup() as tasks:
        for label, work in _all(about, facts):
            tasks.create_task(bounded(label, work))
    return facts


Work = tuple[str, Callable[[], Awaitable[None]]]


def _all(about: Questions, facts: Facts) -> Iterator[Work]:
    for instance in about.instances:
        yield from _of_clerk(about, facts, instance)
    for question in questions(about.config):
        yield question.subject, _endpoint(about, facts, question)
    if about.config.store is not None:
        yield "store", _store(about, facts)
    yield "gateway", _here(about, facts)
    if about.config.public_url is not None:
        yield "public_url", _public(about, facts)
    if admin_url(about.config) is not None:
        yield "admin", _admin(about, facts)


# --- Clerk ------------------------------------------------------------------------------------------------------------


def _of_clerk(about: Questions, facts: Facts, instance: Instance) -> Iterator[Work]:
    issuer, backend = instance.config.issuer, instance.backend

    async def keys() -> None:
        facts.key_sets[issuer] = await about.asker.ask(instance.jwks_url)

    yield instance.subject("keys"), keys
    if (policy := instance.config.frontend_api) is not None:

        async def proxy() -> None:
            facts.proxies[issuer] = await about.asker.ask(f"{policy.proxy_url}/.well-known/jwks.json")

        yield instance.subject("proxy"), proxy
    if backend is None:
        return

    def asking(into: dict[str, Asked], path: str) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            into[issuer] = await _clerk(about.asker, backend, path)

        return work

    yield instance.subject("Backend API"), asking(facts.backends, "/jwks")
    if any("template" in route.admission.token_types for route in about.config.routes):
        yield instance.subject("templates"), asking(facts.templates, "/jwt_templates")
    token = about.token
    if token is not None and token.user_id is not None and token.text("iss") in instance.config.token_policy.issuers:
        yield instance.subject("user"), asking(facts.users, f"/users/{quote(token.user_id, safe='')}")


async def _clerk(asker: Asker, backend: BackendAddress, path: str) -> Asked:
    fields = {"Authorization": f"Bearer {backend.secret_key}", "Clerk-API-Version": API_VERSION}
    return await asker.ask(f"{backend.url.rstrip('/')}/v1{path}", headers=fields)


# --- upstreams and store ----------------------------------------------------------------------------------------------


def _endpoint(about: Questions, facts: Facts, question: Question) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        context, name = None, None
        if question.endpoint.tls:
            try:
                context = await apart(client_context, question.upstream.tls)
            except OSError as wrong:
                facts.endpoints.append((question, Unreached("tls", reason_of(wrong))))
                return
            name = question.upstream.tls.server_name or question.endpoint.host
        fields = {"Host": question.host, **question.fields}
        asked = await about.asker.ask(question.url, headers=fields, tls=context, server_name=name)
        facts.endpoints.append((question, asked))

    return work


def _store(about: Questions, facts: Facts) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        assert about.config.store is not None
        facts.store = await apart(look, about.config.store.url, about.token.user_id if about.token else None)

    return work


# --- the gateway itself -----------------------------------------------------------------------------------------------


def _here(about: Questions, facts: Facts) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        url = local_url(about.config)
        if url is None:
            return
        context = _unverified() if about.config.tls is not None else None
        facts.ready = await about.asker.ask(f"{url}/readyz", tls=context)
        if is_running(facts.ready):
            await _addresses(about, facts, url, context)

    return work


def _public(about: Questions, facts: Facts) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        url = about.config.public_url
        facts.public = await about.asker.ask(f"{url}/healthz")
        if url is not None and is_running(facts.public):
            await _addresses(about, facts, url, None)

    return work


async def _addresses(about: Questions, facts: Facts, url: str, context: ssl.SSLContext | None) -> None:
    policy = about.config.webhooks
    if about.config.assertion is not None:
        facts.signers.append((url + KEYS, await about.asker.ask(url + KEYS, tls=context)))
    if not policy.needs_store:
        return
    where = url + policy.paths[0]
    for subject, secret in _secrets(policy, several=len(about.config.issuers) > 1):
        fields = _signed(secret, about.clock())
        asked = await about.asker.ask(where, method="POST", headers=fields, body=NO_EVENT, tls=context)
        facts.webhooks.append((subject, where, asked))


def _secrets(policy: WebhookPolicy, *, several: bool) -> Iterator[tuple[str, str]]:
    """Give every signing secret, with whose it is where there are several."""
    for sender in policy.senders:
        whose = f"webhooks of {sender.issuer}" if several else "webhooks"
        for number, secret in enumerate(sender.secrets, 1):
            yield whose if len(sender.secrets) == 1 else f"{whose}, secret {number}", secret


def _signed(secret: str, now: float) -> Mapping[str, str]:
    """Sign what is no event as Clerk's are signed (CLERK.md §6)."""
    svix_id, at = "msg_gateway_doctor", f"{now:.0f}"
    mac = digest(signing_key(secret), b"%b.%b.%b" % (svix_id.encode(), at.encode(), NO_EVENT), "sha256")
    return {"svix-id": svix_id, "svix-timestamp": at, "svix-signature": f"v1,{b64encode(mac).decode()}",
            "Content-Type": "application/json"}  # fmt: skip


def _unverified() -> ssl.SSLContext:
    """Make a context for the gateway's own port: what is asked there is no secret, and it is asked by address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _admin(about: Questions, facts: Facts) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        admin = about.config.admin
        assert admin is not None
        fields = {"Authorization": f"Bearer {(admin.token or b'').decode()}"}
        facts.routes = await about.asker.ask(f"{admin_url(about.config)}/v1/routes?limit=500", headers=fields)

    return work
