"""The composition root: builds everything once, in order, and closes it in reverse."""

import asyncio
import random
import time
from collections.abc import Callable

import aiohttp
from aiohttp import web

from gateway.config import Config
from gateway.core.headers import FieldRules
from gateway.core.routing import RouteTable
from gateway.net.deadlines import Deadlines
from gateway.net.jwks import KeySource, RemoteKeys, StaticKeys
from gateway.net.tls import Contexts
from gateway.net.upstreams import Upstreams
from gateway.telemetry import LineWriter, Log, standard_output
from gateway.web.accept import Acceptor, listen
from gateway.web.deps import Deps, Issuer, VerifiedTokens
from gateway.web.listener import Listener
from gateway.web.local import PATHS, own_application

FIRST_KEYS_S = 5.0  # then it listens without: public routes work, `/readyz` says 503


class Gateway:
    """A running gateway: `start`, then `stop`. `port` is the one it listens on."""

    def __init__(
        self,
        config: Config,
        *,
        writer: LineWriter | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        first_keys_s: float = FIRST_KEYS_S,
    ) -> None:
        logs = config.logs
        self._config, self._now = config, now
        self._writer = writer or standard_output()
        self.log = Log(self._writer, form=logs.format, level=logs.level, access=logs.access)
        self.deadlines = Deadlines(monotonic)
        self._monotonic, self._first_keys_s = monotonic, first_keys_s
        self._contexts = Contexts(self.log.event)
        self._upstreams = Upstreams(self.deadlines, self._contexts)
        self._session: aiohttp.ClientSession | None = None
        self._keys: KeySource | None = None
        self._own: web.AppRunner | None = None
        self._acceptor: Acceptor | None = None
        self._stopped = asyncio.Event()
        self.listener: Listener

    @property
    def port(self) -> int:
        """The port listened on."""
        return self.listener.port

    async def start(self) -> None:
        """Fetch the first keys, then listen. Raises OSError where the address cannot be listened on."""
        config = self._config
        for warning in config.warnings:
            self.log.event("configuration", level="warning", finding=str(warning))
        self._keys = await self._first_keys()
        self._own = web.AppRunner(
            own_application(is_draining=lambda: self.listener.draining, has_keys=self._has_keys), access_log=None
        )
        await self._own.setup()
        assert self._own.server is not None
        self.listener = Listener(
            self._deps(), self._own.server, limits=config.limits, deadlines=self.deadlines, log=self.log,
            clock=time.perf_counter,
        )  # fmt: skip
        await self._listen()
        for each in (self.listener.free_places, self.listener.count_unread, self._contexts.look, self.log.flush):
            self.deadlines.on_sweep(each)
        self.deadlines.start()
        self.log.event(
            "listening", host=config.host, port=self.port, tls=config.tls is not None, routes=len(config.routes),
            source=config.source,
        )  # fmt: skip

    async def _listen(self) -> None:
        config = self._config
        tls = self._contexts.server(config.tls) if config.tls else None
        sockets = await listen(config.host, config.port)
        self.listener.port = sockets[0].getsockname()[1]
        self._acceptor = Acceptor(self.listener, sockets, tls=tls, log=self.log)
        self.deadlines.on_sweep(self._acceptor.sweep)
        self._acceptor.open()

    async def _first_keys(self) -> KeySource | None:
        issuer = self._config.issuer
        if issuer is None:
            return None
        if issuer.static_keys is not None:
            return StaticKeys(issuer.static_keys)
        assert issuer.jwks_url is not None
        self._session = aiohttp.ClientSession(
            trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        keys = RemoteKeys(
            issuer.jwks_url,
            self._session,
            now=self._monotonic,
            rng=random.SystemRandom().random,
            on_event=self.log.event,
        )
        keys.start()
        if not await keys.first(self._first_keys_s):
            self.log.event("keys_unavailable", level="error", url=issuer.jwks_url, effect="only public routes work")
        return keys

    def _has_keys(self) -> bool:
        return self._keys is None or self._keys.ready

    def _deps(self) -> Deps:
        config, issuer = self._config, self._config.issuer
        assert (issuer is None) == (self._keys is None)
        return Deps(
            routes=RouteTable(config.routes),
            fields=FieldRules(config.identity.prefix, config.identity.reserved_names),
            cors=config.cors,
            issuer=Issuer(self._keys, issuer.token_policy, issuer.credentials) if issuer and self._keys else None,
            identity=config.identity,
            verified=VerifiedTokens(),
            upstreams=self._upstreams,
            own_paths=PATHS,
            trusted_proxies=config.trusted_proxies,
            log=self.log,
            now=self._now,
            random_bits=random.Random().getrandbits,  # noqa: S311  ids, not secrets: unique is enough
        )

    async def stop(self) -> None:
        """Turn unready, wait `drain_delay_s`, stop listening, let requests finish within `drain_s`, close all."""
        config = self._config
        self.listener.draining = True
        self.log.event("draining", drain_s=config.drain_s)
        if config.drain_delay_s:
            await asyncio.sleep(config.drain_delay_s)
        if self._acceptor is not None:
            await self._acceptor.close()
        finished = await self.listener.drain(config.drain_s)
        self.log.event("stopped", level="info" if finished else "warning", all_finished=finished)
        await self.close()
        self._stopped.set()

    async def close(self) -> None:
        """Release everything, in reverse; also what a start that failed had got."""
        if self._acceptor is not None:
            await self._acceptor.close()
        self.deadlines.stop()
        self._upstreams.close()
        if self._own is not None:
            await self._own.cleanup()
        if isinstance(self._keys, RemoteKeys):
            await self._keys.close()
        if self._session is not None:
            await self._session.close()
        self.log.close()

    async def wait_stopped(self) -> None:
        """Return once `stop` has finished."""
        await self._stopped.wait()
