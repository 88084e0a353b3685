"""The upstreams that are in use: which of an upstream's endpoints takes a request, and what is thought of each."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from gateway.core.balance import Budget, choose, pause_s
from gateway.core.model import Upstream
from gateway.errors import GatewayError, NoHealthyEndpoint, UpstreamRefused
from gateway.net.deadlines import Deadlines
from gateway.net.health import HealthChecks, Knocking
from gateway.net.pool import Pool
from gateway.net.tls import Contexts

Told = Callable[..., None]


class Balancer:
    """An upstream's endpoints, each with its connections and its standing."""

    __slots__ = (
        "_checks", "_knocking", "_on_event", "_only", "_out", "_rng", "budget", "deadlines", "pools", "same_host",
        "upstream",
    )  # fmt: skip

    def __init__(
        self, upstream: Upstream, pools: tuple[Pool, ...], deadlines: Deadlines, on_event: Told,
        rng: Callable[[], float],
    ) -> None:  # fmt: skip
        self.upstream, self.pools = upstream, pools
        self.budget = Budget(upstream.retries)
        # One head does for all of them (`Outbound.head_for`).
        self.same_host = upstream.preserve_host or len({end.authority for end in upstream.endpoints}) == 1
        self.deadlines, self._on_event, self._rng = deadlines, on_event, rng
        self._only = pools[0] if len(pools) == 1 else None
        self._knocking = Knocking(deadlines, self._reached)
        self._checks = HealthChecks(upstream, pools, deadlines, self._changed) if upstream.health.path else None
        if self._checks is None:
            for pool in pools:
                pool.standing.well = True  # whatever the checks of an earlier configuration said
        self._out = {pool for pool in pools if not pool.standing.is_up}  # what the log has called down

    def choose(self, besides: tuple[Pool, ...] = ()) -> Pool:
        """Choose the endpoint of the next request; not one of `besides` as long as there is another.

        Raises:
            NoHealthyEndpoint: all are left alone for now.
        """
        now, only = self.deadlines.now, self._only
        if only is not None:
            standing = only.standing
            if (standing.well and not standing.open_until) or standing.may_take(now):
                return only
        elif chosen := self._chosen(besides, now):
            return chosen
        raise NoHealthyEndpoint  # without a detail for the log: it has told that each is down, and requests may be many

    def _chosen(self, besides: tuple[Pool, ...], now: float) -> Pool | None:
        others = [pool for pool in self.pools if pool not in besides] if besides else self.pools
        chosen = choose(others, now=now, rng=self._rng)
        if chosen is None and besides:
            chosen = choose(self.pools, now=now, rng=self._rng)
        return chosen

    def pause_s(self, made: int) -> float:
        """Seconds before the same endpoint is tried again."""
        return pause_s(made, self._rng())

    def answered(self, pool: Pool) -> None:
        """Note that an endpoint that had failed answers."""
        if pool.standing.succeeded(self.deadlines.now):
            self._changed(pool, up=True, why="it answered again")

    def failed(self, pool: Pool, why: GatewayError) -> None:
        """Note that a request was not answered."""
        if pool.standing.failed(self.deadlines.now, unreachable=isinstance(why, UpstreamRefused)):
            self._changed(pool, up=False, why=why.detail or why.code)
            self._knocking.at(pool)  # at once: whether it is gone shows only before it is there again

    def _changed(self, pool: Pool, *, up: bool, why: str) -> None:
        # Breaker and health checks judge apart; in use is what both let be, and that is told, once.
        if pool.standing.is_up is not up or up is (pool not in self._out):
            return
        (self._out.discard if up else self._out.add)(pool)
        event, level = ("endpoint_up", "info") if up else ("endpoint_down", "warning")
        self._on_event(event, level=level, upstream=self.upstream.name, endpoint=pool.label, why=why)

    def _reached(self, pool: Pool) -> None:
        """Take it that somebody listens again where nobody did."""
        if pool.standing.reached(self.deadlines.now):
            self._changed(pool, up=True, why="somebody listens there again")
        if self._checks is not None and not pool.standing.well:
            self._checks.ask(pool)

    def sweep(self) -> None:
        """Do what is due from time to time."""
        now = self.deadlines.now
        self.budget.turn(now)
        for pool in self.pools:
            pool.refresh_addresses()
            if not pool.standing.is_up:
                self._knocking.at(pool)

    def stop(self) -> None:
        """Ask endpoints no more whether they are well or there."""
        self._knocking.stop()
        if self._checks is not None:
            self._checks.stop()

    @property
    def is_up(self) -> bool:
        """Whether any endpoint may be used."""
        return any(pool.standing.weight and pool.standing.is_up for pool in self.pools)


class Upstreams:
    """A balancer for each upstream in use; endpoints that stay in use from one configuration to the next live on."""

    __slots__ = ("_balancers", "_contexts", "_deadlines", "_on_event", "_retired", "_rng")

    def __init__(
        self, deadlines: Deadlines, contexts: Contexts, *, on_event: Told, rng: Callable[[], float] = random.random
    ) -> None:
        self._deadlines, self._contexts, self._on_event, self._rng = deadlines, contexts, on_event, rng
        self._balancers: dict[str, Balancer] = {}
        self._retired: list[Pool] = []  # that have connections still
        deadlines.on_sweep(self._sweep)

    def adopt(self, upstreams: Iterable[Upstream]) -> dict[str, Balancer]:
        """Use these from now on and give their balancers by name; what is no longer in use finishes what it has."""
        before = self._balancers
        self._balancers = {upstream.name: self._balancer(upstream, before.get(upstream.name)) for upstream in upstreams}
        kept = {pool for balancer in self._balancers.values() for pool in balancer.pools}
        self._retired = [pool for pool in self._retired if pool.is_open]
        for old in before.values():
            if old is not self._balancers.get(old.upstream.name):
                old.stop()
            for pool in old.pools:
                if pool not in kept:
                    pool.retire()
                    self._retired.append(pool)
        return dict(self._balancers)

    def _balancer(self, upstream: Upstream, before: Balancer | None) -> Balancer:
        if before is not None and before.upstream == upstream:
            return before
        known = {} if before is None else _reusable(before, upstream)
        pools = tuple(
            known.get(end) or Pool(end, upstream, self._deadlines, self._contexts) for end in upstream.endpoints
        )
        return Balancer(upstream, pools, self._deadlines, self._on_event, self._rng)

    def _sweep(self) -> None:
        for balancer in self._balancers.values():
            balancer.sweep()

    def close(self) -> None:
        """Drop every connection to every endpoint."""
        for balancer in self._balancers.values():
            balancer.stop()
            for pool in balancer.pools:
                pool.close()
        for pool in self._retired:
            pool.close()


def _reusable(before: Balancer, upstream: Upstream) -> dict[Any, Pool]:
    """Give the pools that would be made anew just as they are; an endpoint's weight is part of it."""
    old = before.upstream
    same = (old.max_connections, old.max_pending, old.breaker, old.tls) == (
        upstream.max_connections, upstream.max_pending, upstream.breaker, upstream.tls,
    )  # fmt: skip
    return {pool.endpoint: pool for pool in before.pools} if same else {}
