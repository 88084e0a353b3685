"""A token: why this gateway would refuse it, and what to change. Reads it without believing it; shows no part of it."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.core.cors import DEFAULT_PORTS
from gateway.core.routing import Route
from gateway.core.verify import (
    KeySet,
    SignedToken,
    TokenPolicy,
    read_token,
    verify_token,
)
from gateway.errors import InvalidToken
from gateway.ops.doctor.admission import SUBJECT, use
from gateway.ops.doctor.clock import SET_IT
from gateway.ops.doctor.diagnosis import Diagnosis, error, lasting, listed, ok, quoted, warning
from gateway.ops.doctor.instances import Instance, Keys
from gateway.ops.doctor.keys import SAME_PAGE
from gateway.ops.doctor.machine_token import machine_kind, machine_token
from gateway.ops.doctor.peeked import COPY, Peeked, formless, misshapen, peek

FRESH: Final = (
    "Take a fresh one: await Clerk.session.getToken() in the page's console; a session token lives for a minute"
)
NO_CLAIMS: Final = TokenPolicy(issuers=frozenset())


class Around(NamedTuple):
    """What a token is judged by."""

    instances: Sequence[Instance]
    keys: Keys
    routes: Sequence[Route]  # those it may be for
    now: float  # Unix seconds
    ahead_s: float = 0.0  # how far Clerk's clock is ahead of ours
    is_enriched: bool = False  # the user directory gives what it lacks


def token(raw: str, around: Around) -> list[Diagnosis]:
    """Say of a token everything that this gateway would refuse it for; that it is good where that is so."""
    if (kind := machine_kind(raw)) is not None:
        return [machine_token(kind, around.routes)]
    peeked = peek(raw)
    if peeked is None:
        return [formless(raw)]
    try:
        signed = read_token(raw.encode())
    except InvalidToken as refused:
        return [misshapen(peeked, refused)]
    if not around.instances:
        remedy = "Name the Clerk instance: CLERK_PUBLISHABLE_KEY, or clerk.publishable_key"
        return [error(SUBJECT, "no Clerk instance is configured, so no token is read", remedy)]
    instance = _whose(signed, peeked, around)
    found = [*_signature(signed, peeked, instance, around), *_claims(peeked, instance, around)]
    if not found:
        found = list(_verdict(signed, instance, around))
    if not found:
        found = list(use(signed, peeked.claims, instance, around.routes, is_enriched=around.is_enriched))
    return found or [ok(SUBJECT, _good(peeked, around))]


def _good(peeked: Peeked, around: Around) -> str:
    left = float(peeked.claims["exp"]) - around.now
    return f"good: of {peeked.text('sub')}, for another {lasting(left)}"


# --- whose it is ------------------------------------------------------------------------------------------------------


def _whose(signed: SignedToken, peeked: Peeked, around: Around) -> Instance:
    """Find the instance it is of, or the one it is most likely meant for."""
    said = peeked.text("iss")
    for instance in around.instances:
        if said in instance.config.token_policy.issuers:
            return instance
    for instance in around.instances:
        keys = _keys_of(instance, around)
        if keys is not None and keys.find(signed.kid) is not None:
            return instance
    return around.instances[0]


def _keys_of(instance: Instance, around: Around) -> KeySet | None:
    known = around.keys.get(instance.config.issuer)
    return instance.config.static_keys or (known.issuer if known is not None else None)


def _signature(signed: SignedToken, peeked: Peeked, instance: Instance, around: Around) -> Iterator[Diagnosis]:
    keys = _keys_of(instance, around)
    if keys is None:
        remedy = "Mend that first: until then it gets 503 keys_unavailable"
        yield warning(SUBJECT, "whether it is genuine cannot be told without the issuer's keys", remedy)
        return
    key = keys.find(signed.kid)
    if key is None:
        yield _foreign_kid(signed.kid, instance, around)
        return
    if _is_signed(signed, key):
        return
    whose = "clerk.jwt_key" if instance.config.static_keys is not None else f"{instance.config.issuer}'s key"
    found = f"is not signed with {whose} (401 token-invalid-signature): changed on its way, or another instance's"
    yield error(SUBJECT, found, f"{COPY}. {SAME_PAGE}" if peeked.text("iss") == instance.config.issuer else SAME_PAGE)


def _is_signed(signed: SignedToken, key: RSAPublicKey) -> bool:
    try:
        verify_token(signed, key, NO_CLAIMS, now=0)
    except InvalidToken as refused:
        return refused.reason != "token-invalid-signature"  # which is looked at first; claims are judged apart
    return True


def _foreign_kid(kid: str | None, instance: Instance, around: Around) -> Diagnosis:
    known = around.keys.get(instance.config.issuer)
    if kid is None:
        return error(SUBJECT, "names no key (kid): not a token of Clerk's (401 jwk-kid-mismatch)", COPY)
    found = f"is signed with key {quoted(kid)}, which {instance.config.issuer} does not publish (401 jwk-kid-mismatch)"
    if known is not None and known.backend is not None and kid in known.backend.kids:
        return error(SUBJECT, f"{found}; it is the secret key's instance's: mixed keys", SAME_PAGE)
    return error(SUBJECT, f"{found}: it is of another Clerk instance", SAME_PAGE)


def _verdict(signed: SignedToken, instance: Instance, around: Around) -> Iterator[Diagnosis]:
    """Ask the gateway's own check last: what it refuses is never called good here, whatever was overlooked."""
    keys = _keys_of(instance, around)
    key = keys.find(signed.kid) if keys is not None else None
    assert key is not None  # else there is a diagnosis already
    try:
        verify_token(signed, key, instance.config.token_policy, now=around.now)
    except InvalidToken as refused:
        detail = f": {refused.detail}" if refused.detail else ""
        yield error(SUBJECT, f"is not taken{detail} (401 {refused.reason})", "Is it Clerk's, and unchanged?")


# --- what it says -----------------------------------------------------------------------------------------------------


def _claims(peeked: Peeked, instance: Instance, around: Around) -> Iterator[Diagnosis]:
    policy = instance.config.token_policy
    if peeked.text("sub") is None:
        yield error(SUBJECT, "says nobody's name (sub) (401 token-verification-failed)", COPY)
    yield from _issuer(peeked, around)
    yield from _party(peeked, policy, instance)
    yield from _audience(peeked, policy, instance)
    yield from _times(peeked, policy, around)


def _issuer(peeked: Peeked, around: Around) -> Iterator[Diagnosis]:
    said, taken = (
        peeked.text("iss"),
        [issuer for each in around.instances for issuer in each.config.token_policy.issuers],
    )
    if said in taken:
        return
    if said is None:
        yield error(SUBJECT, "names no issuer (iss) (401 token-invalid-issuer)", "Is it Clerk's at all?")
        return
    found = f"iss is {quoted(said)}, but the issuer here is {listed(sorted(taken))} (401 token-invalid-issuer)"
    if said.rstrip("/") in taken:
        yield error(SUBJECT, found, "It ends in a slash, which Clerk's do not: is it Clerk's?")
    elif said.endswith(".accounts.dev") and not any(each.is_development for each in around.instances):
        remedy = "It is of a development instance: the page has pk_test_…, the gateway the production keys. "
        yield error(SUBJECT, found, f"{remedy}Give both the same publishable key")
    elif not said.endswith(".accounts.dev") and all(each.is_development for each in around.instances):
        remedy = "It is of a production instance: the page has pk_live_…, the gateway a development key. "
        yield error(SUBJECT, found, f"{remedy}Give both the same publishable key")
    else:
        remedy = (
            f"Set CLERK_JWT_ISSUER_DOMAIN to {said}, or CLERK_PUBLISHABLE_KEY to the page's, if that is your instance"
        )
        yield error(SUBJECT, found, remedy)


def _party(peeked: Peeked, policy: TokenPolicy, instance: Instance) -> Iterator[Diagnosis]:
    if not policy.authorized_parties:
        return
    said, key = peeked.claims.get("azp"), instance.key("authorized_parties")
    variable = " (CLERK_AUTHORIZED_PARTIES)" if instance.is_only else ""
    if said in (None, ""):
        if policy.azp_missing_ok:
            return
        found = "names no party (azp): minted without an Origin, as in a navigation or by the Backend API"
        remedy = (
            f"Have the page fetch it; or write {instance.key('azp_missing')}: accept, which takes such from anywhere"
        )
        yield error(SUBJECT, f"{found} (401 token-invalid-authorized-parties)", remedy)
    elif said not in policy.authorized_parties:
        found = f"azp {quoted(said)} is not listed (401 token-invalid-authorized-parties)"
        near = near_origin(str(said), policy.authorized_parties)
        listed_as = f"; it has {quoted(near)}, and the texts must be equal" if near else ""
        yield error(SUBJECT, found + listed_as, f"Add {said} under {key}{variable}, if that is a page of yours")


def near_origin(origin: str, known: Sequence[str] | frozenset[str]) -> str | None:
    """Find an origin that differs in scheme, www, port, case or a slash alone."""
    return next((each for each in sorted(known) if _bare(each) == _bare(origin) and each != origin), None)


def _bare(origin: str) -> str:
    text = origin.lower().rstrip("/")
    for scheme, port in DEFAULT_PORTS.items():
        text = text.removeprefix(f"{scheme}://").removesuffix(f":{port}")
    name = text.removeprefix("www.")
    return name.partition(":")[0] if not name.startswith("[") else name


def _audience(peeked: Peeked, policy: TokenPolicy, instance: Instance) -> Iterator[Diagnosis]:
    if not policy.audience or "aud" not in peeked.claims:
        return
    said = peeked.claims["aud"]
    values = said if isinstance(said, list) else [said]
    if not (all(isinstance(each, str) for each in values) and policy.audience & frozenset(values)):
        found = f"aud is {quoted(said)}, not one of {listed(sorted(policy.audience))} (401 token-verification-failed)"
        yield error(SUBJECT, found, f"Add it to {instance.key('audience')}, or leave that empty")


def _times(peeked: Peeked, policy: TokenPolicy, around: Around) -> Iterator[Diagnosis]:
    times = {name: _number(peeked.claims.get(name)) for name in ("exp", "nbf", "iat")}
    if times["exp"] is None or times["iat"] is None:
        yield error(SUBJECT, "lacks exp or iat (401 token-verification-failed)", "Is it Clerk's at all?")
        return
    now, clerks = around.now, around.now + around.ahead_s
    if now >= times["exp"] + policy.leeway_s:
        found = f"expired {lasting(now - times['exp'])} ago (401 token-expired)"
        if clerks < times["exp"] + policy.leeway_s:
            found = (
                f"has expired by this machine's clock, which is {lasting(around.ahead_s)} ahead of Clerk's, not by that"
            )
            yield error(SUBJECT, found, SET_IT)
        else:
            yield error(SUBJECT, found, FRESH)
    early = next((name for name in ("nbf", "iat") if (times[name] or 0) > now + policy.leeway_s), None)
    if early is not None:
        reason = "token-not-active-yet" if early == "nbf" else "token-iat-in-the-future"
        found = f"is of the future: {early} is {lasting((times[early] or 0) - now)} from now (401 {reason})"
        yield error(SUBJECT, found, SET_IT)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
