"""Which key signs, which are published; and the law: no verifier ever meets a key it does not know."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.assertion import MAX_TTL_S
from gateway.core.rotation import (
    AHEAD_S,
    CACHED_S,
    CLOCKS_S,
    KEPT_S,
    KeyLife,
    in_order,
    is_due,
    next_life,
    published_keys,
    signing_key,
    spent_keys,
    waiting_key,
)

DAY = 86_400.0
MONTH = 30 * DAY


def key(number, signs_from, *, algorithm="ES256", withdraws=False):
    return KeyLife(number, signs_from - AHEAD_S, signs_from, f"k{number}", algorithm, withdraws)


ONE, TWO, THREE = key(1, 0.0), key(2, 100 * DAY), key(3, 130 * DAY)
LEAKED = KeyLife(4, 50 * DAY, 50 * DAY, "k4", "ES256", withdraws=True)


@pytest.mark.parametrize(
    ("keys", "now", "signs", "published", "spent"),
    [
        pytest.param([], 0, None, [], [], id="none"),
        pytest.param([ONE], 0, ONE, [ONE], [], id="first-signs-at-once"),
        pytest.param([ONE], -5, ONE, [ONE], [], id="first-of-a-clock-ahead"),
        pytest.param([TWO, ONE], 99 * DAY, ONE, [ONE, TWO], [], id="next-waits"),
        pytest.param([ONE, TWO], 100 * DAY, TWO, [ONE, TWO], [], id="next-signs"),
        pytest.param([ONE, TWO], 100 * DAY + KEPT_S - 1, TWO, [ONE, TWO], [], id="before-it-is-kept"),
        pytest.param([ONE, TWO], 100 * DAY + KEPT_S, TWO, [TWO], [ONE], id="nothing-of-it-can-live"),
        pytest.param([ONE, TWO, THREE], 200 * DAY, THREE, [THREE], [ONE, TWO], id="two-are-spent"),
        pytest.param([TWO, THREE], 1 * DAY, TWO, [TWO, THREE], [], id="clock-set-back"),
        pytest.param([ONE, TWO, LEAKED], 50 * DAY, LEAKED, [LEAKED], [ONE, TWO], id="withdrawn"),
        pytest.param([ONE, TWO, LEAKED], 49 * DAY, LEAKED, [LEAKED], [ONE, TWO], id="withdrawn-by-a-clock-ahead"),
        pytest.param([LEAKED, key(5, 80 * DAY)], 79 * DAY, LEAKED, [LEAKED, key(5, 80 * DAY)], [], id="and-goes-on"),
    ],
)
def test_what_each_key_is_for(keys, now, signs, published, spent):
    assert signing_key(keys, now) == signs
    assert published_keys(keys, now) == published
    assert spent_keys(keys, now) == spent


def test_what_is_withdrawn_is_out_whatever_comes_back():
    assert in_order([TWO, LEAKED, ONE]) == [LEAKED]


@pytest.mark.parametrize(
    ("keys", "now", "asked", "due"),
    [
        pytest.param([], 0, {}, True, id="none"),
        pytest.param([ONE], 29 * DAY - 1, {}, False, id="young"),
        pytest.param([ONE], 29 * DAY, {}, True, id="a-day-before-its-age"),
        pytest.param([ONE], 9000 * DAY, {"rotate_after_s": 0}, False, id="never-by-age"),
        pytest.param([ONE], 1, {"algorithm": "EdDSA"}, True, id="another-algorithm"),
        pytest.param([ONE], 1, {"algorithm": "EdDSA", "rotate_after_s": 0}, True, id="another-without-age"),
        pytest.param([ONE, TWO], 99 * DAY, {"algorithm": "EdDSA"}, False, id="one-at-a-time"),
    ],
)
def test_when_the_next_is_due(keys, now, asked, due):
    assert is_due(keys, now, **({"algorithm": "ES256", "rotate_after_s": MONTH} | asked)) is due


def test_how_the_next_lives():
    more = {"kid": "k", "algorithm": "ES256", "number": 7}
    assert next_life([], 5.0, **more) == KeyLife(7, 5.0, 5.0, "k", "ES256")
    assert next_life([ONE], 5.0, **more) == KeyLife(7, 5.0, 5.0 + AHEAD_S, "k", "ES256")
    assert next_life([ONE], 5.0, **more, at_once=True) == KeyLife(7, 5.0, 5.0, "k", "ES256", True)


def test_which_waits():
    assert waiting_key([ONE], -1.0) is None
    assert waiting_key([ONE, TWO], 99 * DAY) == TWO
    assert waiting_key([ONE, TWO], 100 * DAY) is None


class Machine:
    """A gateway whose clock differs, which last looked at the directory a while ago."""

    def __init__(self, offset, rotate_after_s):
        self.offset, self.rotate_after_s, self.keys = offset, rotate_after_s, []

    def look(self, directory, true):
        """As `store.keyring` does: take up, make what is due, drop what is spent."""
        now = true + self.offset
        self.keys = sorted(set(directory.values()) | set(published_keys(self.keys, now)))
        if is_due(self.keys, now, algorithm="ES256", rotate_after_s=self.rotate_after_s):
            self.make(directory, true)
        for life in spent_keys(self.keys, now):
            directory.pop(life.number, None)

    def make(self, directory, true):
        number = max([*directory, *(life.number for life in self.keys)], default=0) + 1
        made = next_life(self.keys, true + self.offset, kid=f"k{number}", algorithm="ES256", number=number)
        directory.setdefault(number, made)  # exactly once
        self.keys = sorted({*self.keys, directory[number]})

    def command(self, directory, true):
        """As `gateway keys rotate` does, on this machine."""
        if waiting_key(list(directory.values()), true + self.offset) is None:
            self.keys = sorted(set(directory.values()) | set(self.keys))
            self.make(directory, true)

    def restart(self, directory, true):
        self.keys = []
        self.look(directory, true)


class Verifier:
    """An upstream that reads the set once in a while and never sooner; any machine may answer it."""

    def __init__(self):
        self.read_at, self.known = float("-inf"), set()

    def check(self, kid, machines, true, random):
        if true - self.read_at > CACHED_S:
            asked = random.choice(machines)
            self.known = {life.kid for life in published_keys(asked.keys, true + asked.offset)}
            self.read_at = true
        assert kid in self.known, f"{kid} is unknown"


def run(seed, offsets, rotate_after_s, ttl_s, days, *, most_lag_s=600.0):
    """Let days pass in steps of some minutes; everything that was signed is checked for as long as it lives."""
    random, true, signed, used = Random(seed), 1e9, [], set()
    directory, machines = {}, [Machine(offset, rotate_after_s) for offset in offsets]
    for machine in machines:
        machine.look(directory, true)
    verifiers, looked = [Verifier() for _ in range(3)], dict.fromkeys(machines, true)
    end = true + days * DAY
    while true < end:
        true += random.choice((30.0, 300.0, 300.0, 900.0))
        for machine in random.sample(machines, len(machines)):
            if random.random() < 0.9 or true - looked[machine] > most_lag_s:
                machine.look(directory, true)
                looked[machine] = true
        event = random.random()
        if event < 0.01:
            random.choice(machines).command(directory, true)
        elif event < 0.02:
            random.choice(machines).restart(directory, true)
        for machine in machines:
            signing = signing_key(machine.keys, true + machine.offset)
            signed.append((true + ttl_s, signing.kid))
            used.add(signing.kid)
        signed = [each for each in signed if each[0] > true]
        for _, kid in {(0, kid) for _, kid in signed}:
            for verifier in verifiers:
                verifier.check(kid, machines, true, random)
        assert len(published_keys(machines[0].keys, true + machines[0].offset)) <= 3
    return used


half = CLOCKS_S / 2


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32), offsets=st.lists(st.floats(-half, half), min_size=1, max_size=4),
    rotate_after_s=st.sampled_from([0.0, DAY, DAY + 3600, 3 * DAY]), ttl_s=st.sampled_from([5.0, 60.0, MAX_TTL_S]),
)  # fmt: skip
def test_no_verifier_ever_meets_a_key_it_does_not_know(seed, offsets, rotate_after_s, ttl_s):
    used = run(seed, offsets, rotate_after_s, ttl_s, 4)
    if rotate_after_s == DAY:
        assert len(used) >= 3  # else nothing was tried


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param("AHEAD_S", 600.0, id="published-too-late"), pytest.param("KEPT_S", 60.0, id="gone-too-soon")],
)
def test_the_law_finds_a_schedule_that_is_wrong(monkeypatch, name, value):
    monkeypatch.setattr(f"gateway.core.rotation.{name}", value)
    with pytest.raises(AssertionError, match="is unknown"):
        run(1, [-half, half], DAY, MAX_TTL_S, 8)
