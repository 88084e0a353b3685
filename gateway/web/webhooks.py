"""Clerk's webhooks: verified over the bytes as they came, stored, acknowledged. Nothing slow, and nothing but that.

Whatever cannot be verified or read is a 400 and never a 500; what cannot be stored is a 503, and Clerk sends it again.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from gateway.core.events import Sender, WebhookPolicy, as_name, check_instance, read_event
from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    Overloaded,
    RequestTimeout,
    StoreDown,
    WebhooksNotConfigured,
)
from gateway.store.base import Arrival, Inbox
from gateway.web.local import Address, read_body, refusal

if TYPE_CHECKING:
    from svix.webhooks import Webhook

READ_S: Final = 10.0  # for the whole body; Svix gives up after 15 s
READ_AT_ONCE: Final = 64  # bodies: anybody may send one, and it is held in memory until it is verified
SPELLINGS: Final = ("svix", "webhook")  # Svix's own names come first, as in its libraries
TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")  # Unix seconds; the library would read `nan` and `1e9` too
# Other versions are passed over, as the libraries do; what is no signature at all would make them raise anything.
SIGNATURE: Final = re.compile(r"v1,(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Receiving(Protocol):
    """A gateway, as its webhook endpoint sees it (`web.app`)."""

    @property
    def webhooks(self) -> WebhookPolicy:
        """The policy in force."""

    def instances_of(self, sender: Sender) -> frozenset[str]:
        """Give the ids of the Clerk instance whose webhooks a sender's are; none: any."""

    @property
    def inbox(self) -> Inbox:
        """Where they are kept. Raises StoreDown where there is nothing."""

    def subscribers(self, kind: str) -> tuple[str, ...]:
        """Name the upstreams that events of a type are delivered to."""

    def learn(self, arrival: Arrival) -> None:
        """Take up what one says that has just been stored."""

    def end(self, arrival: Arrival) -> None:
        """Refuse what one ends that could not be stored."""


class Signed(NamedTuple):
    """What a sender says beside the body."""

    svix_id: str
    timestamp: str
    signatures: str


def webhook_addresses(gateway: Receiving, paths: Sequence[str], *, now: Callable[[], float]) -> tuple[Address, ...]:
    """Give the endpoint at each of its paths."""
    receiver = Receiver(gateway, now=now)
    return tuple(Address(hdrs.METH_POST, path, receiver.receive, receiver.expect) for path in paths)


class Receiver:
    """The endpoint; `now` in Unix seconds."""

    def __init__(self, gateway: Receiving, *, now: Callable[[], float]) -> None:
        self._gateway, self._now = gateway, now
        self._verifier = Verifier()
        self._reading = 0

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`: a body that will not be taken is not asked for."""
        try:
            self._admit(request)
        except GatewayError as error:
            return refusal(request, error)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Verify, store, acknowledge."""
        policy = self._admit(request)  # 503 webhooks_not_configured, 413
        signed = read_signed(request.headers)  # 400
        body = await self._read(request, policy.max_body_bytes)  # 408, 413
        signers = await self._verifier.check(policy.secrets, signed, body)  # 400
        event = read_event(body, keep_private=policy.private_metadata)  # 400
        for sender in policy.senders:
            if not signers.isdisjoint(sender.secrets):
                check_instance(event, self._gateway.instances_of(sender))  # 400
        wanted = self._gateway.subscribers(event.type)
        arrival = Arrival(signed.svix_id, event, int(self._now() * 1000), wanted)
        try:
            new = await self._gateway.inbox.put(arrival)  # 503 store_unavailable
        except StoreDown:
            # It is genuine, and what it ends should not have to wait for a disk; Clerk sends it again.
            self._gateway.end(arrival)
            raise
        if new:
            self._gateway.learn(arrival)
        return web.json_response({"status": "stored" if new else "repeated"})

    def _admit(self, request: web.Request) -> WebhookPolicy:
        policy = self._gateway.webhooks
        if not policy.secrets:
            raise WebhooksNotConfigured
        if (request.content_length or 0) > policy.max_body_bytes:
            raise BodyTooLarge
        if self._reading >= READ_AT_ONCE:
            raise Overloaded
        return policy

    async def _read(self, request: web.Request, most: int) -> bytes:
        self._reading += 1
        try:
            async with asyncio.timeout(READ_S):
                return await read_body(request, most)
        except TimeoutError as error:
            raise RequestTimeout from error
        finally:
            self._reading -= 1


def read_signed(headers: CIMultiDictProxy[str]) -> Signed:
    """Read who sent it when, and the signatures that could be one.

    Raises:
        BadRequest: reason `signature`.
    """
    values = []
    for name in ("id", "timestamp", "signature"):
        found = next((sent for each in SPELLINGS if (sent := headers.getall(f"{each}-{name}", []))), [])
        if len(found) != 1:
            raise BadRequest("signature", detail=f"{name} is missing, or there twice")
        values.append(found[0].strip())
    svix_id, timestamp, signature = values
    possible = [each for each in signature.split(" ") if SIGNATURE.fullmatch(each)]
    if as_name(svix_id) is None or not TIMESTAMP.fullmatch(timestamp) or not possible:
        raise BadRequest("signature", detail="malformed")
    return Signed(svix_id, timestamp, " ".join(possible))


def import_svix() -> None:
    """Import what verifies webhooks: for a thread, once nobody waits for a start and before the first one comes."""
    import svix.webhooks  # noqa: F401


class Verifier:
    """svix' verification, against several secrets. Imported only where it is used: it takes 0.3 s and 13 MiB."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()
        self._webhooks: tuple[Webhook, ...] = ()

    async def check(self, secrets: tuple[str, ...], signed: Signed, body: bytes) -> frozenset[str]:
        """Check that one of these secrets has signed the body, within five minutes of now, and give those that have.

        Raises:
            BadRequest: reason `signature`, or `timestamp` for one that is not of now.
        """
        if secrets != self._secrets:
            self._webhooks = await asyncio.to_thread(_made, secrets)
            self._secrets = secrets
        faults = [_fault(webhook, signed, body) for webhook in self._webhooks]
        signers = frozenset(secret for secret, fault in zip(secrets, faults, strict=True) if fault is None)
        if not signers:
            first = faults[0] or ""
            raise BadRequest("timestamp" if "timestamp" in first else "signature", detail=first)
        return signers


def _made(secrets: tuple[str, ...]) -> "tuple[Webhook, ...]":
    from svix.webhooks import Webhook

    return tuple(map(Webhook, secrets))


def _fault(webhook: "Webhook", signed: Signed, body: bytes) -> str | None:
    from svix.webhooks import WebhookVerificationError

    names = ("svix-id", "svix-timestamp", "svix-signature")
    try:
        webhook.verify(body, dict(zip(names, signed, strict=True)))  # 2.x gives nothing back
    except (WebhookVerificationError, ValueError) as error:  # ValueError: a body that is not UTF-8
        return str(error) if isinstance(error, WebhookVerificationError) else type(error).__name__
    return None
