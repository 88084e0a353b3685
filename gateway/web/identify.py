"""From a request to who is calling: credential, remembered verdict or fresh verification, the route's admission.

For a token seen before nothing here suspends. Only a key that is not there yet, a user, or Clerk's word on an opaque
machine token makes a request wait.
"""

from hashlib import sha256
from typing import Protocol

from gateway.core.claims import principal_from
from gateway.core.credentials import Credential, SignedOut, check_cookie_origin, find_credential
from gateway.core.headers import refuse_repeated
from gateway.core.identity import identity_block, identity_fields, unusable_headers
from gateway.core.machine import (
    LIFE_S,
    check_audience,
    check_carried,
    check_class,
    check_type,
    jwt_kind,
    opaque_kind,
    principal_from_jwt,
    remembered_until,
    taken_by,
)
from gateway.core.model import NOTHING_ASSERTED, Header, Identified, Inbound, Principal
from gateway.core.policy import admit
from gateway.core.revocation import REASON, is_barred
from gateway.core.routing import Route
from gateway.core.session import check_cookie, cookie_reason
from gateway.core.verify import read_token, signed_claims, verify_token
from gateway.errors import InternalError, InvalidToken, MissingCredential
from gateway.web.access import who_line
from gateway.web.deps import Deps
from gateway.web.issuers import Issuer, Issuers

# What neither time nor other keys can change: these keys and this configuration will say it again.
FINAL = frozenset({
    "token-invalid", "token-invalid-algorithm", "token-invalid-signature", "token-invalid-issuer", "token-expired",
    "token-invalid-authorized-parties",
})  # fmt: skip
MISS_LIFE_S = 5.0  # of a verdict on a user whom the directory could not name: then it is asked again


class Answering(Protocol):
    """What a client's answer has because of how it was found out who is calling."""

    added: bytes  # fields it carries beside its own
    changed: Inbound | None  # what goes on instead of the request as received


async def identify(deps: Deps, inbound: Inbound, route: Route, client: Answering | None = None) -> Identified | None:
    """Say who is calling; None for an anonymous client on a route that allows it.

    With a `client` that is known, Clerk may be asked to sign it in, and a document be sent to where it is signed in.

    Raises:
        MissingCredential, InvalidToken: 401, in Clerk's words.
        Redirect: a document that has to be asked for elsewhere first.
        Forbidden: a cookie that another site's page may have sent (reason `origin`).
        KeysUnavailable, ClerkApiDown, Overloaded: nothing can be said about the token.
    """
    header = inbound.header
    refuse_repeated(header)
    if route.auth == "public":
        return None
    issuers = deps.issuers
    if issuers is None:
        raise InternalError(detail="a route needs a token, but no issuer is configured")
    pages = issuers.pages if client is not None and not inbound.upgrade else None
    if pages is not None and client is not None and "authorization" not in header.seen:
        return await pages(deps, inbound, route, client)
    now = deps.now()
    found = find_credential(inbound, issuers.credentials[route.admission.issuer], now=now)
    if pages is not None and client is not None and found is not header.credential:
        return await pages(deps, inbound, route, client)
    if isinstance(found, SignedOut):
        if route.auth == "optional":
            return None
        raise InvalidToken(found.reason, carrier="cookie") if found.sent else MissingCredential(found.reason)
    try:
        key = _token_key(header, found)
        identified = deps.verified.get(key, issuers.keys.generation, now)
        if identified is None:
            named = found.issuer if found.source == "cookie" else route.admission.issuer
            taken = taken_by(route.admission, in_authorization=found is header.credential)
            identified = await _judged(deps, issuers, found.token, key, now=now, named=named, taken=taken)
        admit(identified.principal, route.admission)
        if found is header.credential:
            return identified
        check_carried(identified.principal)
        if found.source == "header":
            return identified
        check_cookie(identified.principal, found)
    except InvalidToken as refused:
        if found.source == "header":
            if pages is None or client is None or inbound.method != "GET":
                raise
            return await pages(deps, inbound, route, client)  # only now: a good token in the header needs no page
        if route.auth == "optional":
            return None  # cookies that do not amount to signed-in are nobody's (CONTRACT §4)
        raise InvalidToken(cookie_reason(refused.reason or "", found), carrier="cookie") from refused
    check_origin(inbound, route, issuers.named(identified.principal.issuer))
    return identified


async def identify_token(deps: Deps, raw: bytes, route: Route, *, in_authorization: bool = False) -> Identified:
    """Say who is calling by a token alone, as a header of that route would. Raises as `identify`."""
    named = route.admission.issuer
    identified = await judge_token(deps, raw, route, named=named, in_authorization=in_authorization)
    admit(identified.principal, route.admission)
    return identified


async def judge_token(
    deps: Deps, raw: bytes, route: Route, *, named: str | None, in_authorization: bool = False
) -> Identified:
    """Say whose a token of a type that the route takes is, of the instance `named` or of any, before it is admitted.

    Raises as `identify`.
    """
    issuers = deps.issuers
    if issuers is None:
        raise InvalidToken("token-invalid-issuer")
    now, key = deps.now(), sha256(raw).digest()
    identified = deps.verified.get(key, issuers.keys.generation, now)
    if identified is None:
        taken = taken_by(route.admission, in_authorization=in_authorization)
        identified = await _judged(deps, issuers, raw, key, now=now, named=named, taken=taken)
    # What is remembered of a token holds for any instance.
    if named is not None and identified.principal.issuer != named:
        raise InvalidToken("token-invalid-issuer")
    if not in_authorization:
        check_carried(identified.principal)
    return identified


def check_origin(inbound: Inbound, route: Route, issuer: Issuer) -> None:
    """Check that a cookie came from a page that may act for its user. Raises Forbidden."""
    cors, peer, forwarded = route.cors, inbound.header.peer, inbound.header.forwarding
    assert forwarded is not None
    # Behind a proxy nobody vouches for, http here says nothing about the browser's side.
    scheme = "https" if peer.scheme == "https" else (forwarded.scheme if peer.trusted else None)
    check_cookie_origin(
        inbound,
        scheme=scheme,
        host=forwarded.host,
        listed=cors.names if cors is not None else lambda _origin: False,
        authorized_parties=issuer.tokens.authorized_parties,
    )


def _token_key(header: Header, credential: Credential) -> bytes:
    """Hash a token for `VerifiedTokens`; remembered with the header it stands in."""
    if credential is not header.credential:
        return sha256(credential.token).digest()
    if header.token_key is None:
        header.token_key = sha256(credential.token).digest()
    return header.token_key


async def _judged(
    deps: Deps, issuers: Issuers, raw: bytes, token_key: bytes, *, now: float, named: str | None, taken: frozenset[str]
) -> Identified:
    """Verify a token that is not known to be good, unless it is known to be bad; of the instance `named`, or of any.

    `taken` are the types that it may be of; for another nobody is asked and no signature is checked.
    """
    kind = opaque_kind(raw)
    if kind is not None:
        check_type(kind, None, taken)
        return await _vouched(deps, issuers, raw, token_key, kind=kind, named=named)
    reason = deps.verified.refusal(token_key, now)
    if reason is not None:
        raise InvalidToken(reason)
    try:
        return await _verified(deps, issuers, raw, token_key, now=now, named=named, taken=taken)
    except InvalidToken as refused:
        # What one instance refuses may be another's, where a route or a cookie named it.
        if refused.reason in FINAL and (named is None or issuers.is_one):
            deps.verified.refuse(token_key, refused.reason, now=now)
        raise


async def _verified(
    deps: Deps, issuers: Issuers, raw: bytes, token_key: bytes, *, now: float, named: str | None, taken: frozenset[str]
) -> Identified:
    """Verify a JWT by its instance's keys."""
    generation = issuers.keys.generation
    token = read_token(raw)
    kind = jwt_kind(token)
    check_type(kind, token.category, taken)
    issuer = issuers.of(token, named=named)
    if issuer is None:
        raise InvalidToken("token-invalid-issuer")
    key = issuer.keys.find(token.kid) or await issuer.keys.fetch_for(token.kid)
    if key is None:
        raise InvalidToken("jwk-kid-mismatch")
    if kind is None:
        principal = principal_from(verify_token(token, key, issuer.tokens, now=now), token)
    else:
        check_class(kind, token)
        principal = principal_from_jwt(kind, signed_claims(token, key), issuer.tokens, now=now)
    good_until = principal.expires_at + issuer.tokens.leeway_s
    return await _known(deps, issuer, principal, token_key, good_until=good_until, generation=generation)


async def _vouched(
    deps: Deps, issuers: Issuers, raw: bytes, token_key: bytes, *, kind: str, named: str | None
) -> Identified:
    """Have Clerk say whose an opaque machine token is."""
    generation = issuers.keys.generation
    issuer = issuers.opaque(named)
    if issuer is None or issuer.machines is None:  # only where a reload has changed what the route of a stream asks for
        raise InvalidToken("token-invalid-issuer")
    principal = await issuer.machines.verify(kind, raw, token_key)
    check_audience(principal, issuer.tokens)
    return await _known(
        deps, issuer, principal, token_key, good_until=remembered_until(principal), generation=generation,
        miss_life_s=LIFE_S,  # what is learnt of its user has it asked about sooner
    )  # fmt: skip


async def _known(
    deps: Deps, issuer: Issuer, principal: Principal, token_key: bytes, *, good_until: float, generation: int,
    miss_life_s: float = MISS_LIFE_S,
) -> Identified:  # fmt: skip
    """Meet whom a verified token names, and remember the verdict."""
    principal = principal._replace(issuer=issuer.name)
    check_revoked(deps, principal)  # who is not let in is not written down either
    is_known = deps.people is None or await deps.people.meet(principal)
    # From here on nothing waits: what is learnt of the user makes verdicts forgotten, this one too once it is there.
    check_revoked(deps, principal)
    identified = _identified(deps, principal, is_known=is_known, skew_s=issuer.tokens.leeway_s)
    # Keys that changed while this one waited verify the next request again.
    assert deps.issuers is not None
    if generation == deps.issuers.keys.generation:
        now = deps.now()
        if not is_known:
            good_until = min(good_until, now + miss_life_s)
        deps.verified.put(token_key, identified, good_until=good_until, now=now)
    return identified


def check_revoked(deps: Deps, principal: Principal) -> None:
    """Check that nothing has ended what a token was issued for. Raises InvalidToken: not to be remembered."""
    user = deps.people.get(principal.user_id) if deps.people is not None else None
    if deps.revoked.is_revoked(principal) or is_barred(user):
        raise InvalidToken(REASON)


def _identified(deps: Deps, principal: Principal, *, is_known: bool, skew_s: float) -> Identified:
    """Make ready what is said of a principal: to the upstream, and in the access line."""
    user = deps.people.get(principal.user_id) if deps.people is not None and deps.identity.enrich else None
    for name in unusable_headers(principal.claims, deps.identity, user):
        deps.log.event("identity_header_dropped", level="warning", header=name, why="its claim is an object")
    fields = identity_block(identity_fields(principal, deps.identity, user))
    asserted = NOTHING_ASSERTED if deps.assertions is None else {}
    return Identified(principal, fields, who_line(principal, missed=not is_known), skew_s, asserted)
