"""What is remembered of a verified token, and for how long. The whole way is in `test_pipeline`."""

from gateway.core.model import Identified, Principal
from gateway.web.deps import VerifiedTokens
from tests.fakes.gateway import CLERK, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream

ALICE = Identified(Principal("user_1", "session", {}, frozenset(), 0.0, 60.0), b"", b"")


def test_a_verdict_lives_as_long_as_its_token() -> None:
    tokens = VerifiedTokens()
    tokens.get(b"a", 1, 0)
    tokens.put(b"a", ALICE, good_until=65, now=0)
    assert tokens.get(b"a", 1, 64.9) is ALICE
    assert tokens.get(b"a", 1, 65) is None
    assert tokens.get(b"b", 1, 0) is None


def test_a_verdict_lives_five_minutes_at_most() -> None:
    tokens = VerifiedTokens()
    tokens.get(b"a", 1, 0)
    tokens.put(b"a", ALICE, good_until=86_400, now=0)
    assert tokens.get(b"a", 1, 299) is ALICE
    assert tokens.get(b"a", 1, 300) is None


def test_other_keys_forget_every_verdict() -> None:
    tokens = VerifiedTokens()
    tokens.get(b"a", 1, 0)
    tokens.put(b"a", ALICE, good_until=65, now=0)
    assert tokens.get(b"a", 2, 0) is None
    assert tokens.get(b"a", 1, 0) is None


def test_the_oldest_makes_room() -> None:
    tokens = VerifiedTokens(most=2)
    tokens.get(b"a", 1, 0)
    for key in (b"a", b"b", b"a", b"c"):
        tokens.put(key, ALICE, good_until=65, now=0)
    assert len(tokens) == 2
    assert [tokens.get(key, 1, 0) is ALICE for key in (b"a", b"b", b"c")] == [True, False, True]


def test_a_refusal_is_remembered_for_a_minute_and_under_the_same_keys() -> None:
    tokens = VerifiedTokens(most=8)
    tokens.get(b"a", 1, 0)
    tokens.refuse(b"a", "token-expired", now=0)
    assert (tokens.refusal(b"a", 59.9), tokens.refusal(b"a", 60), tokens.refusal(b"b", 0)) == (
        "token-expired",
        None,
        None,
    )
    for key in (b"b", b"c"):  # a quarter of what may be remembered
        tokens.refuse(key, "token-invalid", now=0)
    assert [tokens.refusal(key, 0) is not None for key in (b"a", b"b", b"c")] == [False, True, True]
    tokens.get(b"a", 2, 0)
    assert tokens.refusal(b"c", 0) is None


async def test_a_token_that_is_not_active_yet_is_asked_again_and_an_expired_one_is_not() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        now = int(running.clock())
        early, late = running.token(nbf=now + 20), running.token(exp=now - 60)
        for token, reason in ((early, "token-not-active-yet"), (late, "token-expired")) * 2:
            answer = await running.get("/x", token=token)
            assert (answer.status, answer.json["reason"]) == (401, reason)
        running.clock.seconds += 20
        assert (await running.get("/x", token=early)).status == 200
        assert (await running.get("/x", token=late)).status == 401


async def test_an_object_cannot_be_a_header_and_the_log_says_so_once_a_token() -> None:
    identity = {"headers": {"X-Meta": "meta", "X-Plan": "meta.plan"}}
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, identity=identity) as running:
        token = running.token(meta={"plan": "pro"})
        for _ in range(2):
            await running.get("/x", token=token)
        told = [line for line in await running.logged() if line["event"] == "identity_header_dropped"]
    assert (echo.last.value("X-Plan"), echo.last.value("X-Meta")) == ("pro", None)
    assert [line["header"] for line in told] == ["X-Meta"]


async def test_a_configuration_without_an_issuer_serves_its_public_routes() -> None:
    routes = [{"name": "all", "path": "/*", "upstream": "api", "auth": "public"}]
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, routes=routes, clerk=None) as running:
        assert (await running.get("/x", token=CLERK.session_token(0))).status == 200
        assert (await running.get("/readyz")).status == 200


def test_verdicts_are_forgotten_by_who_they_are_about() -> None:
    tokens = VerifiedTokens()
    tokens.get(b"", 1, 0)

    def remember() -> None:
        for key, who in {
            b"a": ALICE.principal._replace(user_id="user_1", session_id="sess_1", org_id="org_1"),
            b"b": ALICE.principal._replace(user_id="user_1", session_id="sess_2"),
            b"c": ALICE.principal._replace(user_id="user_2", session_id="sess_3", org_id="org_1"),
            b"d": ALICE.principal._replace(machine_id="mch_1"),
        }.items():
            tokens.put(key, ALICE._replace(principal=who), good_until=65, now=0)

    def left() -> str:
        return "".join(key.decode() for key in (b"a", b"b", b"c", b"d") if tokens.get(key, 1, 0) is not None)

    wanted: list[tuple[dict[str, str], str]] = [
        ({"user": "user_1"}, "cd"), ({"user": "user_9"}, "abcd"), ({"session": "sess_2"}, "acd"),
        ({"user": "user_1", "org": "org_1"}, "bcd"), ({"org": "org_1"}, "bd"), ({}, ""),
        ({"user": "user_2", "session": "sess_2"}, "abcd"), ({"org": "user_1"}, "abcd"),
    ]  # fmt: skip
    for who, remaining in wanted:
        remember()
        tokens.forget(**who)
        assert left() == remaining


def test_who_made_room_leaves_nothing_behind() -> None:
    tokens = VerifiedTokens(most=2)
    tokens.get(b"", 1, 0)
    for number in range(9):
        who = ALICE.principal._replace(user_id=f"user_{number % 4}")
        tokens.put(b"%d" % number, ALICE._replace(principal=who), good_until=65, now=0)
    assert len(tokens) == 2
    session = ALICE.principal.session_id
    assert tokens._of == {"user_3": {b"7"}, "user_0": {b"8"}} | ({session: {b"7", b"8"}} if session else {})
    tokens.get(b"", 2, 0)
    assert not tokens._of
