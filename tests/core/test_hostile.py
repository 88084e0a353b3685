"""The hostile requests themselves: the same every time, of every kind, and none the same as another good one."""

from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest

from gateway.core.claims import principal_from
from gateway.core.policy import Admission, admit
from gateway.core.verify import TokenPolicy, parse_jwks, read_token, verify_token
from gateway.errors import InvalidToken
from tests.core.forge import Forge, Kind, dumped
from tests.core.hostile import MAKERS, TOKENS, Attempt, Place, attempts
from tests.fakes.clerk import FakeClerk

NOW = 1_700_000_000
CLERK = FakeClerk(kid="ins_test")
FORGE = Forge(CLERK, now=NOW, trap="http://127.0.0.1:1/")
KEYS = parse_jwks(dumped(CLERK.jwks()))
POLICY = TokenPolicy(
    issuers=frozenset({CLERK.issuer}),
    authorized_parties=frozenset({"https://app.example.com"}),
    audience=frozenset({"api"}),
)


def let_in(raw: bytes) -> None:
    """Do what stands between a token and its user."""
    token = read_token(raw)
    key = KEYS.find(token.kid)
    if key is None:
        raise InvalidToken("jwk-kid-mismatch")
    admit(principal_from(verify_token(token, key, POLICY, now=NOW), token), Admission())


@pytest.mark.parametrize("kind", TOKENS, ids=lambda kind: kind.__name__)
def test_no_kind_of_token_is_good(kind: Kind) -> None:
    rng = Random(1)
    for _ in range(60):
        token = kind(FORGE, rng)
        with pytest.raises(InvalidToken):
            let_in(token.encode("utf-8", "surrogatepass"))


def test_the_loot_is_good() -> None:
    for token in FORGE.loot:
        let_in(token.encode())


def kinds(some: Iterable[Attempt]) -> list[str]:
    return [attempt.kind for attempt in some]


def test_every_kind_comes_in_turn_and_the_same_each_time() -> None:
    place = Place(FORGE, "naoXFJnI")
    count = 4 * (len(TOKENS) + len(MAKERS))
    first, second = (list(attempts(place, count)) for _ in range(2))
    assert kinds(first) == kinds(second)
    counted = Counter(kinds(first))
    assert counted.pop("control") == count // 40
    assert set(counted.values()) == {4}
    assert len(counted) >= 50
    assert len({attempt.head for attempt in first}) > 0.95 * count
