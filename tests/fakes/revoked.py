"""What a gateway remembers of revocations, with a clock of its own, what it logged and whom it ended."""

from typing import Any

from gateway.core.revocation import Revocation
from gateway.web.revocations import Revocations
from tests.fakes.gateway import Clock

NOW_MS = 1_000_000


class Told(list[tuple[str, dict[str, Any]]]):
    """What was logged."""

    def __call__(self, event: str, **fields: Any) -> None:
        self.append((event, fields))


class Memory(Revocations):
    """One with a clock of its own, and a list of whom it ended."""

    def __init__(self, most: int = 100) -> None:
        self.clock, self.told = Clock(NOW_MS / 1000), Told()
        super().__init__(now=self.clock, on_event=self.told, most=most)
        self.ended: list[Revocation] = []
        self.when_ended = self._end

    def _end(self, what: Revocation) -> int:
        self.ended.append(what)
        return 3
