"""What is measured, row by row, and what the gateway is held to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench import directory, lasting, measures, webhooks
from tests.bench.measures import Sample
from tests.bench.stage import Stage

Measure = Callable[[Stage, str], Sample]


@dataclass(frozen=True)
class Target:
    """What the gateway is held to: a ratio to another proxy or to a row of its own, or a plain number."""

    limit: float
    proxy: str = ""  # the ratio of the gateway's figure to this one's
    row: str = ""  # the ratio to the gateway's own figure there
    growth: bool = False  # MiB of memory gained while measuring
    rate: bool = False  # how many were answered in a second
    at_least: bool = False
    below: bool = False  # the limit itself is too much


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    measure: Measure
    unit: str = "µs"  # of CPU per answered request; or MB per s of CPU, MiB, s of CPU, ms on the clock
    verifying_only: bool = False  # what only forwards cannot do it
    gateway_only: bool = False  # no other proxy can
    targets: Sequence[Target] = ()
    most_rounds: int | None = None

    @property
    def more_is_better(self) -> bool:
        """Whether the largest figure is the best one."""
        return self.unit == "MB/s"


_DOWN, _UP = (
    (Target(0.7, proxy="nginx", at_least=True), Target(16, growth=True)),
    (Target(0.9, proxy="nginx", at_least=True), Target(16, growth=True)),
)

ROWS = {
    row.name: row
    for row in (
        Row("get", "GET as wrk sends it, with token and Origin", measures.get, targets=(
            Target(1.9, proxy="nginx"), Target(0.75, proxy="haproxy"), Target(0.6, proxy="envoy"),
        )),
        Row("browser", "GET as a browser sends it: 10 header fields, cookies, 800-byte token", measures.browser, targets=(
            Target(2.3, proxy="nginx"), Target(0.7, proxy="envoy"),
        )),
        Row("post", "POST of 4 KiB", measures.post),
        Row("tokens", "GET, 5,000 distinct tokens in turn", measures.tokens, targets=(Target(0.7, proxy="envoy"),)),
        Row("first", "GET, good token seen for the first time", measures.first, verifying_only=True),
        Row("hostile", "refused: forged token seen for the first time", measures.hostile, verifying_only=True, targets=(
            Target(2.0, row="first"),
        )),
        Row("no-token", "refused: no token", measures.no_token, verifying_only=True, targets=(
            Target(1.0, row="get", below=True),
        )),
        Row("bad-token", "refused: expired token, the same each time", measures.bad_token, verifying_only=True, targets=(
            Target(1.0, row="get", below=True),
        )),
        Row("down-8m", "8 MiB down, 128 times", measures.down_8m, unit="MB/s", targets=_DOWN),
        Row("up-8m", "8 MiB up, 128 times", measures.up_8m, unit="MB/s", targets=_UP),
        Row("down-1g", "1 GiB down", measures.down_1g, unit="MB/s", targets=_DOWN),
        Row("up-1g", "1 GiB up", measures.up_1g, unit="MB/s", targets=_UP),
        Row("websocket", "WebSocket: message of 100 bytes, there and back", lasting.websocket, targets=(
            Target(1.3, proxy="nginx"),
        )),
        Row("sockets", "memory for 1,000 open WebSockets, above what it was", lasting.sockets, unit="MiB", most_rounds=1,
            targets=(Target(40, below=True),)),
        Row("events", "server-sent event of 100 bytes, 100,000 of them", lasting.events, most_rounds=1, targets=(
            Target(4, growth=True),
        )),
        Row("first-event", "first event later than without a proxy, median", lasting.first_event, unit="ms", targets=(
            Target(2, below=True),
        )),
        Row("rest", "memory at rest", measures.at_rest, unit="MiB", most_rounds=1, targets=(Target(75),)),
        Row("idle", "memory with 10,000 idle connections", measures.idle, unit="MiB", most_rounds=1, targets=(Target(200),)),
        Row("rest-store", "memory at rest, with a store that was used", directory.at_rest, unit="MiB", gateway_only=True,
            most_rounds=1, targets=(Target(110),)),
        Row("known", "memory while 50,000 of 1,000,000 users make requests", directory.known, unit="MiB",
            gateway_only=True, most_rounds=1, targets=(Target(250, below=True),)),
        Row("lookup", "user looked up by id among 1,000,000, median", directory.lookup, unit="ms", gateway_only=True,
            targets=(Target(2),)),
        Row("backfill", "backfill of 1,000,000 users from Clerk", directory.backfill, unit="s", gateway_only=True,
            most_rounds=1, targets=(Target(900, below=True),)),
        Row("webhooks", "webhook of 2 KiB accepted, SQLite", webhooks.sqlite, gateway_only=True, targets=(
            Target(2_000), Target(500, rate=True, at_least=True),
        )),
        Row("webhooks-pg", "webhook of 2 KiB accepted, PostgreSQL", webhooks.postgresql, gateway_only=True, targets=(
            Target(1_000), Target(1_000, rate=True, at_least=True),
        )),
        Row("ready", "from start to the first answer", measures.ready, unit="s", targets=(Target(1.0),)),
    )
}  # fmt: skip
