"""What lives longer than the token it was opened with: open sockets, and answers whose body is still on its way.

One registry knows them all and who is behind each, so that they end with a session, at an age, or when the gateway
stops. How either kind is ended it says itself (`web.sockets`, `web.visit`); an answer that was complete is never here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from gateway.core.model import Principal
from gateway.core.revocation import EVER, REASON, fits, is_issued_by
from gateway.core.routing import Route
from gateway.errors import Draining, InvalidToken
from gateway.net.deadlines import SWEEP_S, Deadlines
from gateway.net.tunnel import CLOSE_S

# As many may come back in the same moment; more are spread, for each brings a handshake, a token to verify and a query.
FEW = 10
SPREAD_S = 5.0
# A socket's last moments: its turn, the Close and the cut are each found by a sweep.
PARTING_S = CLOSE_S + 3 * SWEEP_S


class Ending(NamedTuple):
    """Why the gateway ends a stream: what a socket's Close frame says, and what the access line says."""

    close_code: int
    words: bytes
    code: str
    reason: str = ""


REVOKED = Ending(4401, REASON.encode(), InvalidToken.code, REASON)  # CONTRACT §4, §8
GOING_AWAY = Ending(1001, b"going away", Draining.code)  # RFC 6455 §7.4.1
TOO_OLD = Ending(1001, b"stream too old", "stream_max_age")  # not 4401: the session is good, so come back


class Carried(Protocol):
    """A socket or an answer."""

    @property
    def endless(self) -> bool:
        """Whether it has no end of its own and its client comes back by itself."""

    @property
    def presented(self) -> tuple[bytes, Route] | None:
        """The token in `Authorization` that it was opened with, and the route; None where there was none."""

    def break_off(self, ending: Ending) -> None:
        """End it as its protocol has it; never so that it looks like an end of the upstream's."""

    def cut(self, ending: Ending) -> None:
        """Drop it at once."""


class Stream:
    """One that is open. `principal` is who is behind it, None for nobody; `Streams.bind` changes it."""

    __slots__ = ("carried", "deadline", "ending", "over", "principal")

    def __init__(self, carried: Carried, principal: Principal | None) -> None:
        self.carried, self.principal = carried, principal
        self.deadline = 0.0  # until when it may live, 0.0 for ever
        self.ending = TOO_OLD  # why it ends then
        self.over = False  # has been told to end

    def end(self, ending: Ending) -> None:
        """End it now."""
        self.ending = ending
        self.expire()

    def expire(self) -> None:
        """End it: its time has come (`net.deadlines`)."""
        if not self.over:
            self.over = True
            self.carried.break_off(self.ending)


class Streams:
    """The open ones. `is_revoked` says of whom none may be."""

    __slots__ = ("_deadlines", "_draining", "_is_revoked", "_of", "_open", "_random_bits", "of_machines")

    def __init__(
        self, deadlines: Deadlines, random_bits: Callable[[int], int], is_revoked: Callable[[Principal], bool]
    ) -> None:
        self._deadlines, self._random_bits, self._is_revoked = deadlines, random_bits, is_revoked
        self._open: set[Stream] = set()
        # By the ids of the user, the session and the organisation: sessions end all the time.
        self._of: defaultdict[str, set[Stream]] = defaultdict(set)
        self.of_machines: set[Stream] = set()  # see `web.renewals`
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def open(self, carried: Carried, principal: Principal | None, *, max_age_s: float) -> Stream:
        """Know one from now on, until `close`; `max_age_s` 0 for as long as it likes.

        The one way in. A token that was verified before `revoke` may open its stream after it, once its upstream has
        answered: so this asks once more.
        """
        stream = Stream(carried, None)
        self._open.add(stream)
        self.bind(stream, principal)
        if max_age_s:
            self._end_at(stream, self._deadlines.now + SWEEP_S + max_age_s)
        if self._draining and carried.endless:
            stream.end(GOING_AWAY)
        return stream

    def bind(self, stream: Stream, principal: Principal | None) -> None:
        """Say who is behind one from now on; None: nobody. One that is gone is nobody's."""
        if stream not in self._open:
            return
        self._unbind(stream)
        stream.principal = principal
        if principal is None:
            return
        for name in _names(principal):
            self._of[name].add(stream)
        if principal.is_machine:
            self.of_machines.add(stream)
        if self._is_revoked(principal):
            stream.end(REVOKED)

    def _unbind(self, stream: Stream) -> None:
        self.of_machines.discard(stream)
        for name in _names(stream.principal) if stream.principal is not None else ():
            those = self._of.get(name)
            if those is not None:
                those.discard(stream)
                if not those:
                    del self._of[name]

    def close(self, stream: Stream) -> None:
        """Forget one that is gone."""
        self._open.discard(stream)
        self._unbind(stream)
        stream.principal = None
        self._deadlines.unwatch(stream)

    def revoke(
        self, *, user: str | None = None, session: str | None = None, org: str | None = None, before: int = EVER
    ) -> int:
        """End the streams of whoever fits everything that is given, and say how many; nothing given fits nobody.

        Only those whose token was issued up to `before` (ms). One that is being ended for this does not count again.
        """
        name = session or user or org
        if name is None:
            return 0
        fitting = [
            stream for stream in self._of.get(name, ())
            if not stream.over and stream.ending is not REVOKED and stream.principal is not None
            and fits(stream.principal, user=user, session=session, org=org) and is_issued_by(before, stream.principal)
        ]  # fmt: skip
        self._end(fitting, REVOKED, SPREAD_S)
        return len(fitting)

    def drain(self, within_s: float) -> None:
        """End what does not end by itself, early enough for each Close to be answered; also what opens later.

        An event stream would hold the process for all of `within_s` and be cut then all the same; its client comes back
        by itself, elsewhere. Every other answer has that time to finish: nobody would ask for the rest of it.
        """
        self._draining = True
        endless = [stream for stream in self._running() if stream.carried.endless]
        self._end(endless, GOING_AWAY, min(SPREAD_S, within_s - PARTING_S))

    def cut_all(self) -> None:
        """Drop every one at once."""
        for stream in tuple(self._open):
            stream.over = True
            stream.carried.cut(GOING_AWAY)

    def _running(self) -> Iterable[Stream]:
        return (stream for stream in self._open if not stream.over)

    def _end(self, streams: list[Stream], ending: Ending, spread_s: float) -> None:
        """End a few at once, and many spread over some seconds, so that they do not come back all in one moment."""
        at_once = len(streams) <= FEW or spread_s <= 0
        for stream in streams:
            if stream.ending is not REVOKED:  # which stays true whatever comes
                stream.ending = ending
            if at_once:
                stream.expire()
            else:
                self._end_at(stream, self._deadlines.now + spread_s * self._random_bits(32) / 2**32)

    def _end_at(self, stream: Stream, deadline: float) -> None:
        """End it then, or sooner if that was said before."""
        if not stream.deadline:
            self._deadlines.watch(stream)
        stream.deadline = min(deadline, stream.deadline or deadline)


def _names(principal: Principal) -> list[str]:
    return [name for name in (principal.user_id, principal.session_id, principal.org_id) if name is not None]
