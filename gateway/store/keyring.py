"""One look at the directory of signing keys: what others did is taken up, what is due is made, what is spent removed.

The decisions are `core/rotation`'s, the files `store/signing_keys`'.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.core.assertion import AssertionPolicy
from gateway.core.rotation import KeyLife, in_order, is_due, next_life, published_keys, signing_key, spent_keys
from gateway.store.signing_keys import (
    KeyDirectory,
    KeysUnusable,
    SigningKey,
    algorithm_of,
    key_id,
    new_private_key,
)
from gateway.store.signing_keys import signing_key as with_life


class Looked(NamedTuple):
    """What a look found: the keys to publish, in order, the one that signs, and what there is to tell."""

    published: tuple[SigningKey, ...]
    signing: SigningKey
    made: tuple[KeyLife, ...] = ()
    wrong: tuple[str, ...] = ()


def first_look(policy: AssertionPolicy, now: float) -> Looked:
    """Look before anything has been signed. Raises KeysUnusable, for a single file too: others may sign with it."""
    directory = KeyDirectory(policy.keys_dir)
    directory.prepare()
    directory.clean()
    return _look(directory, (), policy, now)


def look_again(policy: AssertionPolicy, before: Looked, now: float) -> Looked:
    """Look while the gateway runs: whatever becomes of the directory, the keys that are known stay in force."""
    directory = KeyDirectory(policy.keys_dir)
    try:
        directory.prepare()
        return _look(directory, before.published, policy, now)
    except KeysUnusable as wrong:
        return _chosen(before.published, now, wrong=[str(wrong)])


def _look(directory: KeyDirectory, known: Sequence[SigningKey], policy: AssertionPolicy, now: float) -> Looked:
    found = directory.read()
    if found.wrong and not known:
        raise KeysUnusable("; ".join(found.wrong))
    keys, wrong = _merged(found.keys, known), list(found.wrong)
    made: list[KeyLife] = []
    try:
        _put_back(directory, keys, found.keys, now)
        if is_due(_lives(keys), now, algorithm=policy.algorithm, rotate_after_s=policy.rotate_after_s):
            key = make_next(directory, keys, policy.algorithm, now, highest=found.highest)
            if key is not None:
                made.append(key.life)
            keys = _merged(directory.read().keys, keys)
        for life in spent_keys(_lives(keys), now):
            directory.drop(life.number)
    except KeysUnusable as error:
        wrong.append(str(error))
    if not keys:
        raise KeysUnusable("; ".join(wrong) or f"{directory.path}: another process makes the first key. Start again")
    return _chosen(keys, now, made=made, wrong=wrong)


def make_next(
    directory: KeyDirectory, keys: Sequence[SigningKey], algorithm: str, now: float, *, highest: int,
    at_once: bool = False,
) -> SigningKey | None:  # fmt: skip
    """Make the next key; None where another process was first. Raises KeysUnusable."""
    private = new_private_key(algorithm)
    number = max([highest, *(key.life.number for key in keys)]) + 1
    life = next_life(
        _lives(keys), now, kid=key_id(private), algorithm=algorithm_of(private), number=number, at_once=at_once
    )
    key = with_life(life, private)
    return key if directory.put(key) else None


def _merged(found: Iterable[SigningKey], known: Iterable[SigningKey]) -> list[SigningKey]:
    """Put together what is on the disk and what is known; a known key stays the same object."""
    by_kid = {key.life.kid: key for key in found} | {key.life.kid: key for key in known}
    return sorted(by_kid.values(), key=lambda key: key.life)


def _put_back(
    directory: KeyDirectory, keys: Sequence[SigningKey], found: Sequence[SigningKey], now: float
) -> None:  # fmt: skip
    """Write again what has vanished and is needed: a process that starts would not know what is being signed with.

    Whoever wants a key gone makes one that withdraws it (`gateway keys rotate --now`).
    """
    lives = _lives(keys)
    signing = signing_key(lives, now)
    needed = [life for life in in_order(lives) if signing is not None and life >= signing]
    there = {key.life.kid for key in found}
    for key in keys:
        if key.life in needed and key.life.kid not in there:
            directory.put(key)


def _chosen(
    keys: Sequence[SigningKey], now: float, *, made: Sequence[KeyLife] = (), wrong: Sequence[str] = ()
) -> Looked:  # fmt: skip
    by_kid = {key.life.kid: key for key in keys}
    lives = _lives(keys)
    signing = signing_key(lives, now)
    assert signing is not None
    published = tuple(by_kid[life.kid] for life in published_keys(lives, now))
    return Looked(published, by_kid[signing.kid], tuple(made), tuple(wrong))


def _lives(keys: Iterable[SigningKey]) -> list[KeyLife]:
    return [key.life for key in keys]
