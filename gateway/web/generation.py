"""One configuration's worth of everything, made from a `Config`; what is unchanged is taken over from the one before.

A request belongs to the generation it began under, so nothing of one is ever changed: a reload makes the next.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple
from weakref import WeakSet

import aiohttp

from gateway.config import Config, Finding, IssuerConfig
from gateway.core.assertion import PATH as ASSERTION_KEYS
from gateway.core.events import Sender
from gateway.core.frontend_api import ClerkFields, FrontendApiProxies
from gateway.core.handshake import DOCUMENT_FIELDS
from gateway.core.headers import FieldRules
from gateway.core.machine import MachinePolicy
from gateway.core.model import BackendAddress
from gateway.core.routing import RouteTable
from gateway.errors import ConfigError
from gateway.net.clerk_client import open_session
from gateway.net.exchange import forward
from gateway.net.handshakes import Handshakes
from gateway.net.jwks import KeySource, RemoteKeys, StaticKeys
from gateway.net.machine_tokens import MachineTokens
from gateway.net.upstreams import Upstreams
from gateway.store.signing_keys import KeysUnusable
from gateway.web.assertions import Assertions, Signer
from gateway.web.deps import Deps, Events, Revoked, VerifiedTokens
from gateway.web.documents import identify_client
from gateway.web.issuers import Issuer, Issuers, Pages
from gateway.web.local import PATHS
from gateway.web.people import People
from gateway.web.rates import Buckets, rates_of

CLOCK_S: Final = 5.0  # by which a clock may be put back without a verdict lasting much longer than it should
# What a listening socket or a process is made with.
FIXED: tuple[tuple[str, Callable[[Config], object]], ...] = (
    ("listen.host", lambda config: config.host),
    ("listen.port", lambda config: config.port),
    ("listen.tls", lambda config: "null" if config.tls is None else "a mapping"),
    ("admin.host", lambda config: config.admin and config.admin.host),
    ("admin.port", lambda config: config.admin and config.admin.port),
    ("store.url", lambda config: config.store),
    ("webhooks.path", lambda config: next(iter(config.webhooks.paths), None)),
    ("webhooks.aliases", lambda config: list(config.webhooks.paths[1:])),
)


class Generation(NamedTuple):
    """A configuration, the keys of its issuers in their order, and what requests need of both."""

    config: Config
    keys: tuple[KeySource, ...]
    deps: Deps

    def instances_of(self, sender: Sender) -> frozenset[str]:
        """Give the ids that this sender's events may have; none: any. Clerk: a key's kid is the id of its instance."""
        if sender.instance is not None:
            return frozenset({sender.instance})
        named = zip(self.config.issuers, self.keys, strict=True)
        keys = next((keys for issuer, keys in named if issuer.name == sender.issuer), None)
        return frozenset(kid for kid in (keys.kids if keys else ()) if kid.startswith("ins_"))

    @property
    def has_keys(self) -> bool:
        """Whether tokens can be verified, of one instance at least."""
        return not self.keys or any(keys.ready for keys in self.keys)

    @property
    def has_all_keys(self) -> bool:
        """Whether tokens of every instance can be verified."""
        return all(keys.ready for keys in self.keys)


class Generations:
    """Makes them one after the other, and holds what outlives each."""

    def __init__(
        self, upstreams: Upstreams, buckets: Buckets, log: Events, *, revoked: Revoked, assertions: Assertions,
        now: Callable[[], float], monotonic: Callable[[], float], first_keys_s: float,
    ) -> None:  # fmt: skip
        self._upstreams, self._buckets, self._log, self._revoked = upstreams, buckets, log, revoked
        self._assertions = assertions
        self._now, self._monotonic, self._first_keys_s = now, monotonic, first_keys_s
        self._random_bits = random.Random().getrandbits  # noqa: S311  ids, not secrets: unique is enough
        self._session: aiohttp.ClientSession | None = None
        self._running: set[RemoteKeys] = set()  # keys that are being refreshed
        self._machines: dict[tuple[str, MachinePolicy], MachineTokens] = {}
        self._clerk: aiohttp.ClientSession | None = None  # which machine tokens are asked about with
        self._handshakes: dict[tuple[str, BackendAddress], Handshakes] = {}
        self._verdicts: WeakSet[VerifiedTokens] = WeakSet()  # those of requests that began before a reload too
        self._seen_at = now()

    async def first(self, config: Config, people: People | None) -> Generation:
        """Make the first one; where the keys cannot be had soon, without them.

        Raises:
            ConfigError: there is nothing to sign the assertion with.
        """
        signer = await self._signer(config)
        keys = await self._all_keys(config.issuers)
        for issuer, source in zip(config.issuers, keys, strict=True):
            if not source.ready:
                effect = "only public routes work" if len(keys) == 1 else f"no token of {issuer.name} can be verified"
                self._log.event("keys_unavailable", level="error", url=issuer.jwks_url, effect=effect)
        return Generation(config, keys, self._deps(config, keys, VerifiedTokens(), people, signer))

    async def next(self, old: Generation, config: Config, people: People | None) -> Generation:
        """Make the one after `old`, which stays as it is.

        Raises:
            ConfigError: it needs a restart, or its keys cannot be had, or those of the assertion.
        """
        needs_restart = tuple(_fixed(old.config, config))
        if needs_restart:
            raise ConfigError(needs_restart)
        had = {_source(issuer): keys for issuer, keys in zip(old.config.issuers, old.keys, strict=True)}
        keys = await self._all_keys(config.issuers, had)
        made = [source for source in keys if source not in old.keys]
        missing = tuple(
            _no_keys(config, issuer)
            for issuer, source in zip(config.issuers, keys, strict=True) if source in made and not source.ready
        )  # fmt: skip
        try:
            if missing:
                raise ConfigError(missing)
            signer = await self._signer(config)  # last: from here on it is the new one's keys that are looked after
        except ConfigError:
            for source in made:
                await self._end(source)
            raise
        verified = old.deps.verified if keys == old.keys and _judges_alike(old.config, config) else VerifiedTokens()
        return Generation(config, keys, self._deps(config, keys, verified, people, signer))

    async def retire(self, old: Generation, new: Generation) -> None:
        """Stop refreshing what the new one does not use; who already waits for a key still gets it."""
        for keys in old.keys:
            if isinstance(keys, RemoteKeys) and keys not in new.keys:
                self._running.discard(keys)
                await keys.retire()
        # Requests that wait for an answer still get it: nothing is closed here.
        used = {(issuer.name, issuer.machines) for issuer in new.config.issuers}
        self._machines = {key: machines for key, machines in self._machines.items() if key in used}
        asked = {(issuer.name, issuer.backend) for issuer in new.config.issuers if issuer.pages is not None}
        self._handshakes = {key: clerk for key, clerk in self._handshakes.items() if key in asked}

    async def close(self) -> None:
        """Stop refreshing keys, and asking about tokens."""
        for machines in self._machines.values():
            await machines.close()
        if self._clerk is not None:
            await self._clerk.close()
        for keys in tuple(self._running):
            await self._end(keys)
        for handshakes in self._handshakes.values():
            await handshakes.close()
        if self._session is not None:
            await self._session.close()

    async def _end(self, keys: KeySource) -> None:
        if isinstance(keys, RemoteKeys):
            self._running.discard(keys)
            await keys.close()

    async def _signer(self, config: Config) -> Signer | None:
        try:
            return await self._assertions.signer(config.assertion, self._random_bits)
        except KeysUnusable as error:
            key = "identity.assertion.keys_dir"
            raise ConfigError((Finding(config.source, None, key, str(error), None),)) from error

    async def _all_keys(
        self, issuers: Sequence[IssuerConfig], had: Mapping[object, KeySource] = MappingProxyType({})
    ) -> tuple[KeySource, ...]:
        """Give the keys of each issuer: those that there are, or new ones, all fetched at once."""
        return tuple(await asyncio.gather(*(self._keys(issuer, had.get(_source(issuer))) for issuer in issuers)))

    async def _keys(self, issuer: IssuerConfig, had: KeySource | None) -> KeySource:
        if had is not None:
            return had
        if issuer.static_keys is not None:
            return StaticKeys(issuer.static_keys)
        assert issuer.jwks_url is not None
        keys = RemoteKeys(
            issuer.jwks_url, self._opened(), now=self._monotonic, rng=random.SystemRandom().random,
            on_event=self._log.event,
        )  # fmt: skip
        self._running.add(keys)  # before anything is waited for: `close` finds it
        keys.start()
        await keys.first(self._first_keys_s)
        return keys

    def _machine_tokens(self, issuer: IssuerConfig) -> MachineTokens | None:
        """Give what asks an instance about machine tokens: the same as before where nothing of that has changed."""
        policy = issuer.machines
        if policy is None:
            return None
        made = self._machines.get((issuer.name, policy))
        if made is None:
            self._clerk = self._clerk or open_session()
            made = self._machines[issuer.name, policy] = MachineTokens(
                issuer.name, policy, self._clerk, on_event=self._log.event, now=self._monotonic, clock=self._now
            )
        return made

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session()
        return self._session

    def _pages(self, issuer: IssuerConfig) -> Pages | None:
        if issuer.pages is None or not issuer.pages.handshake or issuer.backend is None:
            return None if issuer.pages is None else Pages(issuer.pages)
        clerk = self._handshakes.get((issuer.name, issuer.backend))
        if clerk is None:
            clerk = self._handshakes[issuer.name, issuer.backend] = Handshakes(
                issuer.name, issuer.backend, self._opened(), on_event=self._log.event, now=self._monotonic
            )
        return Pages(issuer.pages, clerk)

    def forget(self, *, user: str | None = None, session: str | None = None, org: str | None = None) -> None:
        """Have the verdicts on whoever fits reached anew, under every configuration that requests still go by."""
        for verified in self._verdicts:
            verified.forget(user=user, session=session, org=org)

    def sweep(self) -> None:
        """Forget every verdict where the clock was set back: by it, none of Clerk's would end when it was to."""
        now = self._now()
        if now < self._seen_at - CLOCK_S:
            self.forget()
        self._seen_at = now

    def _deps(
        self, config: Config, keys: Sequence[KeySource], verified: VerifiedTokens, people: People | None,
        signer: Signer | None,
    ) -> Deps:  # fmt: skip
        issuers = [
            Issuer(
                issuer.name,
                source,
                issuer.token_policy,
                issuer.credentials,
                self._machine_tokens(issuer),
                self._pages(issuer),
            )
            for issuer, source in zip(config.issuers, keys, strict=True)
        ]
        self._verdicts.add(verified)
        taken = (*config.routes, *(proxy.route for proxy in config.frontend_api_proxies))
        return Deps(
            routes=RouteTable(config.routes),
            # Always another object: by it a connection sees that what it remembers of its last request is void.
            fields=FieldRules(
                config.identity.prefix,
                config.identity.reserved_names,
                also_watched=DOCUMENT_FIELDS if any(issuer.pages is not None for issuer in config.issuers) else (),
            ),
            cors=config.cors,
            issuers=Issuers(issuers, pages=identify_client) if issuers else None,
            identity=config.identity,
            assertions=signer,
            verified=verified,
            revoked=self._revoked,
            people=people if config.needs_store else None,
            upstreams=self._upstreams.adopt({route.upstream for route in taken}),
            forward=forward,
            rates=rates_of(config.rates, taken, self._buckets),
            own_paths=PATHS.union(config.webhooks.paths, [ASSERTION_KEYS] if config.assertion else ()),
            frontend_apis=_frontend_apis(config),
            trusted_proxies=config.trusted_proxies,
            log=self._log,
            now=self._now,
            random_bits=self._random_bits,
        )


def _source(issuer: IssuerConfig) -> object:
    """Say where keys come from: what is the same of two issuers whose keys are the same."""
    return issuer.jwks_url, issuer.static_keys


def _judges_alike(old: Config, new: Config) -> bool:
    """Say whether a verdict on a token, and what upstreams are told of it, would be the same under both."""
    one, other = ([(each.name, each.token_policy, each.machines) for each in config.issuers] for config in (old, new))
    return one == other and old.identity == new.identity and old.assertion == new.assertion


def _frontend_apis(config: Config) -> FrontendApiProxies | None:
    identity = config.identity
    fields = ClerkFields(identity.prefix, identity.reserved_names)
    return FrontendApiProxies(config.frontend_api_proxies, fields) if config.frontend_api_proxies else None


def _fixed(old: Config, new: Config) -> Iterator[Finding]:
    for key, value in FIXED:
        if value(old) != value(new):
            had = value(old)
            remedy = f"Restart the gateway, or put it back to {'null' if had is None else had}"
            yield Finding(new.source, None, key, "cannot change while the gateway runs", remedy)


def _no_keys(config: Config, issuer: IssuerConfig) -> Finding:
    message = f"the keys at {str(issuer.jwks_url).partition('?')[0]} cannot be had, so no token could be verified"
    return Finding(config.source, None, issuer.key, message, "See jwks_failed in the log; reload again once they can")


def changed(old: Config, new: Config) -> list[str]:
    """Name the parts in which two configurations differ."""
    return [name for name in Config.__dataclass_fields__ if name not in ("warnings", "source")
            and getattr(old, name) != getattr(new, name)]  # fmt: skip
