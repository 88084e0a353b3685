"""The composition root: builds everything once, in order, exchanges it on a reload, and closes it in reverse."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from gateway.config import Config, Finding
from gateway.core.admin import AdminPolicy
from gateway.core.delivery import Subscription, subscribers
from gateway.core.events import Sender, WebhookPolicy
from gateway.core.model import Limits
from gateway.core.reconcile import SyncPolicy
from gateway.core.revocation import Revocation
from gateway.core.routing import Route
from gateway.errors import ConfigError, Draining
from gateway.net.clerk_access import ClerkAccess, Enders
from gateway.net.deadlines import Deadlines
from gateway.net.jwks import KeySource
from gateway.net.tls import Contexts, Reread, reason_of
from gateway.net.upstreams import Balancer, Upstreams
from gateway.store.base import Arrival, Replayed
from gateway.store.sql import SqlStore
from gateway.telemetry import LineWriter, Log, standard_output
from gateway.web.accept import Acceptor, listen
from gateway.web.admin import LIMITS, admin_application, admin_deps
from gateway.web.admin_revoke import Revoked, SessionEnder
from gateway.web.assertions import Assertions, Signer, key_set_address
from gateway.web.deps import Deps
from gateway.web.generation import Generation, Generations, changed
from gateway.web.listener import Listener
from gateway.web.local import health, own_application
from gateway.web.rates import MemoryBuckets
from gateway.web.records import Records
from gateway.web.reload import Reloads
from gateway.web.webhooks import import_svix, webhook_addresses

FIRST_KEYS_S = 5.0  # then it listens without: public routes work, `/readyz` says 503
FIRST_RECORDS_S = 5.0  # then it listens without what was revoked before


class Gateway:
    """A running gateway: `start`, then `stop`. `port` is the one it listens on.

    `reread` gives the configuration as it is now, from a thread; without it a reload finds what is in force already.
    """

    def __init__(
        self,
        config: Config,
        *,
        reread: Callable[[], Config] | None = None,
        writer: LineWriter | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        first_keys_s: float = FIRST_KEYS_S,
    ) -> None:
        logs = config.logs
        self._config, self._reread = config, reread or (lambda: config)
        self.log = Log(writer or standard_output(), form=logs.format, level=logs.level, access=logs.access)
        self.deadlines = Deadlines(monotonic)
        self._contexts = Contexts(self.log.event)
        self._upstreams = Upstreams(self.deadlines, self._contexts, on_event=self.log.event)
        self._buckets = MemoryBuckets(monotonic)
        self._clerk = ClerkAccess(lambda: self._generation.config.backends)
        self._records = Records(
            self, self.log, self._contexts, self._clerk, now=now,
            changed=lambda user: self._generations.forget(user=user),
        )  # fmt: skip
        self._assertions = Assertions(self.log.event, now=now, monotonic=monotonic)
        self._generations = Generations(
            self._upstreams, self._buckets, self.log, revoked=self._records.revocations, assertions=self._assertions,
            now=now, monotonic=monotonic, first_keys_s=first_keys_s,
        )  # fmt: skip
        self._now = now
        self._generation: Generation
        self._own: list[web.AppRunner] = []
        self._acceptor: Acceptor | None = None
        self._admin_acceptor: Acceptor | None = None
        self._started, self._stopped = asyncio.Event(), asyncio.Event()
        self._reloads = Reloads(self._reload, self.log)
        self._importing: asyncio.Future[None] | None = None
        self.listener: Listener
        self.admin_listener: Listener | None = None

    @property
    def port(self) -> int:
        """The port listened on."""
        return self.listener.port

    @property
    def admin_port(self) -> int | None:
        """The admin listener's port, if it has one."""
        return self.admin_listener.port if self.admin_listener is not None else None

    # --- as its operators see it (`web.admin`) -----------------------------------------------------------------------

    @property
    def admin(self) -> AdminPolicy:
        """Who may speak to the admin listener."""
        policy = self._generation.config.admin
        assert policy is not None
        return policy

    @property
    def draining(self) -> bool:
        """Whether it is stopping."""
        return self.listener.draining

    @property
    def has_keys(self) -> bool:
        """Whether tokens can be verified."""
        return self._generation.has_keys

    @property
    def balancers(self) -> Mapping[str, Balancer]:
        """The upstreams in use, by name."""
        return self._generation.deps.upstreams

    @property
    def is_whole(self) -> bool:
        """Whether every upstream can be reached, all keys are there and the store works, as far as is known."""
        return (
            self._generation.has_all_keys
            and self._records.is_up
            and all(balancer.is_up for balancer in self.balancers.values())
        )

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes in force."""
        return self._generation.config.routes

    @property
    def directory(self) -> SqlStore:
        """The users, organisations and memberships that are known."""
        return self._records.store

    @property
    def session_ender(self) -> SessionEnder | None:
        """Clerk's Backend API; None without a secret key."""
        apis = self._clerk.all()
        return Enders(apis) if apis else None

    async def revoke(self, *, user: str | None = None, session: str | None = None) -> Revoked:
        """Refuse what this user has got so far, or this session, from now on."""
        return await self._records.revoke(user=user, session=session)

    # --- as its records see it (`web.records`) -----------------------------------------------------------------------

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The upstreams that events are delivered to."""
        return self._generation.config.subscriptions

    @property
    def sync(self) -> SyncPolicy:
        """When the directory is reconciled."""
        return self._generation.config.sync

    @property
    def keys(self) -> KeySource | None:
        """The keys that verify tokens; None where none is ever read, or of several instances."""
        keys = self._generation.keys
        return keys[0] if len(keys) == 1 else None

    # --- as whoever verifies its assertions sees it (`web.assertions`) ------------------------------------------------

    @property
    def signer(self) -> Signer | None:
        """What signs assertions; None where they are off."""
        return self._generation.deps.assertions

    # --- as its webhook endpoint sees it (`web.webhooks`) ------------------------------------------------------------

    @property
    def webhooks(self) -> WebhookPolicy:
        """The policy in force."""
        return self._generation.config.webhooks

    def instances_of(self, sender: Sender) -> frozenset[str]:
        """Give the ids of the Clerk instance whose webhooks a sender's are; none: any."""
        return self._generation.instances_of(sender)

    @property
    def inbox(self) -> SqlStore:
        """Where webhooks are kept."""
        return self._records.store

    async def replay(self, svix_id: str, upstreams: Sequence[str]) -> Replayed:
        """Deliver a stored webhook to these once more. Raises StoreDown."""
        return await self._records.replay(svix_id, upstreams)

    def subscribers(self, kind: str) -> tuple[str, ...]:
        """Name the upstreams that events of a type are delivered to."""
        return subscribers(self._generation.config.subscriptions, kind)

    def learn(self, arrival: Arrival) -> None:
        """Take up what a webhook says that has just been stored."""
        self._records.learn(arrival)

    def end(self, arrival: Arrival) -> None:
        """Refuse what a webhook ends that could not be stored."""
        self._records.end(arrival)

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Fetch the first keys, then listen. Raises `accept.CannotListen`, and ConfigError where nothing can sign."""
        config = self._config
        self._warn(config)
        self._records.open(config.store if config.needs_store else None)
        self._generation = await self._generations.first(config, self._records.people)
        deps = self._generation.deps
        hooks = webhook_addresses(self, config.webhooks.paths, now=self._now)
        own = own_application((*health(self), key_set_address(self), *hooks))
        self.listener = await self._make_listener(own, deps, config.limits)
        revocations = self._records.revocations
        revocations.when_ended = self._end
        looks = self._contexts.look, self._assertions.look, self._generations.sweep
        for each in (*looks, self._buckets.sweep, revocations.sweep, self.log.flush):
            self.deadlines.on_sweep(each)
        self.deadlines.start()
        self._records.start()
        await self._records.first(FIRST_RECORDS_S)
        # First: what cannot start must not have taken anybody's request.
        if config.admin is not None:
            self.admin_listener = await self._make_listener(admin_application(self), admin_deps(deps), LIMITS)
            remedy = "Is another gateway running here? Set admin.port to a free port, or to null for no admin listener"
            self._admin_acceptor = await self._open(self.admin_listener, config.admin.host, config.admin.port, remedy)
        tls = self._contexts.server(config.tls) if config.tls else None
        remedy = "Stop what listens there, or set listen.port (GATEWAY_PORT) to a free port"
        self._acceptor = await self._open(self.listener, config.host, config.port, remedy, tls=tls)
        self._started.set()
        self.log.event(
            "listening", host=config.host, port=self.port, admin_port=self.admin_port, tls=config.tls is not None,
            routes=len(config.routes), source=config.source,
        )  # fmt: skip
        self._expect_webhooks()

    def _expect_webhooks(self) -> None:
        if self.webhooks.needs_store and self._importing is None:
            self._importing = asyncio.get_running_loop().run_in_executor(None, import_svix)

    def _end(self, what: Revocation) -> int:
        """End what a revocation concerns: verdicts reached before it, and open streams, which are counted."""
        self._generations.forget(user=what.user, session=what.session, org=what.org)
        return self.listener.streams.revoke(
            user=what.user, session=what.session, org=what.org, before=what.before
        )  # fmt: skip

    def _warn(self, config: Config) -> None:
        for warning in config.warnings:
            self.log.event("configuration", level="warning", finding=str(warning))

    async def _make_listener(self, application: web.Application, deps: Deps, limits: Limits) -> Listener:
        own = web.AppRunner(application, access_log=None)
        self._own.append(own)
        await own.setup()
        assert own.server is not None
        listener = Listener(
            deps, own.server, limits=limits, deadlines=self.deadlines, log=self.log, clock=time.perf_counter
        )
        for each in (listener.free_places, listener.count_unread, listener.renewals.sweep):
            self.deadlines.on_sweep(each)
        return listener

    async def _open(
        self, listener: Listener, host: str, port: int, remedy: str, *, tls: Reread | None = None
    ) -> Acceptor:
        acceptor = Acceptor(listener, await listen(host, port, remedy), tls=tls, log=self.log)
        listener.port = acceptor.port
        self.deadlines.on_sweep(acceptor.sweep)
        acceptor.open()
        return acceptor

    # --- reload ------------------------------------------------------------------------------------------------------

    async def reload(self) -> list[str]:
        """Take up what the file says now, whole or not at all; name the parts that changed.

        Raises:
            ConfigError: what is wrong, which is logged too; the old configuration stays in force.
            Draining: it is stopping.
        """
        return await self._reloads.now()

    def reload_soon(self) -> None:
        """As `reload`, for a signal."""
        self._reloads.soon()

    async def _reload(self) -> list[str]:
        await self._started.wait()
        if self.draining:
            raise Draining
        old = self._generation
        config = await asyncio.to_thread(self._reread)
        tls = self._server_tls(config)  # before anything is exchanged: files may go between the look at them and now
        self._records.open(config.store if config.needs_store else None)
        new = await self._generations.next(old, config, self._records.people)
        self._take_up(new, tls)
        await self._generations.retire(old, new)
        parts = changed(old.config, config)
        self.log.event("reloaded", changed=parts, routes=len(config.routes), source=config.source)
        return parts

    def _server_tls(self, config: Config) -> Reread | None:
        """Give what clients will meet under a new configuration. Raises ConfigError."""
        try:
            return self._contexts.server(config.tls) if config.tls else None
        except OSError as error:
            message = f"the certificate or key cannot be used: {reason_of(error)}"
            remedy = "Reload again once both files are there"
            raise ConfigError((Finding(config.source, None, "listen.tls", message, remedy),)) from error

    def _take_up(self, new: Generation, tls: Reread | None) -> None:
        """Go over to another generation. Nothing here waits: a request begins under the one or the other."""
        config = new.config
        self._warn(config)
        self._generation = new
        self.listener.deps, self.listener.limits = new.deps, config.limits
        if self._acceptor is not None:
            self._acceptor.tls = tls
        self._records.follow()
        self._expect_webhooks()
        used = (balancer.upstream for balancer in new.deps.upstreams.values())
        upstreams = [*used, *(each.upstream for each in config.subscriptions)]
        self._contexts.keep([config.tls, *(upstream.tls for upstream in upstreams)])
        logs = config.logs
        self.log.configure(form=logs.format, level=logs.level, access=logs.access)

    # --- stop --------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Turn unready, wait `drain_delay_s`, stop listening, let requests finish within `drain_s`, close all."""
        self.listener.draining = True
        try:
            await self._drain(self._generation.config)
        finally:
            await self.close()
            self._stopped.set()

    async def _drain(self, config: Config) -> None:
        self.log.event("draining", drain_s=config.drain_s, delay_s=config.drain_delay_s)
        if config.drain_delay_s:
            await asyncio.sleep(config.drain_delay_s)  # and serve all the while: whoever sends requests has to notice
        if self._acceptor is not None:
            await self._acceptor.close()
        finished = await self.listener.drain(config.drain_s)
        await self.listener.renewals.close()
        self.log.event("stopped", level="info" if finished else "warning", all_finished=finished)

    async def close(self) -> None:
        """Release everything, in reverse; also what a start that failed had got."""
        if self._acceptor is not None:
            await self._acceptor.close()
        await self._reloads.close()
        if self._admin_acceptor is not None and self.admin_listener is not None:
            await self._admin_acceptor.close()
            await self.admin_listener.drain(0)
        self.deadlines.stop()
        self._upstreams.close()
        for own in self._own:
            await own.cleanup()
        await self._generations.close()
        await self._assertions.close()
        await self._records.close()
        await self._clerk.close()
        if self._importing is not None:
            await asyncio.wait((self._importing,))  # a thread cannot be cancelled
        self.log.close()

    async def wait_stopped(self) -> None:
        """Return once `stop` has finished."""
        await self._stopped.wait()
