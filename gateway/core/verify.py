"""Decide whether a token is good: its form, its signature, its claims at `now`.

Owns the policy of one issuer (`TokenPolicy`) and its public keys (`KeySet`). Fetching keys is `net/jwks`; what the
claims say about the caller is `core/claims`. Every refusal is an `InvalidToken` with Clerk's word for it.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_der_public_key
from jwt.algorithms import RSAAlgorithm

from gateway.core.model import Claims
from gateway.errors import InvalidToken

OAUTH_TYPES = ("at+jwt", "application/at+jwt")  # RFC 9068 §2.1

MAX_TOKEN_BYTES = 16 * 1024  # Clerk's cookie cap is 4 KB; a header token with large templates stays below this
MAX_HEADER_BYTES = 4 * 1024  # parsed before anything is proven, so it is kept small; Clerk's has about 150
MAX_HEADER_BRACKETS = 32  # Clerk's header has one
MAX_BRACKETS = 500  # of any JSON read here; deeper nesting than that is nobody's claims
MAX_TEXT = 256  # characters of a sub or kid
MAX_JWKS_BYTES = 256 * 1024
MAX_JWKS_KEYS = 50
MIN_KEY_BITS = 2048  # RFC 7518 §3.3
MAX_DATE = 2**53  # beyond it a float no longer tells seconds apart, and 10**400 is no float at all

# The one algorithm, named here and never taken from the token (RFC 8725 §3.1).
_RS256 = RSAAlgorithm(RSAAlgorithm.SHA256)

_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_PEM_ADVICE = (
    "not an RSA public key: paste the whole block that begins with -----BEGIN PUBLIC KEY-----, "
    "as the Clerk Dashboard shows it under API keys"
)


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """What one issuer's tokens have to say; empty sets of parties or audiences mean: not checked."""

    issuers: frozenset[str]  # exact text, no trailing slash
    authorized_parties: frozenset[str] = frozenset()
    azp_missing_ok: bool = False  # looked at only when authorized_parties is not empty
    audience: frozenset[str] = frozenset()  # checked where the token has aud
    leeway_s: float = 5.0


class KeySet:
    """Public keys of one issuer by kid, or one key that answers to any; equal by content."""

    __slots__ = ("_any", "_by_kid", "_content")

    def __init__(self, by_kid: Mapping[str, RSAPublicKey], *, any_kid: RSAPublicKey | None = None) -> None:
        self._by_kid = dict(by_kid)
        self._any = any_kid
        every = [*self._by_kid.items(), *([(None, any_kid)] if any_kid is not None else [])]
        numbers = [(kid, key.public_numbers()) for kid, key in every]
        self._content = frozenset((kid, each.n, each.e) for kid, each in numbers)

    def find(self, kid: str | None) -> RSAPublicKey | None:
        """Look up the key for a token's kid; a set without `any_kid` has none for a token without one."""
        if self._any is not None:
            return self._any
        return None if kid is None else self._by_kid.get(kid)

    @property
    def kids(self) -> frozenset[str]:
        """The kids that are known by name."""
        return frozenset(self._by_kid)

    def __len__(self) -> int:
        return len(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


class SignedToken(NamedTuple):
    """A token taken apart; nothing in it is to be believed before `verify_token`."""

    raw: bytes
    header: Mapping[str, Any]
    kid: str | None
    category: str | None  # Clerk's `cat`
    signing_input: bytes
    payload: bytes  # decoded, not parsed
    signature: bytes

    def __repr__(self) -> str:
        # A token in a traceback or a log line is a credential given away.
        return f"SignedToken(kid={self.kid!r}, category={self.category!r})"


def parse_jwks(body: bytes) -> KeySet:
    """Read a key set (RFC 7517 §5) and keep its RS256 signing keys.

    Raises:
        ValueError: what is wrong, fit for a log; never the content.
    """
    if len(body) > MAX_JWKS_BYTES:
        raise ValueError(f"too large: more than {MAX_JWKS_BYTES} bytes")
    try:
        document = _parse_json(body)
    except ValueError:
        raise ValueError("not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError('not a key set: no list "keys"')
    if len(entries) > MAX_JWKS_KEYS:
        raise ValueError(f"too many keys: {len(entries)}, at most {MAX_JWKS_KEYS}")
    return _usable_keys(entries)


def _usable_keys(entries: Iterable[Any]) -> KeySet:
    by_kid: dict[str, RSAPublicKey] = {}
    skipped: list[str] = []
    for entry in entries:
        try:
            kid, key = _jwk(entry)
        except ValueError as why:
            # RFC 7517 §5: what is not understood is passed over, so that a new kind of key breaks nobody.
            skipped.append(str(why))
            continue
        if kid in by_kid:
            raise ValueError("two keys with the same kid")
        by_kid[kid] = key
    if not by_kid:
        raise ValueError("no usable key: " + ("; ".join(sorted(set(skipped))) or "the set is empty"))
    return KeySet(by_kid)


def _jwk(entry: Any) -> tuple[str, RSAPublicKey]:
    if not isinstance(entry, dict) or entry.get("kty") != "RSA":
        raise ValueError("not an RSA key")
    if entry.get("alg", "RS256") != "RS256" or entry.get("use", "sig") != "sig":
        raise ValueError("not for RS256 signatures")
    kid, n, e = entry.get("kid"), entry.get("n"), entry.get("e")
    if not _is_short_text(kid):
        raise ValueError("no usable kid")
    if not isinstance(n, str) or not isinstance(e, str):
        raise ValueError("no modulus or exponent")
    modulus, exponent = (int.from_bytes(_base64url(part.encode()), "big") for part in (n, e))
    key = RSAPublicNumbers(exponent, modulus).public_key()
    _require_strength(key)
    return kid, key


def key_set_from_pem(text: str) -> KeySet:
    """Read the one public key (`jwt_key`) that answers to any kid.

    Takes what environments make of a PEM: literal `\\n`, CRLF, everything on one line, the base64 without its frame.

    Raises:
        ValueError: what was given instead and what to do, fit for a finding; never the content.
    """
    plain = text.replace("\\r", "").replace("\\n", "\n").strip(" \t\r\n\"'")
    blocks = _PEM_BLOCK.findall(plain) if "-----" in plain else [("PUBLIC KEY", plain)]
    if len(blocks) != 1:
        raise ValueError(_PEM_ADVICE)
    label, body = blocks[0]
    if "PRIVATE" in label:
        raise ValueError("this is a private key: replace it by its public key, and make a new pair if it was shared")
    if label == "CERTIFICATE":
        raise ValueError("this is a certificate: give its public key (openssl x509 -pubkey -noout -in FILE)")
    try:
        key = load_der_public_key(base64.b64decode("".join(body.split()), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(_PEM_ADVICE) from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA key: Clerk signs with RS256 only")
    _require_strength(key)
    return KeySet({}, any_kid=key)


def _require_strength(key: RSAPublicKey) -> None:
    if key.key_size < MIN_KEY_BITS:
        raise ValueError(f"RSA key of {key.key_size} bits: at least {MIN_KEY_BITS} are needed")


def read_token(raw: bytes) -> SignedToken:
    """Take a token apart and check its header; no signature, no claims.

    Raises:
        InvalidToken: not a JWS in compact form, or a header the gateway does not take.
    """
    if len(raw) > MAX_TOKEN_BYTES:
        raise InvalidToken("token-invalid", detail=f"longer than {MAX_TOKEN_BYTES} bytes")
    parts = raw.split(b".", 3)
    if len(parts) != 3:
        raise InvalidToken("token-invalid", detail="not three parts")
    try:
        head, payload, signature = map(_base64url, parts)
    except ValueError:
        raise InvalidToken("token-invalid", detail="not base64url") from None
    if len(head) > MAX_HEADER_BYTES:
        raise InvalidToken("token-invalid", detail=f"header longer than {MAX_HEADER_BYTES} bytes")
    if head.count(b"[") + head.count(b"{") > MAX_HEADER_BRACKETS:
        # Nesting up to Python's limit and failing there costs several times a good token.
        raise InvalidToken("token-invalid", detail="header nested too deeply")
    header = _json_object(head, "header")
    _check_header(header)
    signing_input = raw[: -len(parts[2]) - 1]
    return SignedToken(raw, header, header.get("kid"), header.get("cat"), signing_input, payload, signature)


def _check_header(header: Mapping[str, Any]) -> None:
    # Members that name or carry a key (jku, jwk, x5u, x5c) are not even looked at: keys come from the configuration.
    if "crit" in header:
        # RFC 7515 §4.1.11: an extension that is not understood makes the token invalid, and none is understood here.
        raise InvalidToken("token-invalid", detail="crit")
    if header.get("typ", "JWT") not in ("JWT", *OAUTH_TYPES):
        raise InvalidToken("token-invalid", detail="typ")
    if header.get("alg") != "RS256":
        raise InvalidToken("token-invalid-algorithm")
    if "kid" in header and not _is_short_text(header["kid"]):
        raise InvalidToken("token-invalid", detail="kid")
    if not isinstance(header.get("cat", ""), str):
        raise InvalidToken("token-invalid", detail="cat")


def claimed_issuer(token: SignedToken) -> str | None:
    """Say whose a token says it is: good for choosing the keys that it has to stand up to, and for nothing else."""
    return claimed(token, "iss")


def claimed(token: SignedToken, name: str) -> str | None:
    """Read a text claim that nobody has verified: good for choosing how to verify it, and for nothing else."""
    try:
        claims = _json_object(token.payload, "payload")
    except InvalidToken:
        return None
    said = claims.get(name)
    return said if isinstance(said, str) else None


def verify_token(token: SignedToken, key: RSAPublicKey, policy: TokenPolicy, *, now: float) -> Claims:
    """Check the signature, then the claims at `now` (Unix seconds), and return the claims.

    Raises:
        InvalidToken: the first check that fails; nothing of the payload is believed before the signature holds.
    """
    claims = signed_claims(token, key)
    check_claims(claims, policy, now=now)
    return claims


def signed_claims(token: SignedToken, key: RSAPublicKey) -> Claims:
    """Check the signature and return the claims, which still have to be checked. Raises InvalidToken."""
    if not _RS256.verify(token.signing_input, key, token.signature):
        raise InvalidToken("token-invalid-signature")
    return _json_object(token.payload, "payload")


def check_claims(claims: Claims, policy: TokenPolicy, *, now: float) -> None:
    """Decide whether signed claims are good at `now` (Unix seconds).

    Raises:
        InvalidToken: the first rule that fails, in Clerk's order.
    """
    check_addressed(claims, policy)
    if policy.authorized_parties:
        _check_party(claims.get("azp"), policy)
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or issuer not in policy.issuers:
        raise InvalidToken("token-invalid-issuer")
    check_times(claims, policy.leeway_s, now=now)


def check_addressed(claims: Claims, policy: TokenPolicy, *, needs_audience: bool = False) -> None:
    """Check of whom and for whom a token is; `needs_audience`: one without `aud` is for nobody. Raises InvalidToken."""
    if not _is_short_text(claims.get("sub")):
        raise InvalidToken("token-verification-failed", detail="sub missing, empty, too long or not printable")
    has_audience = needs_audience or "aud" in claims
    if policy.audience and has_audience and not policy.audience & _audience(claims.get("aud")):
        raise InvalidToken("token-verification-failed", detail="aud")


def _audience(value: Any) -> frozenset[str]:
    # RFC 7519 §4.1.3: a string or an array of strings. One foreign element spoils the array: it is not what was meant.
    values = value if isinstance(value, list) else [value]
    return frozenset(values) if all(isinstance(each, str) for each in values) else frozenset()


def _check_party(azp: Any, policy: TokenPolicy) -> None:
    if azp is None or azp == "":
        # Tokens minted without an Origin (navigations, Clerk's Backend API) have none.
        if not policy.azp_missing_ok:
            raise InvalidToken("token-invalid-authorized-parties", detail="azp missing")
    elif not isinstance(azp, str) or azp not in policy.authorized_parties:
        raise InvalidToken("token-invalid-authorized-parties")


def check_times(claims: Claims, leeway_s: float, *, now: float) -> None:
    """Check that a token is good at `now`. Raises InvalidToken."""
    expires, starts, issued = (numeric_date(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None or issued is None:
        raise InvalidToken("token-verification-failed", detail="exp or iat missing")
    if now >= expires + leeway_s:
        raise InvalidToken("token-expired")
    if starts is not None and starts > now + leeway_s:
        raise InvalidToken("token-not-active-yet")
    if issued > now + leeway_s:
        raise InvalidToken("token-iat-in-the-future")


def numeric_date(claims: Claims, name: str) -> float | None:
    """Read a time claim in Unix seconds; None where there is none.

    Raises:
        InvalidToken: there, but not a number that can be a time.
    """
    if name not in claims:
        return None
    value = claims[name]
    # bool is an int in Python; `"exp": true` must not read as 1 (RFC 7519 §2, NumericDate).
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MAX_DATE:
        raise InvalidToken("token-verification-failed", detail=f"{name} is not a usable number")
    return float(value)


def _is_short_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def _base64url(part: bytes) -> bytes:
    raw = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    # Encoding again is the strict check: foreign characters, padding and stray last bits all come out different
    # (RFC 4648 §3.5), and a token has one spelling only.
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise ValueError("not base64url")
    return raw


def _json_object(raw: bytes, part: str) -> Mapping[str, Any]:
    try:
        value = _parse_json(raw)
    except ValueError:
        raise InvalidToken("token-invalid", detail=f"{part} is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidToken("token-invalid", detail=f"{part} is not an object")
    return value


def _parse_json(raw: bytes) -> Any:
    if raw.count(b"[") + raw.count(b"{") > MAX_BRACKETS:
        raise ValueError("nested too deeply")  # Pythons differ on how deep they follow
    text = raw.decode()
    value = _DECODER.decode(text)
    if "\\u" in text:
        # Half a surrogate pair parses, but could never be written to a header or a log as UTF-8 (RFC 8259 §8.2).
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 8725 §2.4: readers differ on which of two equal names wins; refused, so that nobody behind us reads another.
    result = dict(members)
    if len(result) != len(members):
        raise ValueError("duplicate member")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("number out of range")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")  # RFC 8259 §6: no NaN, no Infinity


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)
