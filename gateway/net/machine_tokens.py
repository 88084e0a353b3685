"""Asking Clerk whether an opaque machine token is good: one call a token, so many a second, and few that wait for one.

What is good is remembered where all verdicts are (`web.deps`), what is not here, for a moment. Strangers' tokens are a
flood's only means: a token that was good lately is asked about before all of them.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import aiohttp
import orjson

from gateway.core.machine import API_KEY, M2M, OAUTH, MachinePolicy, check_opaque, principal_from_answer
from gateway.core.model import BackendAddress, Principal
from gateway.errors import ClerkApiBusy, ClerkApiDown, ClerkApiRefused, GatewayError, InvalidToken, Overloaded
from gateway.net.clerk_client import OTHER_KEY, Answer, ClerkClient, Patience

# Without Clerk's /v1, as its SDK has it; and what the question calls the token.
QUESTIONS: Final = {
    API_KEY: ("/api_keys/verify", "secret"),
    M2M: ("/m2m_tokens/verify", "token"),
    OAUTH: ("/oauth_applications/access_tokens/verify", "access_token"),
}
# A client waits for this. Asked once: what is tried again is counted again.
PATIENCE: Final = Patience(connect_s=2.0, total_s=5.0, attempts=1, refusals=0, answer_bytes=256 * 1024)
QUICK_S: Final = 1.0  # a call that failed sooner was a connection that had gone stale: it is asked once more
WAITING: Final = 10  # CONTRACT §2
REFUSED_LIFE_S: Final = 5.0
MOST_REFUSED: Final = 1_000  # more than can be asked about in that time
KNOWN_LIFE_S: Final = 3600.0  # since a token was last good
MOST_KNOWN: Final = 10_000
STOPPED: Final = "the gateway stops asking"
MOST_REST_S: Final = 60.0  # that an answer can keep the gateway from asking again


class OnEvent(Protocol):
    """Where what happens is told."""

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Log that something happened."""


class Window:
    """So many starts in any stretch of time: 20 in a second, one in two seconds."""

    def __init__(self, per_s: float) -> None:
        most = max(1, int(per_s))
        self._span_s = most / per_s
        self._starts: deque[float] = deque(maxlen=most)

    def wait_s(self, now: float) -> float:
        """Say how long until one more may start; 0.0: now."""
        if len(self._starts) < (self._starts.maxlen or 0):
            return 0.0
        return max(0.0, self._starts[0] + self._span_s - now)

    def start(self, now: float) -> None:
        """Count one that starts."""
        self._starts.append(now)


class Question(NamedTuple):
    """What Clerk is asked. Never shown: it is a secret of its owner's."""

    kind: str
    raw: bytes
    key: bytes  # the token's hash

    def __repr__(self) -> str:
        return f"Question({self.kind})"


class _Call:
    """A question that was put, or waits for it, and how many requests want its answer."""

    __slots__ = ("answer", "asked", "is_known", "question", "waiters")

    def __init__(self, question: Question, answer: asyncio.Future[Principal], *, is_known: bool) -> None:
        self.question, self.answer, self.is_known = question, answer, is_known
        self.asked: asyncio.Task[None] | None = None  # once it has left
        self.waiters = 0


class MachineTokens:
    """Asks one Clerk instance; `close` it. `now` measures, `clock` gives Unix seconds."""

    def __init__(
        self, name: str, policy: MachinePolicy, session: aiohttp.ClientSession, *, on_event: OnEvent,
        now: Callable[[], float], clock: Callable[[], float], patience: Patience = PATIENCE,
    ) -> None:  # fmt: skip
        self._name, self._policy, self._on_event = name, policy, on_event
        self._now, self._clock = now, clock
        self._clients: dict[BackendAddress, ClerkClient] = {
            address: ClerkClient(address.url, address.secret_key, session, patience=patience, now=now, clock=clock)
            for address in (policy.keyed, policy.machine) if address is not None
        }  # fmt: skip
        self._window = Window(policy.per_s)
        self._calls: dict[bytes, _Call] = {}
        self._waiting: list[_Call] = []
        self._timer: asyncio.TimerHandle | None = None
        self._refused: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._known: OrderedDict[bytes, float] = OrderedDict()  # tokens that were good, and until when that counts
        self._rest_until = float("-inf")
        self._told: str | None = None  # what of being unable to ask the log knows

    async def verify(self, kind: str, raw: bytes, key: bytes) -> Principal:
        """Say whose a token is; `key` is its hash.

        Raises:
            InvalidToken: Clerk does not take it, or it cannot be one of Clerk's.
            Overloaded: too many are asked about.
            ClerkApiDown: Clerk could not be asked.
        """
        reason = self._refusal(key)
        if reason is not None:
            raise InvalidToken(reason)
        check_opaque(raw)
        call = self._calls.get(key) or self._begin(Question(kind, raw, key))
        call.waiters += 1
        try:
            await asyncio.wait((call.answer,))  # which outlives whoever waits for it
        finally:
            call.waiters -= 1
            if not call.waiters and call.asked is None and call in self._waiting:
                self._waiting.remove(call)  # all who asked have left: it takes no turn from others
                self._settle(call, None)
        return call.answer.result()

    def _begin(self, question: Question) -> _Call:
        self.pump()  # whoever waited goes first
        rest_s = self._rest_until - self._now()
        if rest_s > 0:
            raise ClerkApiBusy(rest_s)  # the log has been told
        is_known = self._now() < self._known.get(question.key, 0.0)
        call = _Call(question, asyncio.get_running_loop().create_future(), is_known=is_known)
        self._queue(call)
        self._calls[question.key] = call
        self.pump()
        return call

    def _queue(self, call: _Call) -> None:
        """Let a call wait. Raises Overloaded: there is no place for it, nor a stranger who could give up his."""
        if len(self._waiting) >= WAITING:
            stranger = next((each for each in reversed(self._waiting) if not each.is_known), None)
            if not call.is_known or stranger is None:
                raise Overloaded
            self._waiting.remove(stranger)
            self._settle(stranger, Overloaded())
        self._waiting.append(call)

    def pump(self) -> None:
        """Start what waits and may go; come back for the rest."""
        while self._waiting and not self._window.wait_s(self._now()):
            call = next((each for each in self._waiting if each.is_known), self._waiting[0])
            self._waiting.remove(call)
            rest_s = self._rest_until - self._now()
            if rest_s > 0:
                self._settle(call, ClerkApiBusy(rest_s))
            else:
                self._window.start(self._now())
                call.asked = asyncio.get_running_loop().create_task(self._ask(call))
        if self._waiting and self._timer is None:
            wait_s = self._window.wait_s(self._now())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.pump()

    async def _ask(self, call: _Call) -> None:
        outcome: Principal | GatewayError = ClerkApiDown(detail=STOPPED)
        try:
            outcome = await self._outcome(call.question)
        except GatewayError as refused:
            outcome = refused
        finally:
            self._settle(call, outcome)

    def _settle(self, call: _Call, outcome: Principal | GatewayError | None) -> None:
        """Tell all who wait; None: nobody does."""
        self._calls.pop(call.question.key, None)
        if outcome is None:
            call.answer.cancel()
        elif isinstance(outcome, GatewayError):
            call.answer.set_exception(outcome)
            call.answer.exception()  # is taken notice of, even where everybody has left
        else:
            call.answer.set_result(outcome)

    # --- one question -------------------------------------------------------------------------------------------------

    async def _outcome(self, question: Question) -> Principal:
        address = self._policy.address(question.kind)
        if address is None:
            raise ClerkApiDown(detail=f"no key to ask about {question.kind} tokens with")
        asked_at = self._clock()
        try:
            answer = await self._answer(self._clients[address], question)
            principal = _read(question.kind, answer, asked_at=asked_at)
        except InvalidToken as refused:
            self._tell(None)
            self._refuse(question.key, refused.reason or "")
            raise
        except ClerkApiDown as down:
            if isinstance(down, ClerkApiBusy):  # to the first try or to the second
                self._rest_until = self._now() + min(down.retry_after_s or 0, MOST_REST_S)
            self._tell(down, address)
            raise
        self._tell(None)
        _remember(self._known, question.key, self._now() + KNOWN_LIFE_S, MOST_KNOWN)
        return principal

    async def _answer(self, client: ClerkClient, question: Question) -> Answer:
        path, name = QUESTIONS[question.kind]
        content, began = {name: question.raw.decode("ascii")}, self._now()
        try:
            return await client.answer("POST", path, content=content)
        except ClerkApiBusy:
            raise
        except ClerkApiDown:
            if self._now() - began > QUICK_S or self._window.wait_s(self._now()):
                raise
        self._window.start(self._now())
        return await client.answer("POST", path, content=content)

    def _refusal(self, key: bytes) -> str | None:
        entry = self._refused.get(key)
        return entry[1] if entry is not None and self._now() < entry[0] else None

    def _refuse(self, key: bytes, reason: str) -> None:
        self._known.pop(key, None)
        _remember(self._refused, key, (self._now() + REFUSED_LIFE_S, reason), MOST_REFUSED)

    def _tell(self, down: ClerkApiDown | None, address: BackendAddress | None = None) -> None:
        """Log that Clerk cannot be asked, and that it can again: once each, whatever happens in between."""
        state = None if down is None else type(down).__name__
        if state == self._told:
            return None
        self._told = state
        if down is None:
            return self._on_event("machine_tokens_verified_again", issuer=self._name)
        if not isinstance(down, ClerkApiRefused):
            effect = "machine tokens that are not remembered are answered with 503"
            return self._on_event(
                "machine_tokens_unverified", level="warning", issuer=self._name, why=down.detail, effect=effect
            )
        own = "machine_secret_key" if address is self._policy.machine is not self._policy.keyed else "secret_key"
        return self._on_event(
            "clerk_key_refused", level="error", issuer=self._name, key=own, why=down.detail,
            remedy=OTHER_KEY.format(own),
        )  # fmt: skip

    async def close(self) -> None:
        """Stop asking; whoever waits is told so."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        asked = [call.asked for call in self._calls.values() if call.asked is not None]
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        for call in tuple(self._calls.values()):  # that had not begun
            self._settle(call, ClerkApiDown(detail=STOPPED))


def _read(kind: str, answer: Answer, *, asked_at: float) -> Principal:
    """Say what Clerk said. Raises InvalidToken, ClerkApiDown, ClerkApiRefused."""
    status, code = answer.status, answer.code
    # Only where Clerk itself says so: what stands at a wrong address knows no token at all.
    if status in (400, 404, 422) and code is not None:
        raise InvalidToken("token-invalid", detail=code)
    if status in (401, 403):
        raise ClerkApiRefused(detail=f"status {status}, {code or 'without a reason'}")
    if status != 200:
        raise ClerkApiDown(detail=f"status {status}, {code or 'not in the words of Clerk'}")
    try:
        return principal_from_answer(kind, orjson.loads(answer.body), asked_at=asked_at)
    except ValueError as wrong:  # JSONDecodeError is one
        why = "what came is not JSON" if isinstance(wrong, orjson.JSONDecodeError) else f"what came {wrong}"
        raise ClerkApiDown(detail=why) from None


def _remember(entries: OrderedDict[bytes, Any], key: bytes, entry: Any, most: int) -> None:
    entries.pop(key, None)
    if len(entries) >= most:
        entries.popitem(last=False)
    entries[key] = entry
