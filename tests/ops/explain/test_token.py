import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.verify import TokenPolicy, check_claims
from gateway.ops.explain.request import Asked
from gateway.ops.explain.step import BAD, GOOD, NOTE, refusal_of
from gateway.ops.explain.token import claim_steps, moment
from tests.fakes.clerk import FakeClerk
from tests.fakes.gateway import APP, CLERK
from tests.ops.explain.conftest import NOW, explained, story

POLICY = TokenPolicy(issuers=frozenset({CLERK.issuer}), authorized_parties=frozenset({APP}), leeway_s=5)


async def of(token: str, **overrides):
    return await story(asked=Asked("GET", "/x", token), **overrides)


async def test_every_part_of_a_good_token_is_told():
    told = await of(CLERK.session_token(NOW))
    stages = ("token", "issuer", "key", "signature", "sub", "aud", "azp", "iss", "exp", "nbf", "iat")
    assert [explained(told, stage)[0] for stage in stages] == [
        (GOOD, "alg RS256, typ JWT, kid ins_test, cat cl_B7d4PD111AAA, a session's"),
        (NOTE, f"{CLERK.issuer}, the only one configured"),
        (GOOD, "the PEM at clerk.jwt_key, which answers to any kid"),
        (GOOD, "RS256"),
        (GOOD, "user_1"),
        (GOOD, "not said; not checked, because audience is empty"),
        (GOOD, f"{APP}; accepted: {APP}"),
        (GOOD, f"{CLERK.issuer}; accepted: {CLERK.issuer}"),
        (GOOD, "2026-11-18T11:07:40Z, in 1 min"),
        (GOOD, "2026-11-18T11:06:30Z, 10 s ago"),
        (GOOD, "2026-11-18T11:06:40Z, in 0 s"),
    ]


async def test_what_fails_behind_the_first_fault_is_told_too():
    told = await of(CLERK.session_token(NOW - 3700, azp="https://evil.example"))
    assert told.verdict.reason == "token-invalid-authorized-parties"
    assert explained(told, "azp") == [
        (BAD, f"https://evil.example; accepted: {APP} (token-invalid-authorized-parties)")
    ]
    assert explained(told, "exp") == [(BAD, "2026-11-18T10:06:00Z, 1 h 40 s ago (token-expired)")]


async def test_claims_without_a_good_signature_are_told_as_what_they_are():
    told = await of(CLERK.mint(CLERK.session_claims(NOW), key=FakeClerk(key_name="other").key))
    assert explained(told, "signature") == [(BAD, "RS256 (token-invalid-signature)")]
    assert explained(told, "sub") == [(NOTE, "user_1; not proved by a signature")]
    assert explained(told, "token") == [(GOOD, "alg RS256, typ JWT, kid ins_test, cat cl_B7d4PD111AAA, a session's")]


async def test_what_is_no_token_says_why():
    assert explained(await of("nonsense"), "token") == [
        (BAD, "not a token of Clerk's (token-invalid: not three parts)")
    ]
    unsigned = CLERK.mint(CLERK.session_claims(NOW), header={"alg": "none"})
    assert explained(await of(unsigned), "token") == [(BAD, "not a token of Clerk's (token-invalid-algorithm)")]


async def test_a_kind_that_is_not_taken_says_so():
    machine = CLERK.mint(CLERK.session_claims(NOW, sub="mch_1"), drop_header=["cat", "typ"])
    told = await of(machine)
    assert explained(told, "token") == [(GOOD, "alg RS256, typ not said, kid ins_test, cat not said")]
    assert told.verdict.reason == "token-type-mismatch"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (NOW, "2026-11-18T11:06:40Z, in 0 s"),
        (NOW + 3600, "2026-11-18T12:06:40Z, in 1 h"),
        (NOW - 61.4, "2026-11-18T11:05:38Z, 1 min 1 s ago"),
        (NOW - 864_000, "2026-11-08T11:06:40Z, 10 days ago"),
        (None, "not said"),
        (True, "True"),
        ("soon", "soon"),
        (10**30, f"{10**30}"),
    ],
)
def test_a_time_is_told_as_a_date_and_as_how_far_it_is(said, text):
    assert moment(said, NOW) == text


def test_a_claim_that_may_be_missing_says_so():
    lax = TokenPolicy(POLICY.issuers, POLICY.authorized_parties, azp_missing_ok=True, audience=frozenset({"api"}))
    told = {step.stage: step.text for step in claim_steps({"aud": "x"}, lax, NOW, signed=True)}
    assert told["azp"] == f"not said; accepted: {APP}, or none"
    assert told["aud"] == "x; accepted: api (token-verification-failed: aud)"
    assert told["sub"].startswith("not said (token-verification-failed: sub missing")


@pytest.mark.parametrize(
    "payload", [b"[1]", b"nonsense", b"\xff", b"[" * 11_000], ids=["list", "text", "bytes", "deep"]
)
async def test_what_cannot_be_read_says_nothing(payload):
    told = await of(CLERK.sign(b'{"alg": "RS256", "kid": "ins_test"}', payload))
    assert told.verdict.reason == "token-invalid"
    assert explained(told, "sub")[0][1].startswith("not said")


ODD = (None, "", "x", 0, -1, True, 1.5, NOW, NOW + 60, NOW - 60, 2**60, [], ["x"], {}, CLERK.issuer, APP)


@given(st.dictionaries(st.sampled_from(["sub", "aud", "azp", "iss", "exp", "nbf", "iat"]), st.sampled_from(ODD)))
def test_claims_judged_one_by_one_are_good_where_all_are_good_together(changes):
    policy = TokenPolicy(POLICY.issuers, POLICY.authorized_parties, audience=frozenset({"x"}))
    claims = CLERK.session_claims(NOW) | changes
    together = refusal_of(lambda: check_claims(claims, policy, now=NOW))
    failed = [step for step in claim_steps(claims, policy, NOW, signed=True) if step.outcome == BAD]
    assert bool(failed) is (together is not None)
    assert together is None or any(str(together.reason) in step.text for step in failed)
