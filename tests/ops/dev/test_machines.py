"""Machine tokens: their forms, and which of them still hold."""

import jwt
import pytest

from gateway.ops.dev import machines as module
from gateway.ops.dev.issuer import LocalIssuer
from gateway.ops.dev.token_request import TokenOptions
from gateway.ops.dev.world import World


class Clock:
    seconds = 1_800_000_000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def issuer(clock):
    return LocalIssuer("http://127.0.0.1:8081", gateway_origin="http://127.0.0.1:8080", world=World(now=clock))


@pytest.fixture
def machines(issuer):
    return issuer.machines


KINDS = [("api_key", "ak_"), ("m2m", "mt_"), ("oauth", "oat_")]


@pytest.mark.parametrize(("kind", "prefix"), KINDS)
def test_opaque_tokens_are_told_by_their_beginning_and_verified(machines, kind, prefix):
    secret, told = machines.mint(TokenOptions(type=kind, scopes=("a", "b")))
    assert secret.startswith(prefix)
    assert machines.verify(kind, secret) == told
    assert (told["scopes"], told["revoked"], told["expired"]) == (["a", "b"], False, False)
    assert told["id"] != secret


@pytest.mark.parametrize(("kind", "unit"), [("api_key", 1000), ("m2m", 1000), ("oauth", 1)])
def test_times_are_in_clerks_units(machines, clock, kind, unit):
    _, told = machines.mint(TokenOptions(type=kind, expires_in=60))
    assert (told["created_at"], told["expiration"]) == (clock.seconds * unit, (clock.seconds + 60) * unit)


@pytest.mark.parametrize(("kind", "_prefix"), KINDS)
def test_they_hold_until_they_are_revoked_or_over(machines, clock, kind, _prefix):
    secret, _ = machines.mint(TokenOptions(type=kind))
    by_id, told = machines.mint(TokenOptions(type=kind))
    assert machines.revoke(secret)["revoked"]
    assert machines.revoke(told["id"])["revocation_reason"] == "revoked"
    brief, _ = machines.mint(TokenOptions(type=kind, expires_in=5))
    machines.verify(kind, brief)
    clock.seconds += 5
    foreign, _ = machines.mint(TokenOptions(type=kind, foreign=True))
    expired, _ = machines.mint(TokenOptions(type=kind, expires_in=-1))
    for each in (secret, by_id, brief, foreign, expired, "", "ak_"):
        with pytest.raises(LookupError):
            machines.verify(kind, each)
    with pytest.raises(LookupError):
        machines.revoke(foreign)


def test_one_kind_is_not_taken_for_another(machines):
    secret, _ = machines.mint(TokenOptions(type="api_key"))
    with pytest.raises(LookupError):
        machines.verify("m2m", secret)


@pytest.mark.parametrize(
    ("options", "subject"),
    [
        pytest.param({"type": "api_key"}, "user_alice", id="key-of-the-first"),
        pytest.param({"type": "api_key", "user": "bob"}, "user_bob", id="key-of-a-user"),
        pytest.param({"type": "api_key", "org": "acme"}, "org_acme", id="key-of-an-organisation"),
        pytest.param({"type": "api_key", "org": "none"}, "user_alice", id="of-no-organisation"),
        pytest.param({"type": "m2m"}, "mch_reports", id="machine"),
        pytest.param({"type": "m2m", "machine": "mch_x"}, "mch_x", id="another-machine"),
        pytest.param({"type": "oauth", "user": "carol"}, "user_carol", id="oauth"),
    ],
)
def test_subjects(machines, options, subject):
    assert machines.mint(TokenOptions(**options))[1]["subject"] == subject


def test_unknown_people_have_none(machines):
    with pytest.raises(ValueError, match="no user"):
        machines.mint(TokenOptions(type="api_key", user="mallory"))


def signed(issuer, **options):
    token = issuer.answer(TokenOptions(jwt=True, **options), now=0)["token"]
    return jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})


def test_signed_m2m_token(issuer, clock):
    header, claims = signed(issuer, type="m2m", scopes=("a", "b"), audience=("mch_other",))
    assert (header["typ"], header["cat"], header["kid"]) == ("JWT", module.M2M_CATEGORY, issuer.instance)
    assert claims.pop("jti").startswith("mt_")
    now = int(clock.seconds)
    assert claims == {
        "iss": issuer.url, "sub": "mch_reports", "scopes": "a b", "aud": ["mch_other"],
        "exp": now + 3600, "iat": now, "nbf": now - 10,
    }  # fmt: skip


def test_signed_oauth_token(issuer):
    header, claims = signed(issuer, type="oauth", scopes=("a", "b"))
    assert (header["typ"], header.get("cat")) == ("at+jwt", None)
    assert (claims["sub"], claims["scope"], claims["client_id"]) == ("user_alice", "a b", "client_dev")
    assert claims["jti"].startswith("oat_")


def test_signed_foreign_token_has_another_key(issuer):
    header, claims = signed(issuer, type="oauth", foreign=True)
    assert header["kid"] != issuer.instance
    assert claims["iss"] != issuer.url


def test_api_keys_are_never_signed(issuer):
    with pytest.raises(ValueError, match="opaque"):
        signed(issuer, type="api_key")


def test_audience_is_told(machines):
    assert machines.mint(TokenOptions(type="oauth", audience=("x",)))[1]["aud"] == ["x"]
    assert machines.mint(TokenOptions(type="m2m", audience=("x",)))[1]["claims"] == {"aud": ["x"]}
    assert "aud" not in machines.mint(TokenOptions(type="oauth"))[1]
    assert machines.mint(TokenOptions(type="m2m"))[1]["claims"] is None


def test_only_the_last_are_kept(machines, monkeypatch):
    monkeypatch.setattr(module, "MOST", 1)
    first, _ = machines.mint(TokenOptions(type="m2m"))
    second, _ = machines.mint(TokenOptions(type="m2m"))
    machines.verify("m2m", second)
    with pytest.raises(LookupError):
        machines.verify("m2m", first)
