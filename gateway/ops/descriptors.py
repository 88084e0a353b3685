"""How many files a serving process may have open: every connection is one, and the upstream's side of it another."""

import resource
from collections.abc import Callable
from typing import Any, Final

PER_CONNECTION: Final = 2
SPARE: Final = 256  # the program's own: log, event loop, key sets, connections kept open to upstreams


def make_room(connections: int, on_event: Callable[..., Any]) -> None:
    """Raise the limit as far as so many connections ask and this process may; tell where that is not enough."""
    needed = connections * PER_CONNECTION + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):  # macOS has a lower bound of its own behind "unlimited"
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    on_event(
        "few_open_files", level="warning", limit=soft, enough_for=max(0, soft - SPARE) // PER_CONNECTION,
        asked_for=connections,
        remedy=f"Raise the hard limit to {needed} (ulimit -Hn, LimitNOFILE=, --ulimit nofile=), "
               "or lower limits.connections",
    )  # fmt: skip
