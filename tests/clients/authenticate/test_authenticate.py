"""Clerk's own `authenticateRequest` and a running gateway are asked the same, and have to say the same."""

import asyncio
import dataclasses
import shutil
from collections import Counter
from typing import NamedTuple

import pytest

from tests.clients.authenticate import edge, sdk
from tests.clients.authenticate.api import Api
from tests.clients.authenticate.case import Case, Outcome
from tests.clients.authenticate.differences import DIFFERENCES
from tests.clients.authenticate.setups import SECRETS, is_built
from tests.clients.authenticate.table import CASES
from tests.clients.conftest import HERE

# Every word of the SDK for a request it does not take (CLERK.md §§2.1, 3.4, 4).
REASONS = [
    "client-uat-but-no-session-token", "dev-browser-missing", "dev-browser-sync", "primary-responds-to-syncing",
    "satellite-needs-syncing", "primary-domain-cross-origin-sync", "session-token-and-uat-missing",
    "session-token-missing", "session-token-nbf", "session-token-iat-before-client-uat",
    "session-token-iat-in-the-future", "session-token-but-no-client-uat", "token-type-mismatch", "unexpected-error",
    "token-invalid", "token-invalid-algorithm", "token-invalid-authorized-parties", "token-invalid-issuer",
    "token-invalid-signature", "token-verification-failed", "secret-key-invalid", "jwk-remote-failed-to-load",
    "jwk-kid-mismatch",
]  # fmt: skip
REFRESHES = [
    "non-eligible-no-refresh-cookie", "non-eligible-non-get", "invalid-session-token",
    "expired-session-token-missing-sid-claim", "fetch-error", "unexpected-sdk-error", "unexpected-bapi-error",
    "session_not_found",
]  # fmt: skip
# Beside these: jwk-local-missing, jwk-failed-to-resolve, jwk-remote-invalid, jwk-remote-missing and the refreshes
# missing-api-client, missing-session-token, missing-refresh-token, expired-session-token-decode-failed, which no request
# brings about in a client that has its keys; token-expired, token-not-active-yet and token-iat-in-the-future, which
# authenticateRequest spells in its own way; active-organization-mismatch, for which the gateway has no setting.


class Answers(NamedTuple):
    """What both sides said to each case; the gateway to those it can be asked."""

    sdk: dict[str, Outcome]
    edge: dict[str, Outcome]


async def ask_both() -> Answers:
    answers = {key: answer for case in CASES for key, answer in case.api.items()}
    async with Api(SECRETS, answers) as api:
        said = await sdk.ask_all(CASES, api.url)
        return Answers(said, await edge.ask_all(CASES, api))


@pytest.fixture(scope="session")
def answers() -> Answers:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: apt-get install nodejs npm")
    if not (HERE / "node_modules" / "@clerk" / "backend").exists():
        pytest.skip("Clerk's npm package is not installed: npm ci --prefix tests/clients")
    return asyncio.run(ask_both())


def comparable(said: Outcome, case: Case) -> Outcome:
    """Leave out what this version does not have yet, and messages on machine tokens, which the SDK words otherwise."""
    if not is_built("clerk.handshake"):
        return dataclasses.replace(said, marks=())
    if case.accepts in ("session", "pending"):
        return said
    return dataclasses.replace(said, marks=tuple(mark for mark in said.marks if mark[0] != "x-clerk-auth-message"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_say_the_same(case: Case, answers: Answers) -> None:
    wanted, difference = answers.sdk[case.name], DIFFERENCES.get(case.name)
    missing = [key for key in edge.needs(case) if not is_built(key)]
    if wanted.state == "redirect" and not is_built("clerk.handshake"):
        missing.append("clerk.handshake")
    if missing:
        pytest.skip(f"waits for {', '.join(missing)}")
    wanted, said = comparable(wanted, case), comparable(answers.edge[case.name], case)
    if difference is None:
        assert said == wanted
    else:
        assert said != wanted, "no longer differs: take it out of DIFFERENCES"
        assert f"{said.state} {said.reason}" == difference.says, difference.why


def test_the_table_is_what_it_should_be() -> None:
    names = Counter(case.name for case in CASES)
    assert [name for name, count in names.items() if count > 1] == []
    assert DIFFERENCES.keys() <= names.keys()
    assert len(CASES) >= 200


def test_every_reason_there_is_has_a_row(answers: Answers) -> None:
    given = {said.reason for said in answers.sdk.values()}
    assert {*REASONS, *(f"session-token-expired-refresh-{word}" for word in REFRESHES)} <= given
