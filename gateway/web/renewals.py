"""What was opened with a machine's token ends with it: nobody tells of its end, so it is judged again by and by.

A user's session ends by a webhook (`web.revocations`), whatever became of the token that a stream was opened with. A
machine's token is all there is behind it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.core.policy import authorise
from gateway.errors import Forbidden, GatewayError, InvalidToken
from gateway.web.deps import Deps
from gateway.web.identify import identify_token
from gateway.web.streams import Ending, Stream, Streams

# Between two rounds. Clerk is asked no oftener than for a request: what it says is believed for a minute.
ROUND_S: Final = 10.0


class Renewals:
    """Judges the tokens behind open streams, one after the other; `deps` gives those in force."""

    def __init__(self, streams: Streams, deps: Callable[[], Deps], clock: Callable[[], float]) -> None:
        self._streams, self._deps, self._clock = streams, deps, clock
        self._next_at = float("-inf")
        self._round: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a round is under way."""
        return self._round is not None

    def sweep(self) -> None:
        """Begin a round where one is due; called at each sweep of `net.deadlines`."""
        if not self._streams.of_machines or self.is_busy or self._clock() < self._next_at:
            return
        self._next_at = self._clock() + ROUND_S
        self._round = asyncio.get_running_loop().create_task(self._go_round())

    async def _go_round(self) -> None:
        try:
            for stream in tuple(self._streams.of_machines):
                await asyncio.sleep(0)  # what is remembered does not suspend, and thousands would hold requests up
                if not stream.over:
                    await self._renew(stream)
        finally:
            self._round = None

    async def _renew(self, stream: Stream) -> None:
        """End a stream whose token is not good any more, or does not hold what its route requires."""
        presented = stream.carried.presented
        assert presented is not None  # machines' tokens count in Authorization alone
        deps, (raw, route) = self._deps(), presented
        try:
            identified = await identify_token(deps, raw, route, in_authorization=True)
            authorise(identified.principal, route.require, deps.now)
        except (InvalidToken, Forbidden) as refused:
            reason = refused.reason or ""
            code = 4401 if isinstance(refused, InvalidToken) else 4403  # CONTRACT §4
            stream.end(Ending(code, reason.encode(), refused.code, reason))
        except GatewayError:
            return  # nobody can say just now: that ends nothing, and the next round asks again

    async def close(self) -> None:
        """Stop."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait((self._round,))
