"""`gateway keys rotate`: make the next signing key of the assertion; running gateways notice by themselves."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.config import load
from gateway.core.assertion import PATH, AssertionPolicy
from gateway.core.rotation import waiting_key
from gateway.errors import ConfigError
from gateway.store.keyring import make_next
from gateway.store.signing_keys import KeyDirectory, KeysUnusable, SigningKey

DONE: Final = 0
FAILED: Final = 1
NOTICED_S: Final = 15  # until a running gateway has looked
Write = Callable[[str], Any]


def rotate(path: str | None, environ: Mapping[str, str], *, at_once: bool, now: float, write: Write) -> int:
    """Make the next key of the configuration's directory, write what takes effect when, and return the exit code."""
    try:
        policy = load(path, environ).assertion
    except ConfigError as error:
        for finding in error.findings:
            write(str(finding))
        return _failed("the configuration is broken", write)
    if policy is None:
        return _failed("identity.assertion.enabled is false, so there are no keys", write)
    try:
        return _rotate(policy, at_once=at_once, now=now, write=write)
    except KeysUnusable as error:
        return _failed(str(error), write)


def _rotate(policy: AssertionPolicy, *, at_once: bool, now: float, write: Write) -> int:
    directory = KeyDirectory(policy.keys_dir)
    directory.prepare()
    found = directory.read()
    if found.wrong and not at_once:
        return _failed("; ".join(found.wrong), write)
    waiting = waiting_key([key.life for key in found.keys], now)
    if waiting is not None and not at_once:
        write(f"nothing to do: the next key, {waiting.kid}, is there and signs from {_time(waiting.signs_from)} on")
        return DONE
    made = make_next(directory, found.keys, policy.algorithm, now, highest=found.highest, at_once=at_once)
    if made is None:
        return _failed("another process has made a key just now. Look again with the same command", write)
    if at_once:
        _withdraw(directory, found.keys, made, write)
    else:
        _say_next(made, found.keys, write)
    return DONE


def _say_next(made: SigningKey, before: list[SigningKey], write: Write) -> None:
    write(f"made {made.life.kid} ({made.life.algorithm})")
    if before:
        write(f"published within {NOTICED_S} s by every running gateway; signs from {_time(made.life.signs_from)} on")
        write("the key before it stays in the set until nothing it signed can live")
    else:
        write("the first key: it signs at once")


def _withdraw(directory: KeyDirectory, others: list[SigningKey], made: SigningKey, write: Write) -> None:
    for number in directory.numbers():
        if number < made.life.number:  # of what cannot be read, too
            directory.drop(number)
    for key in others:
        write(f"withdrew {key.life.kid}")
    write(f"made {made.life.kid} ({made.life.algorithm}): it signs within {NOTICED_S} s, on every running gateway")
    write(f"until they have read {PATH} again, upstreams refuse what it signs and still take what the old keys sign:")
    write("most libraries ask again at once for a key they do not know; restart those that do not")


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _failed(why: str, write: Write) -> int:
    write(f"gateway: not rotated: {why}")
    return FAILED
