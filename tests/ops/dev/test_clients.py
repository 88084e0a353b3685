"""Which browser is signed in with which session, and what waits for an application."""

import pytest

from gateway.ops.dev import clients
from gateway.ops.dev.clients import Clients
from gateway.ops.dev.happenings import Wanted, happen
from gateway.ops.dev.world import World


class Clock:
    seconds = 1_800_000_000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def world(clock):
    return World(now=clock)


@pytest.fixture
def known(world):
    return Clients(world)


def test_a_browser_is_found_by_either_name(known):
    made, other = known.make(), known.make()
    assert known.find(secret=made.secret) is made
    assert known.find(browser=made.browser) is made
    assert known.find(secret=made.secret, browser=other.browser) is other
    assert known.find(secret=made.secret, browser="dvb_unknown") is made
    assert known.find(secret="client_unknown") is None
    assert known.find() is None


def test_names_are_nobody_elses(known):
    made = [known.make() for _ in range(3)]
    assert len({name for each in made for name in (each.secret, each.browser, each.refresh)}) == 9


def test_signed_in_until_the_session_ends_wherever_it_does(known, world, clock):
    client = known.make()
    assert known.session(client) is None
    session = world.begin_session("user_bob")
    known.sign_in(client, session)
    assert (known.session(client).user_id, client.changed_at) == ("user_bob", int(clock.seconds))
    happen(world, Wanted("session.revoked", "user_bob"))
    assert known.session(client) is None


def test_signed_out_is_signed_out(known, world):
    client = known.make()
    known.sign_in(client, world.begin_session("user_bob"))
    known.sign_out(client)
    assert known.session(client) is None


def test_a_refresh_token_is_good_for_its_own_open_session(known, world):
    client = known.make()
    session = world.begin_session("user_bob")
    known.sign_in(client, session)
    assert known.refreshed_by(session.id, client.refresh) is client
    assert known.refreshed_by("sess_other", client.refresh) is None
    assert known.refreshed_by(session.id, "rt_other") is None
    old = client.refresh
    known.sign_in(client, session)
    assert known.refreshed_by(session.id, old) is None, "a sign-in makes another one"
    happen(world, Wanted("session.ended", "user_bob"))
    assert known.refreshed_by(session.id, client.refresh) is None


def test_whoever_holds_a_session_is_found_or_made(known, world):
    session = world.begin_session("user_bob")
    made = known.holding(session)
    assert known.session(made) == session
    assert known.holding(session) is made
    assert known.holding(world.begin_session("user_carol")) is not made


def test_a_payload_is_fetched_once_and_soon(known, clock):
    first, second = known.put_payload(["a"]), known.put_payload(["b"])
    assert known.take_payload(first) == ["a"]
    assert known.take_payload(first) is None
    assert known.take_payload("unknown") is None
    clock.seconds += clients.NONCE_LIFE_S
    assert known.take_payload(second) is None


def test_only_the_last_are_kept(known, monkeypatch):
    monkeypatch.setattr(clients, "MOST", 2)
    made = [known.make() for _ in range(3)]
    assert [known.find(secret=each.secret) is each for each in made] == [False, True, True]
    nonces = [known.put_payload([]) for _ in range(3)]
    assert [known.take_payload(each) for each in nonces] == [None, [], []]
