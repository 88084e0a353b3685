"""What is likely not meant, seen over all routes: unreachable ones, and weaker ones that catch what slips past."""

from collections.abc import Collection, Sequence

from gateway.config.findings import Path, Report
from gateway.config.urls import is_loopback
from gateway.core.model import Upstream
from gateway.core.routing import PathPattern, Route

_STRENGTH = {"public": 0, "optional": 1, "required": 2}


def review_routes(routes: Sequence[Route], report: Report) -> None:
    """Warn of routes that never match, and of methods that go on to a weaker route."""
    for index, route in enumerate(routes):
        above = next((earlier for earlier in routes[:index] if _covers(earlier, route)), None)
        if above is not None:
            message = f'never matches: route "{above.name}" takes all its requests first'
            report.warning(("routes", index), message, "Move it up, or take it away")
        weaker = _weaker_fallback(route, routes[index + 1 :])
        if weaker is not None:
            message = f'other methods of these paths go on to route "{weaker.name}", which asks for less'
            report.warning(("routes", index, "methods"), message, "Leave methods out, or add a route for the others")


def review_upstreams(
    upstreams: dict[str, Upstream], routes: Sequence[Route], report: Report, *, told: Collection[str] = ()
) -> None:
    """Warn of upstreams that are not used, and of tokens that cross a network in the clear.

    Those that are `told` of events may be there for that alone.
    """
    for name, upstream in upstreams.items():
        path: Path = ("upstreams", name)
        users = [route for route in routes if route.upstream.name == name]
        if not users and name not in told:
            report.warning(path, "no route leads here")
        in_clear = any(not end.tls and not is_loopback(end.host) for end in upstream.endpoints)
        if any(r.forward_token for r in users) and in_clear:
            report.warning(path, "users' tokens are sent to it over plain http", "Use https, or forward_token: false")


def _weaker_fallback(route: Route, later: Sequence[Route]) -> Route | None:
    """Find the first later route that takes this one's paths with methods it leaves over, if it asks for less."""
    if not route.methods:
        return None
    for other in later:
        left_over = not other.methods or not all(map(route.takes, other.methods))
        if left_over and _overlap(route, other):
            if _strength(other) < _strength(route):
                return other
            if not other.methods and _covers(other, route):
                return None  # everything left over ends here
    return None


def _overlap(one: Route, other: Route) -> bool:
    # Patterns and hosts are trees: two that overlap contain one another.
    paths = covers_path(one.pattern, other.pattern) or covers_path(other.pattern, one.pattern)
    return paths and (_covers_host(one.host, other.host) or _covers_host(other.host, one.host))


def _strength(route: Route) -> int:
    return 3 if route.require.needs_principal else _STRENGTH[route.auth]


def _covers(one: Route, other: Route) -> bool:
    if not _covers_host(one.host, other.host) or not covers_path(one.pattern, other.pattern):
        return False
    return not one.methods or (bool(other.methods) and all(map(one.takes, other.methods)))


def covers_path(one: PathPattern, other: PathPattern) -> bool:
    """Say whether one pattern takes all that the other does."""
    if not one.below:
        return one == other
    return f"{other.text}/".startswith(f"{one.text}/")


def _covers_host(one: str | None, other: str | None) -> bool:
    if one is None or one == other:
        return True
    return other is not None and one.startswith("*.") and other.partition(".")[2] == one[2:]
