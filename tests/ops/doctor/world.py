"""What tests of the doctor begin with: a configuration, two Clerk instances, answers as they would have come."""

import json
from typing import Any

from gateway.config import Config
from gateway.core.verify import KeySet, parse_jwks
from gateway.ops.doctor.asking import Answer
from gateway.ops.doctor.diagnosis import Diagnosis
from gateway.ops.doctor.instances import Instance, instances_of
from tests.config.files import APP, loaded, written
from tests.fakes.clerk import FakeClerk

CLERK = FakeClerk()
OTHER = FakeClerk("https://clerk.other.example", kid="ins_other", key_name="second")
NOW = 1_800_000_000.0
SECRET = "sk_live_abcdefgh"
KEYED = f"{{issuer: clerk.example.com, secret_key: {SECRET}, authorized_parties: [{APP}]}}"


def configured(**sections: str) -> Config:
    """Load the good file with some sections replaced."""
    return loaded(written(**sections))


def instance(clerk: str | None = None) -> Instance:
    """Give the only instance of a configuration."""
    (only,) = instances_of(configured(**({"clerk": clerk} if clerk else {})))
    return only


def pem_of(clerk: FakeClerk) -> str:
    """Write a public key as an environment variable has it."""
    return json.dumps(clerk.pem())


def keys_of(*clerks: FakeClerk) -> KeySet:
    """Give the key set that these publish."""
    return parse_jwks(jwks_of(*clerks))


def jwks_of(*clerks: FakeClerk) -> bytes:
    """Write it."""
    return json.dumps({"keys": [clerk.jwk() for clerk in clerks]}).encode()


def answer(status: int = 200, body: Any = b"", *, offset_s: float | None = None, **fields: str) -> Answer:
    """Make an answer; what is not bytes becomes JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in fields.items()}, content, offset_s)


def said(found: Diagnosis | list[Diagnosis]) -> str:
    """Write diagnoses as tables look for words in them."""
    return "\n".join(f"{each.level} {each.subject}: {each.found} -> {each.remedy}"
                     for each in ([found] if isinstance(found, Diagnosis) else found))  # fmt: skip


def levels(found: list[Diagnosis]) -> list[str]:
    """Give their levels."""
    return [each.level for each in found]
