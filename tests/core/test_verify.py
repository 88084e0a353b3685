import base64
import contextlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.verify import (
    MAX_HEADER_BYTES,
    MAX_JWKS_BYTES,
    MAX_TOKEN_BYTES,
    KeySet,
    TokenPolicy,
    check_claims,
    claimed_issuer,
    key_set_from_pem,
    numeric_date,
    parse_jwks,
    read_token,
    verify_token,
)
from gateway.errors import InvalidToken
from tests.fakes.clerk import SESSION, FakeClerk, b64url, public_jwk, rsa_key

NOW = 1_700_000_000.0
AZP = "https://app.example.com"
CLERK = FakeClerk()
PUBLIC = CLERK.key.public_key()
POLICY = TokenPolicy(issuers=frozenset({CLERK.issuer}))
STRICT = TokenPolicy(issuers=POLICY.issuers, authorized_parties=frozenset({AZP}), audience=frozenset({"convex", "api"}))
LAX_AZP = TokenPolicy(issuers=POLICY.issuers, authorized_parties=frozenset({AZP}), azp_missing_ok=True)
GOOD = CLERK.session_claims(NOW)


def refusal(raw: bytes | str, policy: TokenPolicy = POLICY, now: float = NOW) -> InvalidToken:
    with pytest.raises(InvalidToken) as refused:
        verify_token(read_token(raw.encode() if isinstance(raw, str) else raw), PUBLIC, policy, now=now)
    return refused.value


def changed(**overrides: Any) -> dict[str, Any]:
    return CLERK.session_claims(NOW, **overrides)


# --- good tokens ---


@pytest.mark.parametrize("policy", [POLICY, STRICT, LAX_AZP], ids=["plain", "strict", "azp-may-miss"])
def test_good_token_gives_its_claims(policy):
    token = read_token(CLERK.session_token(NOW).encode())
    assert (token.kid, token.category) == (CLERK.kid, SESSION)
    assert verify_token(token, PUBLIC, policy, now=NOW) == GOOD


@pytest.mark.parametrize("header", [
    pytest.param({"oiat": 5, "new": [1]}, id="unknown-members"),
    pytest.param({"typ": "at+jwt"}, id="oauth-short"),
    pytest.param({"typ": "application/at+jwt"}, id="oauth-long"),
    pytest.param({"jku": "https://evil.example/jwks", "x5u": "https://evil.example/c"}, id="key-addresses"),
    pytest.param({"x5c": ["MIIB"], "jwk": public_jwk(rsa_key("second"), "x")}, id="keys-inside"),
    pytest.param({"b64": False}, id="b64-without-crit"),
])  # fmt: skip
def test_header_members_that_say_nothing_are_passed_over(header):
    token = read_token(CLERK.mint(GOOD, header=header).encode())
    assert verify_token(token, PUBLIC, POLICY, now=NOW) == GOOD


def test_header_may_lack_typ_kid_and_cat():
    token = read_token(CLERK.mint(GOOD, drop_header=("typ", "kid", "cat")).encode())
    assert (token.kid, token.category) == (None, None)
    assert verify_token(token, PUBLIC, POLICY, now=NOW) == GOOD


def test_repr_does_not_give_the_token_away():
    token = read_token(CLERK.session_token(NOW).encode())
    assert repr(token) == f"SignedToken(kid='{CLERK.kid}', category='{SESSION}')"


# --- form and header ---


HEADER = b'{"alg":"RS256"}'


@pytest.mark.parametrize("raw", [
    pytest.param(b"", id="empty"),
    pytest.param(b"..", id="dots"),
    pytest.param(b"abc", id="one-part"),
    pytest.param(b"e30.e30", id="two-parts"),
    pytest.param(b"e30.e30.e30.e30", id="four-parts"),
    pytest.param(b"e30.e30.e30.e30.e30", id="jwe"),
    pytest.param(b"e30.e30.\xff", id="not-ascii"),
    pytest.param(b64url(b"[1]").encode() + b".e30.", id="header-is-a-list"),
    pytest.param(b64url(b"null").encode() + b".e30.", id="header-is-null"),
    pytest.param(b64url(b"\xff\xfe").encode() + b".e30.", id="header-is-not-utf8"),
    pytest.param(b64url(b"\xef\xbb\xbf" + HEADER).encode() + b".e30.", id="header-has-a-bom"),
    pytest.param(b64url(HEADER.decode().encode("utf-16")).encode() + b".e30.", id="header-is-utf16"),
    pytest.param(b64url(b"[" * 3000).encode() + b".e30.", id="header-nested-deeply"),
    pytest.param(b64url(b'{"alg":"RS256","alg":"none"}').encode() + b".e30.", id="header-names-alg-twice"),
    pytest.param(b64url(b'{"alg":"RS256","x":{"a":1,"a":1}}').encode() + b".e30.", id="duplicate-inside"),
    pytest.param(b64url(b'{"alg":"RS256","x":NaN}').encode() + b".e30.", id="header-has-nan"),
    pytest.param(b64url(b'{"alg":"RS256","x":1e999}').encode() + b".e30.", id="header-has-infinite-number"),
    pytest.param(b64url(b'{"alg":"RS256","x":-1e999}').encode() + b".e30.", id="header-has-minus-infinite-number"),
    pytest.param(b64url(b'{"alg":"RS256","x":"\\ud800"}').encode() + b".e30.", id="half-a-surrogate-pair"),
])  # fmt: skip
def test_read_token_refuses_what_is_no_token(raw):
    with pytest.raises(InvalidToken) as refused:
        read_token(raw)
    assert refused.value.reason == "token-invalid"


def test_escaped_text_with_whole_characters_is_read():
    head = b64url(b'{"alg":"RS256","x":"\\ud83d\\ude00"}')
    assert read_token(f"{head}.e30.".encode()).header["x"] == "\U0001f600"


def spoilt(raw: str, part: int, new: str) -> str:
    parts = raw.split(".")
    parts[part] = new
    return ".".join(parts)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "payload", "signature"])
@pytest.mark.parametrize("spoil", [
    pytest.param(lambda text: text + "=", id="padding"),
    pytest.param(lambda text: text + "\n", id="newline"),
    pytest.param(lambda text: " " + text, id="blank"),
    pytest.param(lambda text: text[:-1] + "+", id="standard-alphabet"),
    pytest.param(lambda text: text[:5] + "!" + text[5:], id="foreign-character-inside"),
    pytest.param(lambda text: "A", id="impossible-length"),
    pytest.param(lambda text: "YR", id="stray-last-bits"),
])  # fmt: skip
def test_base64url_is_strict(part, spoil):
    good = CLERK.session_token(NOW)
    with pytest.raises(InvalidToken) as refused:
        read_token(spoilt(good, part, spoil(good.split(".")[part])).encode())
    assert (refused.value.reason, refused.value.detail) == ("token-invalid", "not base64url")


def test_token_may_be_as_long_as_the_limit_and_no_longer():
    head = b64url(HEADER) + "."
    payload = "A" * (MAX_TOKEN_BYTES - len(head) - 1)
    payload = payload[: len(payload) // 4 * 4]
    signature = "A" * (MAX_TOKEN_BYTES - len(head) - len(payload) - 1)
    longest = f"{head}{payload}.{signature}"
    assert len(longest) == MAX_TOKEN_BYTES
    assert read_token(longest.encode()).header == {"alg": "RS256"}
    with pytest.raises(InvalidToken) as refused:
        read_token(f"{head}{payload}AAAA.{signature}".encode())
    assert refused.value.detail == f"longer than {MAX_TOKEN_BYTES} bytes"


def test_header_is_bounded_before_it_is_parsed():
    fits = b'{"alg":"RS256"}'.ljust(MAX_HEADER_BYTES)
    assert read_token(f"{b64url(fits)}.e30.".encode()).kid is None
    with pytest.raises(InvalidToken) as refused:
        read_token(f"{b64url(fits + b' ')}.e30.".encode())
    assert refused.value.detail == f"header longer than {MAX_HEADER_BYTES} bytes"


def test_nesting_of_the_header_is_bounded_before_it_is_parsed():
    head = b'{"alg":"RS256","x":' + b"[" * 31 + b"]" * 31 + b"}"
    assert read_token(f"{b64url(head)}.e30.".encode()).kid is None
    with pytest.raises(InvalidToken) as refused:
        read_token(f"{b64url(head.replace(b'[]', b'[{}]'))}.e30.".encode())
    assert refused.value.detail == "header nested too deeply"


@pytest.mark.parametrize(("header", "reason", "detail"), [
    pytest.param({"alg": "none"}, "token-invalid-algorithm", None, id="none"),
    pytest.param({"alg": "None"}, "token-invalid-algorithm", None, id="none-in-other-case"),
    pytest.param({"alg": "HS256"}, "token-invalid-algorithm", None, id="hs256"),
    pytest.param({"alg": "RS512"}, "token-invalid-algorithm", None, id="rs512"),
    pytest.param({"alg": "PS256"}, "token-invalid-algorithm", None, id="ps256"),
    pytest.param({"alg": "rs256"}, "token-invalid-algorithm", None, id="lower-case"),
    pytest.param({"alg": ["RS256"]}, "token-invalid-algorithm", None, id="alg-is-a-list"),
    pytest.param({"alg": None}, "token-invalid-algorithm", None, id="alg-is-null"),
    pytest.param({"crit": ["exp"]}, "token-invalid", "crit", id="crit"),
    pytest.param({"crit": []}, "token-invalid", "crit", id="crit-empty"),
    pytest.param({"crit": ["b64"], "b64": False}, "token-invalid", "crit", id="unencoded-payload"),
    pytest.param({"typ": "jwt"}, "token-invalid", "typ", id="typ-in-lower-case"),
    pytest.param({"typ": "JWE"}, "token-invalid", "typ", id="typ-other"),
    pytest.param({"typ": None}, "token-invalid", "typ", id="typ-is-null"),
    pytest.param({"typ": {"a": 1}}, "token-invalid", "typ", id="typ-is-an-object"),
    pytest.param({"kid": None}, "token-invalid", "kid", id="kid-is-null"),
    pytest.param({"kid": 7}, "token-invalid", "kid", id="kid-is-a-number"),
    pytest.param({"kid": ""}, "token-invalid", "kid", id="kid-is-empty"),
    pytest.param({"kid": "a\nb"}, "token-invalid", "kid", id="kid-has-a-newline"),
    pytest.param({"kid": "k" * 257}, "token-invalid", "kid", id="kid-too-long"),
    pytest.param({"cat": 1}, "token-invalid", "cat", id="cat-is-a-number"),
    pytest.param({"cat": None}, "token-invalid", "cat", id="cat-is-null"),
])  # fmt: skip
def test_read_token_refuses_header(header, reason, detail):
    with pytest.raises(InvalidToken) as refused:
        read_token(CLERK.mint(GOOD, header=header).encode())
    assert (refused.value.reason, refused.value.detail) == (reason, detail)


def test_alg_must_be_there():
    assert refusal(CLERK.mint(GOOD, drop_header=("alg",))).reason == "token-invalid-algorithm"


@pytest.mark.parametrize("kid", ["../../etc/passwd", "x' OR 1=1 --", "k" * 256, "ключ"])
def test_kid_is_only_a_name(kid):
    assert read_token(CLERK.mint(GOOD, header={"kid": kid}).encode()).kid == kid


# --- signature ---


@pytest.mark.parametrize("raw", [
    pytest.param(CLERK.mint(GOOD, key=rsa_key("second")), id="other-key"),
    pytest.param(CLERK.mint(GOOD, key=rsa_key("second"), header={"jwk": public_jwk(rsa_key("second"), "x")}),
                 id="brings-its-own-key"),
    pytest.param(spoilt(CLERK.session_token(NOW), 2, ""), id="no-signature"),
    pytest.param(spoilt(CLERK.session_token(NOW), 2, "AAAA"), id="short-signature"),
    pytest.param(spoilt(CLERK.session_token(NOW), 2, b64url(b"\0" * 256)), id="zero-signature"),
    pytest.param(spoilt(CLERK.session_token(NOW), 1, b64url(b'{"sub":"user_2"}')), id="other-payload"),
    pytest.param(spoilt(CLERK.session_token(NOW), 0, b64url(b'{"alg":"RS256"}')), id="other-header"),
    pytest.param(spoilt(CLERK.session_token(NOW), 1, b64url(b"no json")), id="payload-is-not-even-json"),
    pytest.param(spoilt(CLERK.session_token(NOW, exp=1), 2, b64url(b"\1" * 256)), id="expired-as-well"),
])  # fmt: skip
def test_signature_is_checked_before_anything_in_the_payload(raw):
    assert refusal(raw).reason == "token-invalid-signature"


@pytest.mark.parametrize("payload", [
    b"", b"x", b"[]", b"1", b"null", b'"a"', b"\xff", b"{'a': 1}", b"{}{}",
    json.dumps(GOOD).encode()[:-1] + b',"sub":"user_2"}',
    json.dumps(GOOD).encode()[:-1] + b',"o":{"id":"a","id":"b"}}',
    json.dumps(GOOD).encode()[:-1] + b',"x":Infinity}',
    json.dumps(GOOD).encode()[:-1] + b',"x":1e999}',
    json.dumps(GOOD).encode()[:-1] + b',"x":' + b"9" * 5000 + b"}",
    json.dumps(GOOD).encode()[:-1] + b',"x":"\\udc00"}',
    json.dumps(GOOD).encode()[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
], ids=[
    "empty", "text", "list", "number", "null", "string", "not-utf8", "quotes", "two-objects", "duplicate",
    "duplicate-inside", "infinity", "infinite-number", "endless-number", "half-a-pair", "nested-deeply",
])  # fmt: skip
def test_signed_payload_must_be_one_plain_json_object(payload):
    assert refusal(CLERK.sign(HEADER, payload)).reason == "token-invalid"


# --- claims ---


@pytest.mark.parametrize(("change", "reason"), [
    pytest.param({"sub": ...}, "token-verification-failed", id="sub-missing"),
    pytest.param({"sub": ""}, "token-verification-failed", id="sub-empty"),
    pytest.param({"sub": 7}, "token-verification-failed", id="sub-is-a-number"),
    pytest.param({"sub": "user_1\r\nX: y"}, "token-verification-failed", id="sub-with-newline"),
    pytest.param({"sub": "u" * 257}, "token-verification-failed", id="sub-too-long"),
    pytest.param({"iss": ...}, "token-invalid-issuer", id="iss-missing"),
    pytest.param({"iss": "https://evil.example"}, "token-invalid-issuer", id="iss-foreign"),
    pytest.param({"iss": "https://clerk.example.com/"}, "token-invalid-issuer", id="iss-trailing-slash"),
    pytest.param({"iss": "https://CLERK.example.com"}, "token-invalid-issuer", id="iss-other-case"),
    pytest.param({"iss": ["https://clerk.example.com"]}, "token-invalid-issuer", id="iss-is-a-list"),
    pytest.param({"exp": ...}, "token-verification-failed", id="exp-missing"),
    pytest.param({"exp": True}, "token-verification-failed", id="exp-is-bool"),
    pytest.param({"exp": str(int(NOW) + 60)}, "token-verification-failed", id="exp-is-text"),
    pytest.param({"exp": None}, "token-verification-failed", id="exp-is-null"),
    pytest.param({"exp": 10**400}, "token-verification-failed", id="exp-is-no-float"),
    pytest.param({"exp": 2**53 + 2}, "token-verification-failed", id="exp-is-huge"),
    pytest.param({"exp": -1e300}, "token-verification-failed", id="exp-is-hugely-negative"),
    pytest.param({"exp": -1}, "token-expired", id="exp-is-negative"),
    pytest.param({"exp": NOW - 5}, "token-expired", id="leeway-is-not-inclusive"),
    pytest.param({"nbf": "0"}, "token-verification-failed", id="nbf-is-text"),
    pytest.param({"nbf": None}, "token-verification-failed", id="nbf-is-null"),
    pytest.param({"nbf": False}, "token-verification-failed", id="nbf-is-bool"),
    pytest.param({"nbf": NOW + 5.001}, "token-not-active-yet", id="nbf-ahead"),
    pytest.param({"iat": ...}, "token-verification-failed", id="iat-missing"),
    pytest.param({"iat": "0"}, "token-verification-failed", id="iat-is-text"),
    pytest.param({"iat": True}, "token-verification-failed", id="iat-is-bool"),
    pytest.param({"iat": NOW + 5.001}, "token-iat-in-the-future", id="iat-ahead"),
])  # fmt: skip
def test_check_claims_refuses(change, reason):
    with pytest.raises(InvalidToken) as refused:
        check_claims(changed(**change), POLICY, now=NOW)
    assert refused.value.reason == reason


@pytest.mark.parametrize("change", [
    pytest.param({"exp": NOW - 4.999}, id="just-expired"),
    pytest.param({"nbf": NOW + 5}, id="nbf-within-leeway"),
    pytest.param({"nbf": ...}, id="no-nbf"),
    pytest.param({"iat": NOW + 5}, id="iat-within-leeway"),
    pytest.param({"azp": ...}, id="azp-unchecked"),
    pytest.param({"aud": 7}, id="aud-unchecked"),
    pytest.param({"sub": "u" * 256}, id="sub-at-its-longest"),
    pytest.param({"exp": 2**53}, id="exp-at-its-latest"),
])  # fmt: skip
def test_check_claims_takes(change):
    check_claims(changed(**change), POLICY, now=NOW)


def test_leeway_may_be_nothing():
    sharp = TokenPolicy(issuers=POLICY.issuers, leeway_s=0)
    check_claims(changed(exp=NOW + 0.5, iat=NOW), sharp, now=NOW)
    with pytest.raises(InvalidToken):
        check_claims(changed(exp=NOW, iat=NOW), sharp, now=NOW)


@pytest.mark.parametrize("azp", [..., None, ""], ids=["absent", "null", "empty"])
def test_missing_azp_is_refused_unless_the_policy_says_otherwise(azp):
    with pytest.raises(InvalidToken) as refused:
        check_claims(changed(azp=azp), STRICT, now=NOW)
    assert (refused.value.reason, refused.value.detail) == ("token-invalid-authorized-parties", "azp missing")
    check_claims(changed(azp=azp), LAX_AZP, now=NOW)


@pytest.mark.parametrize("policy", [STRICT, LAX_AZP], ids=["strict", "azp-may-miss"])
@pytest.mark.parametrize("azp", [AZP + "/", AZP.upper(), "http://app.example.com", "null", 0, False, [AZP], {}])
def test_azp_must_be_a_party_to_the_letter(policy, azp):
    with pytest.raises(InvalidToken) as refused:
        check_claims(changed(azp=azp), policy, now=NOW)
    assert refused.value.reason == "token-invalid-authorized-parties"


@pytest.mark.parametrize(("aud", "good"), [
    (..., True), ("convex", True), (["x", "api"], True),
    ("other", False), (["other"], False), ([], False), ("", False), ("Convex", False), ("convexx", False),
    (["api", 7], False), (["api", ["api"]], False), (None, False), (7, False), ({"api": 1}, False), (True, False),
], ids=str)  # fmt: skip
def test_audience_is_checked_where_the_token_has_one(aud, good):
    if good:
        check_claims(changed(aud=aud), STRICT, now=NOW)
        return
    with pytest.raises(InvalidToken) as refused:
        check_claims(changed(aud=aud), STRICT, now=NOW)
    assert (refused.value.reason, refused.value.detail) == ("token-verification-failed", "aud")


@pytest.mark.parametrize(("wrong", "reason"), [
    ({"sub": "", "aud": "x", "azp": "x", "iss": "x", "exp": 1}, "token-verification-failed"),
    ({"aud": "x", "azp": "x", "iss": "x", "exp": 1}, "token-verification-failed"),
    ({"azp": "x", "iss": "x", "exp": 1}, "token-invalid-authorized-parties"),
    ({"iss": "x", "exp": 1}, "token-invalid-issuer"),
    ({"exp": 1, "nbf": NOW + 60, "iat": NOW + 60}, "token-expired"),
    ({"nbf": NOW + 60, "iat": NOW + 60}, "token-not-active-yet"),
    ({"iat": NOW + 60}, "token-iat-in-the-future"),
], ids=["sub", "aud", "azp", "iss", "exp", "nbf", "iat"])  # fmt: skip
def test_claims_are_checked_in_clerks_order(wrong, reason):
    assert refusal(CLERK.session_token(NOW, **wrong), STRICT).reason == reason


def test_numeric_date_tells_absent_from_wrong():
    assert numeric_date({}, "nbf") is None
    assert numeric_date({"nbf": 0}, "nbf") == 0.0


# --- laws ---


@given(st.binary(max_size=400))
def test_arbitrary_bytes_end_in_invalid_token(raw):
    with pytest.raises(InvalidToken):
        verify_token(read_token(raw), PUBLIC, POLICY, now=NOW)


@given(st.data())
def test_no_changed_byte_survives(data):
    raw = bytearray(CLERK.session_token(NOW).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    new = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    raw[at] = new
    with pytest.raises(InvalidToken):
        verify_token(read_token(bytes(raw)), PUBLIC, POLICY, now=NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "cat", "crit", "x"]), JSON), st.binary(max_size=60))
def test_any_signed_header_and_payload_end_in_claims_or_invalid_token(header, payload):
    raw = CLERK.sign(json.dumps({"alg": "RS256"} | header).encode(), payload)
    with pytest.raises(InvalidToken):
        verify_token(read_token(raw.encode()), PUBLIC, POLICY, now=NOW)


@given(st.dictionaries(st.sampled_from([*GOOD, "aud", "o"]), JSON))
def test_any_claims_are_taken_or_end_in_invalid_token(overrides):
    with contextlib.suppress(InvalidToken):
        check_claims(GOOD | overrides, STRICT, now=NOW)


# --- key sets ---


def jwks(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


def test_key_set_finds_by_kid_only():
    keys = parse_jwks(jwks(CLERK.jwk(), public_jwk(rsa_key("second"), "ins_2")))
    assert keys.find(CLERK.kid) == PUBLIC
    assert keys.find("ins_2") == rsa_key("second").public_key()
    assert keys.find("ins_3") is None
    assert keys.find(None) is None
    assert (keys.kids, len(keys)) == ({CLERK.kid, "ins_2"}, 2)


def test_key_set_needs_a_kid_even_with_one_key():
    assert parse_jwks(jwks(CLERK.jwk())).find(None) is None


def test_single_key_answers_to_any_kid():
    keys = KeySet({}, any_kid=PUBLIC)
    assert keys.find(None) == keys.find("anything") == PUBLIC
    assert (keys.kids, len(keys)) == (frozenset(), 1)


def test_key_sets_are_equal_by_content():
    one = parse_jwks(jwks(CLERK.jwk(), public_jwk(rsa_key("second"), "b")))
    same = parse_jwks(jwks(public_jwk(rsa_key("second"), "b"), CLERK.jwk(x5t="extra")))
    assert one == same
    assert hash(one) == hash(same)
    assert one != parse_jwks(jwks(CLERK.jwk()))
    assert one != parse_jwks(jwks(CLERK.jwk(), public_jwk(rsa_key("second"), "c")))
    assert parse_jwks(jwks(CLERK.jwk())) != KeySet({}, any_kid=PUBLIC)
    assert one != "a set"


@pytest.mark.parametrize("changes", [{"alg": None}, {"use": None}, {"key_ops": ["verify"]}, {"x5c": ["M"]}], ids=str)
def test_jwk_may_leave_out_alg_and_use(changes):
    assert len(parse_jwks(jwks(CLERK.jwk(**changes)))) == 1


UNUSABLE = {
    "no-object": 7,
    "elliptic": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "e"},
    "symmetric": {"kty": "oct", "k": "c2VjcmV0", "kid": "o"},
    "rs512": CLERK.jwk(kid="a", alg="RS512"),
    "encryption": CLERK.jwk(kid="b", use="enc"),
    "no-kid": CLERK.jwk(kid=None),
    "kid-is-a-number": CLERK.jwk(kid=1),
    "kid-too-long": CLERK.jwk(kid="k" * 257),
    "no-modulus": CLERK.jwk(kid="c", n=None),
    "exponent-is-a-number": CLERK.jwk(kid="d", e=65537),
    "modulus-with-padding": CLERK.jwk(kid="f", n=CLERK.jwk()["n"] + "=="),
    "modulus-not-ascii": CLERK.jwk(kid="g", n="é"),
    "modulus-half-a-pair": CLERK.jwk(kid="g", n="\ud800"),
    "exponent-one": CLERK.jwk(kid="h", e="AQ"),
    "weak": public_jwk(rsa_key("weak", 1024), "w"),
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_key_is_skipped_and_alone_refused(entry):
    if entry != UNUSABLE["modulus-half-a-pair"]:  # that one spoils the document
        assert parse_jwks(jwks(entry, CLERK.jwk())).kids == {CLERK.kid}
    with pytest.raises(ValueError, match=r"no usable key|not JSON"):
        parse_jwks(jwks(entry))


@pytest.mark.parametrize(("body", "cause"), [
    pytest.param(b"<!doctype html>", "not JSON", id="html"),
    pytest.param(b"\xff", "not JSON", id="bytes"),
    pytest.param(b"", "not JSON", id="empty"),
    pytest.param(b'{"keys": [], "keys": []}', "not JSON", id="keys-twice"),
    pytest.param(b"[]", 'no list "keys"', id="list"),
    pytest.param(b"{}", 'no list "keys"', id="no-keys"),
    pytest.param(b'{"keys": {}}', 'no list "keys"', id="keys-is-an-object"),
    pytest.param(b'{"keys": []}', "the set is empty", id="empty-set"),
    pytest.param(jwks(public_jwk(rsa_key("weak", 1024), "w")), "RSA key of 1024 bits", id="weak"),
    pytest.param(jwks(CLERK.jwk(), public_jwk(rsa_key("second"), CLERK.kid)), "same kid", id="same-kid"),
    pytest.param(jwks(*[CLERK.jwk()] * 51), "too many keys: 51", id="too-many"),
    pytest.param(jwks(CLERK.jwk()).ljust(MAX_JWKS_BYTES + 1), "too large", id="too-large"),
])  # fmt: skip
def test_parse_jwks_refuses_and_names_the_cause(body, cause):
    with pytest.raises(ValueError, match=cause):
        parse_jwks(body)


def test_parse_jwks_takes_a_set_at_its_limits():
    keys = [CLERK.jwk(kid=f"ins_{number}") for number in range(50)]
    assert len(parse_jwks(jwks(*keys).ljust(MAX_JWKS_BYTES))) == 50


# --- PEM ---


PEM = CLERK.pem()
BARE = "".join(PEM.splitlines()[1:-1])
PKCS1 = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1).decode()
FORM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("text", [
    pytest.param(PEM, id="as-shown"),
    pytest.param(PKCS1, id="pkcs1"),
    pytest.param(PEM.replace("\n", "\r\n"), id="crlf"),
    pytest.param(PEM.replace("\n", "\\n"), id="literal-newlines"),
    pytest.param(PEM.replace("\n", "\\r\\n"), id="literal-crlf"),
    pytest.param('"' + PEM.replace("\n", "\\n") + '"', id="quoted"),
    pytest.param(PEM.replace("\n", " "), id="one-line"),
    pytest.param(f"\n  {PEM}  \n", id="blanks-around"),
    pytest.param(BARE, id="bare"),
    pytest.param("\\n".join(BARE[i : i + 64] for i in range(0, len(BARE), 64)), id="bare-literal-newlines"),
    pytest.param(f"'{BARE}'\n", id="bare-quoted"),
])  # fmt: skip
def test_pem_is_read_as_environments_leave_it(text):
    assert key_set_from_pem(text) == KeySet({}, any_kid=PUBLIC)


PRIVATE = CLERK.key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
ELLIPTIC = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*FORM).decode()
WEAK = rsa_key("weak", 1024).public_key().public_bytes(*FORM).decode()


@pytest.mark.parametrize(("text", "says"), [
    pytest.param("", "paste the whole block", id="empty"),
    pytest.param("pk_live_Y2xlcms", "paste the whole block", id="another-setting"),
    pytest.param("clé", "paste the whole block", id="not-ascii"),
    pytest.param(BARE[:-40], "paste the whole block", id="cut"),
    pytest.param(PEM[:-20], "paste the whole block", id="no-last-line"),
    pytest.param(PEM + PEM, "paste the whole block", id="two"),
    pytest.param(base64.b64encode(b"\x30\x03\x02\x01\x01").decode(), "paste the whole block", id="other-der"),
    pytest.param(PRIVATE, "private key", id="private"),
    pytest.param(PRIVATE.replace("\n", "\\n"), "private key", id="private-one-line"),
    pytest.param(CERTIFICATE, "certificate", id="certificate"),
    pytest.param(ELLIPTIC, "not an RSA key", id="elliptic"),
    pytest.param(WEAK, "RSA key of 1024 bits", id="weak"),
])  # fmt: skip
def test_pem_refusal_says_what_to_do_and_never_the_content(text, says):
    with pytest.raises(ValueError, match=says) as refused:
        key_set_from_pem(text)
    assert "MII" not in str(refused.value)


# --- what is said before anything is verified ---


@pytest.mark.parametrize(
    ("payload", "issuer"),
    [
        pytest.param({"iss": "https://clerk.example.com"}, "https://clerk.example.com", id="said"),
        pytest.param({"iss": ""}, "", id="empty"),
        pytest.param({}, None, id="not-said"),
        pytest.param({"iss": ["https://clerk.example.com"]}, None, id="list"),
        pytest.param({"iss": 5}, None, id="number"),
        pytest.param(["iss"], None, id="no-object"),
    ],
)
def test_whose_a_token_says_it_is(payload, issuer):
    raw = CLERK.sign(b'{"alg": "RS256"}', json.dumps(payload).encode(), key=rsa_key("other"))  # whoever signed it
    assert claimed_issuer(read_token(raw.encode())) == issuer


def test_a_payload_that_is_no_json_says_nothing():
    assert claimed_issuer(read_token(CLERK.sign(b'{"alg": "RS256"}', b"iss").encode())) is None
