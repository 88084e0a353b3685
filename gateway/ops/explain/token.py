"""A token, check by check: its header, whose it is, the key, the signature, each claim."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.core.claims import SESSION_CATEGORY, SILENT_CATEGORY, TEMPLATE_CATEGORY, principal_from
from gateway.core.machine import jwt_kind, opaque_kind, principal_from_jwt
from gateway.core.model import Claims, Principal
from gateway.core.verify import (
    SignedToken,
    TokenPolicy,
    check_claims,
    claimed_issuer,
    read_token,
    signed_claims,
)
from gateway.errors import InvalidToken
from gateway.net.jwks import RemoteKeys
from gateway.ops.explain.run import Course
from gateway.ops.explain.step import Step, bad, good, judged, listed, note, refusal_of
from gateway.web.issuers import Issuer, Issuers

CATEGORIES = {SESSION_CATEGORY: "a session's", TEMPLATE_CATEGORY: "a JWT template's", SILENT_CATEGORY: "says nothing"}
CLAIMS = ("sub", "aud", "azp", "iss", "exp", "nbf", "iat")  # in Clerk's order
NEAR_S = 172_800  # times up to two days off are told in seconds, minutes and hours
CLOCKS_APART_S = 2.0  # `Date` is in whole seconds, and the answer took a moment


def token_steps(course: Course, raw: bytes, named: str | None) -> Iterator[Step]:
    """Tell how a token of the instance `named`, or of any, was judged; what is behind the first fault too."""
    issuers = course.deps.issuers
    assert issuers is not None
    try:
        token = read_token(raw)
    except InvalidToken as refused:
        yield _no_jwt(course, raw, refused)
        return
    yield good("token", _header(token))
    kind = jwt_kind(token)
    issuer = issuers.of(token, named=named)
    yield _chosen(issuers, issuer, token, named)
    if issuer is None:
        return
    yield from _clocks(course, issuer)
    key = issuer.keys.find(token.kid)
    yield _key(course, issuer, token, key)
    fault = None if key is None else refusal_of(partial(signed_claims, token, key))
    if key is not None:
        yield judged("signature", fault, "RS256")
    if kind is not None and key is not None and fault is None:
        judge = partial(principal_from_jwt, kind, signed_claims(token, key), issuer.tokens, now=course.now)
        yield judged("claims", refusal_of(judge), f"those of a machine's token ({kind})")
        return
    signed, claims = key is not None and fault is None, unverified_claims(token)
    yield from claim_steps(claims, issuer.tokens, course.now, signed=signed)
    if signed and (fault := refusal_of(partial(principal_from, claims, token))) is not None:
        yield judged("claims", fault, "a token of no kind that can be taken here")


def principal_of(course: Course, raw: bytes, named: str | None) -> Principal | None:
    """Say who a token is for even where it was refused, as long as its signature holds."""
    issuers = course.deps.issuers
    assert issuers is not None
    try:
        token = read_token(raw)
        issuer = issuers.of(token, named=named)
        key = issuer.keys.find(token.kid) if issuer is not None else None
        if issuer is None or key is None:
            return None
        claims, kind = signed_claims(token, key), jwt_kind(token)
        if kind is not None:
            return principal_from_jwt(kind, claims, issuer.tokens, now=course.now)._replace(issuer=issuer.name)
        return principal_from(claims, token)._replace(issuer=issuer.name)
    except InvalidToken:
        return None


def _no_jwt(course: Course, raw: bytes, refused: InvalidToken) -> Step:
    kind, known = opaque_kind(raw), course.witness.identified
    if kind is None:
        return judged("token", refused, "not a token of Clerk's")
    if known is not None:
        return good("token", f"an opaque one ({kind}): Clerk says that it is {known.principal.subject}'s")
    return judged("token", course.error, f"an opaque one ({kind}), which Clerk alone can judge")


def _header(token: SignedToken) -> str:
    category = CATEGORIES.get(token.category or "", "unknown") if token.category else "not said"
    kind = f"{token.category}, {category}" if token.category else category
    return f"alg {token.header.get('alg')}, typ {token.header.get('typ', 'not said')}, kid {token.kid}, cat {kind}"


def _chosen(issuers: Issuers, issuer: Issuer | None, token: SignedToken, named: str | None) -> Step:
    said = claimed_issuer(token)
    if issuer is None:
        whose = f'"{named}", as the route or the cookie asks' if named else "any instance that is configured"
        return bad("issuer", f"kid {token.kid} and iss {said} are not those of {whose} (token-invalid-issuer)")
    if issuers.is_one:
        return note("issuer", f"{listed(sorted(issuer.tokens.issuers))}, the only one configured")
    if token.kid in issuer.keys.kids:
        return good("issuer", f'"{issuer.name}": kid {token.kid} is one of its keys')
    if said in issuer.tokens.issuers:
        return good("issuer", f'"{issuer.name}": iss says {said}')
    return good("issuer", f'"{issuer.name}": the route or the cookie asks for it')


def _key(course: Course, issuer: Issuer, token: SignedToken, key: RSAPublicKey | None) -> Step:
    config = next(each for each in course.config.issuers if each.name == issuer.name)
    if config.jwks_url is None:
        return good("key", f"the PEM at {config.key}.jwt_key, which answers to any kid")
    url = config.jwks_url.partition("?")[0]
    if key is not None:
        return good("key", f"kid {token.kid}, from {url}")
    if issuer.keys.ready:
        return bad("key", f"{url} has none of kid {token.kid}; it has {listed(sorted(issuer.keys.kids))}")
    failed = course.told.last("jwks_failed", url=url)
    return bad("key", f"{url} cannot be had: {failed[1]['cause'] if failed else 'no answer in time'}")


def _clocks(course: Course, issuer: Issuer) -> Iterator[Step]:
    """Compare our clock with that of whoever has the keys, which is as good as that of whoever signs."""
    keys = issuer.keys
    came = course.told.last("jwks_changed")
    if not isinstance(keys, RemoteKeys) or keys.date is None or came is None:
        return
    try:
        theirs = parsedate_to_datetime(keys.date).timestamp()
    except ValueError:
        return
    apart = came[0] - theirs
    skew = f"up to {issuer.tokens.leeway_s:g} s are let pass"
    if abs(apart) <= CLOCKS_APART_S:
        yield good("clock", f"ours is that of the issuer; {skew}")
    else:
        ahead = "ahead of" if apart > 0 else "behind"
        fits = abs(apart) <= issuer.tokens.leeway_s
        yield (note if fits else bad)("clock", f"ours is {_span(abs(apart))} {ahead} the issuer's; {skew}")


# --- claims -----------------------------------------------------------------------------------------------------------


def claim_steps(claims: Claims, policy: TokenPolicy, now: float, *, signed: bool) -> Iterator[Step]:
    """Tell how each claim was judged; where nothing proves them, that they may be anybody's."""
    for name in CLAIMS:
        refused = refusal_of(partial(check_claims, _alone(name, claims, policy, now), policy, now=now))
        step = judged(name, refused, _claim(name, claims, policy, now))
        yield step if signed else note(name, f"{step.text}; not proved by a signature")


def _alone(name: str, claims: Claims, policy: TokenPolicy, now: float) -> Claims:
    """Give claims that are good in all but, perhaps, this one: the gateway's own check then judges it alone."""
    party = {"azp": next(iter(policy.authorized_parties))} if policy.authorized_parties else {}
    usual = {"sub": "user_1", "iss": next(iter(policy.issuers)), "exp": now + 60, "iat": now, **party}
    others = {other: value for other, value in usual.items() if other != name}
    return others | ({name: claims[name]} if name in claims else {})


def unverified_claims(token: SignedToken) -> Claims:
    """Give what a token says, true or not, for its owner to read; nothing where it cannot be read."""
    try:
        said = json.loads(token.payload)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _claim(name: str, claims: Claims, policy: TokenPolicy, now: float) -> str:
    said = claims.get(name)
    if name == "aud":
        return f"{_value(said)}; {_accepted(policy.audience, 'audience')}"
    if name == "azp":
        missing = ", or none" if policy.authorized_parties and policy.azp_missing_ok else ""
        return f"{_value(said)}; {_accepted(policy.authorized_parties, 'authorized_parties')}{missing}"
    if name == "iss":
        return f"{_value(said)}; accepted: {listed(sorted(policy.issuers))}"
    return moment(said, now) if name in ("exp", "nbf", "iat") else _value(said)


def _accepted(values: frozenset[str], key: str) -> str:
    return f"accepted: {listed(sorted(values))}" if values else f"not checked, because {key} is empty"


def _value(said: object) -> str:
    return "not said" if said is None else str(said)[:300]


def moment(said: object, now: float) -> str:
    """Write a time claim: when that is, and how far from now."""
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        return _value(said)
    try:
        at = datetime.fromtimestamp(said, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return _value(said)
    apart = said - now
    return f"{at}, {f'in {_span(apart)}' if apart >= 0 else f'{_span(-apart)} ago'}"


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole > NEAR_S:
        return f"{whole // 86_400} days"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{hours} h"] if hours else []
    parts += [f"{minutes} min"] if minutes else []
    return " ".join([*parts, *([f"{rest} s"] if rest or not parts else [])])
