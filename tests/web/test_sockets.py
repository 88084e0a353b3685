"""Whose sockets are open. From handshake to end they are in `tests/wire/test_websockets.py` and `test_tunnels.py`."""

from typing import Any

import pytest

from gateway.core.frames import close_frame
from gateway.core.model import Principal
from gateway.net.deadlines import Deadlines
from gateway.web.sockets import Sockets
from tests.fakes.gateway import Clock
from tests.net.test_tunnel import Transport

REVOKED = close_frame(4401, b"session-revoked")


def principal(user: str, session: str, org: str | None = None) -> Principal:
    return Principal(user, "session", {}, frozenset(), 0, 60, user_id=user, session_id=session, org_id=org)


class House:
    """Some open sockets."""

    def __init__(self) -> None:
        self.sockets = Sockets(Deadlines(Clock(0.0)), lambda bits: 2**bits - 1)
        self.clients: dict[str, Any] = {}
        self.tunnels: dict[str, Any] = {}
        for name, who in (
            ("one", principal("user_1", "sess_1", "org_1")), ("two", principal("user_1", "sess_2")),
            ("three", principal("user_2", "sess_3", "org_1")), ("nobody", None),
        ):  # fmt: skip
            near, far = Transport(), Transport()
            self.clients[name] = near
            ends = ((near, lambda _: None), (far, lambda _: None))
            self.tunnels[name] = self.sockets.open(*ends, who)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("whose", "closed"),
    [
        ({"user": "user_1"}, {"one", "two"}),
        ({"session": "sess_3"}, {"three"}),
        ({"org": "org_1"}, {"one", "three"}),
        ({"user": "user_1", "org": "org_1"}, {"one"}),
        ({"user": "user_9"}, set()),
        ({}, set()),
    ],
    ids=["user", "session", "organisation", "both-must-fit", "nobody", "nothing-said"],
)
def test_revoking_closes_whoever_fits(whose: dict[str, str], closed: set[str]) -> None:
    house = House()
    assert house.sockets.revoke(**whose) == len(closed)
    assert {name for name, client in house.clients.items() if client.written == REVOKED} == closed
    assert {name for name, client in house.clients.items() if client.written} == closed


def test_an_upstream_gets_it_masked() -> None:
    house = House()
    house.sockets.revoke(session="sess_1")
    far = house.tunnels["one"].upstream.transport
    assert far.written == close_frame(4401, b"session-revoked", mask=b"\xff\xff\xff\xff")


def test_all_are_ended_or_cut() -> None:
    house = House()
    house.sockets.end_all(1001, b"going away")
    assert {client.written for client in house.clients.values()} == {close_frame(1001, b"going away")}
    house.sockets.cut_all()
    assert all(client.aborted for client in house.clients.values())


def test_a_socket_is_forgotten_once_both_sides_are_gone() -> None:
    house = House()
    tunnel = house.tunnels["one"]
    tunnel.client.connection_lost(None)
    assert len(house.sockets) == 4
    tunnel.upstream.connection_lost(None)
    assert len(house.sockets) == 3
    assert house.sockets.revoke(session="sess_1") == 0


def test_a_socket_that_is_bound_to_another_is_no_longer_the_first_ones() -> None:
    house = House()
    house.sockets.bind(house.tunnels["nobody"], principal("user_9", "sess_9"))
    house.sockets.bind(house.tunnels["one"], None)
    assert house.sockets.revoke(session="sess_1") == 0
    assert house.sockets.revoke(user="user_9") == 1
    assert house.clients["nobody"].written == REVOKED


def test_a_socket_that_is_gone_is_not_bound() -> None:
    house = House()
    tunnel = house.tunnels["one"]
    tunnel.client.connection_lost(None)
    tunnel.upstream.connection_lost(None)
    house.sockets.bind(tunnel, principal("user_9", "sess_9"))
    assert len(house.sockets) == 3
