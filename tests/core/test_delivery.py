"""Patterns, order, signatures and the schedule; signatures are judged by the libraries upstreams use."""

import base64
import json
import time
from email.utils import formatdate

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st
from svix.webhooks import Webhook, WebhookVerificationError

from gateway.core.delivery import (
    ATTEMPTS,
    DEAD,
    DONE,
    LONGEST_RETRY_AFTER_S,
    LONGEST_WAIT_MS,
    PATTERN,
    PAUSES_S,
    SCHEDULE_S,
    WAITING,
    Answer,
    Subscription,
    Verdict,
    is_away,
    is_wanted,
    judge,
    lane_of,
    sign,
    subscribers,
)
from gateway.core.model import Upstream
from tests.fakes.clerk_events import event, gone, membership, organization, user

KEY = b"0123456789abcdefghijklmn"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def steady() -> float:
    return 0.5


@pytest.mark.parametrize(
    ("patterns", "kind", "wanted"),
    [
        pytest.param(["user.created"], "user.created", True, id="exact"),
        pytest.param(["user.created"], "user.createdx", False, id="exact-is-whole"),
        pytest.param(["user.*"], "user.created", True, id="prefix"),
        pytest.param(["user.*"], "user.a.b", True, id="prefix-of-more"),
        pytest.param(["user.*"], "users.created", False, id="prefix-ends-at-the-dot"),
        pytest.param(["user.*"], "user", False, id="prefix-needs-more"),
        pytest.param(["*"], "tomorrow.invented", True, id="everything"),
        pytest.param(["session.*", "user.deleted"], "user.deleted", True, id="any-of-them"),
        pytest.param(["User.*"], "user.created", False, id="case-counts"),
        pytest.param([], "user.created", False, id="nothing"),
    ],
)
def test_which_types_a_pattern_takes(patterns: list[str], kind: str, wanted: bool) -> None:
    assert is_wanted(patterns, kind) is wanted


@pytest.mark.parametrize("pattern", ["*", "user.*", "user.created", "a.b.*", "a-b_c.d"])
def test_patterns_there_are(pattern: str) -> None:
    assert PATTERN.fullmatch(pattern)


@pytest.mark.parametrize(
    "pattern", ["", "user*", "*.created", "user.*.x", "user..x", ".user", "user.", "**", "u ser", "usér"]
)
def test_patterns_there_are_not(pattern: str) -> None:
    assert not PATTERN.fullmatch(pattern)


def test_who_wants_an_event() -> None:
    def wanting(name: str, *events: str) -> Subscription:
        return Subscription(Upstream(name, ()), "/", events, KEY)

    wanted = [wanting("api", "user.*"), wanting("mail", "email.created"), wanting("audit", "*")]
    assert subscribers(wanted, "user.created") == ("api", "audit")
    assert "0123" not in repr(wanted)


def test_what_concerns_a_user_keeps_to_the_user_s_order() -> None:
    for kind, data in (
        ("user.updated", user()), ("user.deleted", gone("user_1")), ("session.created", {"user_id": "user_1"}),
        ("organizationMembership.created", membership()),
    ):  # fmt: skip
        assert lane_of(event(kind, data), "msg_1") == "user_1"
    assert lane_of(event("organization.created", organization()), "msg_1") == "org_1"
    assert lane_of(event("tomorrow.invented", {}), "msg_1") == "msg_1"


@given(
    svix_id=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
    data=st.dictionaries(st.text(), st.text()),
)
def test_svix_and_standard_webhooks_accept_what_is_signed(svix_id: str, data: dict[str, str]) -> None:
    body, now = json.dumps(data).encode(), time.time()
    fields = sign(KEY, svix_id, body, now=now)
    assert [name for name, _ in fields] == [
        "svix-id", "svix-timestamp", "svix-signature", "webhook-id", "webhook-timestamp", "webhook-signature",
    ]  # fmt: skip
    for spelling in ("svix", "webhook"):
        spelt = {name: value for name, value in fields if name.startswith(spelling)}
        Webhook(SECRET).verify(body, spelt)
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body + b" ", spelt)
    assert standardwebhooks.Webhook(SECRET).verify(body, dict(fields)) == data


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        pytest.param(200, Verdict(DONE), id="ok"),
        pytest.param(204, Verdict(DONE), id="no-content"),
        pytest.param(299, Verdict(DONE), id="any-2xx"),
        pytest.param(101, Verdict(WAITING, 5), id="1xx"),
        pytest.param(301, Verdict(WAITING, 5), id="redirect"),
        pytest.param(400, Verdict(WAITING, 5), id="bad-request"),
        pytest.param(410, Verdict(DEAD), id="gone"),
        pytest.param(500, Verdict(WAITING, 5), id="error"),
        pytest.param(None, Verdict(WAITING, 5), id="no-answer"),
    ],
)
def test_what_an_answer_means(status: int | None, verdict: Verdict) -> None:
    assert judge(Answer(status), made=1, waited_s=0, now=0, rng=steady) == verdict


def test_pauses_grow_over_three_days_and_then_it_is_dead() -> None:
    verdicts = [judge(Answer(500), made=made, waited_s=0, now=0, rng=steady) for made in range(1, ATTEMPTS + 1)]
    assert verdicts == [*(Verdict(WAITING, pause) for pause in PAUSES_S), Verdict(DEAD)]
    assert list(PAUSES_S) == sorted(PAUSES_S)
    assert 3 * 86_400 < sum(PAUSES_S) < LONGEST_WAIT_MS / 1000 / 1.1
    assert judge(Answer(200), made=ATTEMPTS, waited_s=0, now=0, rng=steady) == Verdict(DONE)


def test_what_has_waited_for_longer_than_all_pauses_is_tried_once() -> None:
    def judged(answer: Answer, waited_s: float) -> str:
        return judge(answer, made=1, waited_s=waited_s, now=0, rng=steady).state

    assert judged(Answer(500), SCHEDULE_S) == DEAD
    assert judged(Answer(500), SCHEDULE_S - 1) == WAITING
    assert judged(Answer(200), SCHEDULE_S) == DONE


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_what_waits_for_nobody_gets_all_its_attempts(chance: float) -> None:
    made, waited_s = 1, 15.0
    while True:
        asking = Answer(503, retry_after="3600")
        verdict = judge(asking, made=made, waited_s=waited_s, now=0, rng=lambda: chance)
        if verdict.state == DEAD:
            break
        made, waited_s = made + 1, waited_s + verdict.pause_s + 15  # s of the attempt itself
    assert made == ATTEMPTS


@given(made=st.integers(1, ATTEMPTS - 1), chance=st.floats(0, 1))
def test_a_pause_varies_by_a_tenth(made: int, chance: float) -> None:
    pause = judge(Answer(None), made=made, waited_s=0, now=0, rng=lambda: chance).pause_s
    assert abs(pause - PAUSES_S[made - 1]) <= PAUSES_S[made - 1] * 0.1 + 1e-9


@pytest.mark.parametrize(
    ("status", "retry_after", "pause"),
    [
        pytest.param(429, "60", 60, id="seconds"),
        pytest.param(503, " 60 ", 60, id="unavailable"),
        pytest.param(429, "1", 5, id="never-sooner"),
        pytest.param(429, "9" * 30, LONGEST_RETRY_AFTER_S, id="an-hour-at-most"),
        pytest.param(429, formatdate(1060, usegmt=True), 60, id="date"),
        pytest.param(429, formatdate(10**9, usegmt=True), LONGEST_RETRY_AFTER_S, id="far-date"),
        pytest.param(429, formatdate(0, usegmt=True), 5, id="past-date"),
        pytest.param(429, "soon", 5, id="nonsense"),
        pytest.param(429, "-60", 5, id="negative"),
        pytest.param(429, "²", 5, id="no-ascii-digit"),
        pytest.param(429, "Thu, 32 Jan 9999999 00:00:00 GMT", 5, id="no-date"),
        pytest.param(500, "60", 5, id="of-another-status"),
        pytest.param(429, None, 5, id="none"),
    ],
)
def test_when_an_upstream_wants_to_be_left_alone(status: int, retry_after: str | None, pause: float) -> None:
    assert judge(Answer(status, retry_after=retry_after), made=1, waited_s=0, now=1000, rng=steady).pause_s == pause


@pytest.mark.parametrize(
    ("status", "away"), [(None, True), (502, True), (504, True), (500, False), (503, False), (404, False), (200, False)]
)
def test_who_is_away(status: int | None, away: bool) -> None:
    assert is_away(status) is away
