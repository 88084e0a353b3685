"""A `Cookie` header: whether Clerk's cookies came at all, for which application, and what they amount to."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gateway.core.credentials import find_credential, read_cookies
from gateway.core.model import Header, Inbound, Peer, SignedOut
from gateway.core.session import PLAIN_NAMES
from gateway.ops.doctor.diagnosis import Diagnosis, error, listed, quoted, skipped, warning
from gateway.ops.doctor.evidence import Evidence
from gateway.ops.doctor.instances import Instance
from gateway.ops.doctor.peeked import peek

SUBJECT: Final = "cookies"
NOBODY: Final = Peer("", False, "https", 443)
BY_HEADER: Final = "send the token instead: Authorization: Bearer, with await Clerk.session.getToken()"
STATES: Final = {
    "session-token-and-uat-missing": ("nobody is signed in", "Sign in first; Clerk.session in the console says so"),
    "session-token-but-no-client-uat": (
        "there is a __session, but no __client_uat: the client has signed out, or that cookie did not come along",
        "Reload the page; __client_uat is set for the parent domain, so see that nothing strips it",
    ),
    "client-uat-but-no-session-token": (
        "__client_uat says signed in, but there is no __session: it has expired, or belongs to another host",
        "Reload the page, which makes a new one. __session is for the page's own host alone: from there to another, "
        + BY_HEADER,
    ),
    "dev-browser-missing": (
        "a development instance takes no cookies without __clerk_db_jwt",
        "Open the page once with Clerk's script, on this very host; or give the gateway production keys",
    ),
}  # fmt: skip


class Found(NamedTuple):
    """What became of looking at cookies: what is wrong, and the token that they carry, if any."""

    diagnoses: list[Diagnosis]
    token: str | None = None


def cookies(evidence: Evidence, instances: Sequence[Instance], *, now: float) -> Found:
    """Judge a `Cookie` header."""
    assert evidence.cookie is not None
    sent = read_cookies(_bare(evidence.cookie).encode("utf-8", "replace"))
    own = [instance for instance in instances if _is_meant(sent, instance)]
    if not instances:
        return Found([skipped(SUBJECT, "no Clerk instance is configured, so none is read")])
    if not sent:
        return Found([_none_came(evidence)])
    if not own:
        return Found([_others(sent, instances)])
    meant = own if len(instances) > 1 else instances
    state = find_credential(_request(evidence.cookie), [each.config.credentials for each in meant], now=now)
    if isinstance(state, SignedOut):
        what, remedy = STATES.get(state.reason, ("they do not amount to signed in", "Reload the page"))
        return Found([*_domain(evidence), error(SUBJECT, f"{what} (401 {state.reason})", remedy)])
    token = state.token.decode("latin-1")
    return Found([*_domain(evidence), *_older(token, state.client_uat)], token)


def _request(cookie: str) -> Inbound:
    """Make the GET that has them, as the gateway would have read it."""
    seen = {"cookie": _bare(cookie).encode("utf-8", "replace")}
    return Inbound("GET", b"/", "/", Header([], seen, frozenset(), NOBODY, b""))


def _older(token: str, client_uat: int) -> list[Diagnosis]:
    peeked = peek(token)
    issued = peeked.claims.get("iat") if peeked is not None else None
    if not isinstance(issued, (int, float)) or issued >= client_uat:
        return []
    found = (
        "__session is older than __client_uat: signed out, or in again, since (401 session-token-iat-before-client-uat)"
    )
    return [error(SUBJECT, found, "Reload the page, which makes a new one")]


def _bare(text: str) -> str:
    return text[7:].strip() if text[:7].lower() == "cookie:" else text


def _is_meant(sent: Mapping[bytes, bytes], instance: Instance) -> bool:
    """Say whether any of the cookies is of this instance, or of whoever has the plain names."""
    suffix = instance.config.credentials.cookie_suffix
    plain = any(name in sent for name in PLAIN_NAMES)
    return plain or (suffix is not None and any(name.endswith(b"_" + suffix.encode()) for name in sent))


def _none_came(evidence: Evidence) -> Diagnosis:
    page, here = _host(evidence.origin), _called(evidence)
    if page and here and page != here:
        found = f"none of Clerk's came: __session is for {page} alone, and never goes to {here}"
        remedy = f"Serve the gateway on {page} (a path of it is enough), or {BY_HEADER}"
        return error(SUBJECT, found, remedy)
    found = (
        "none of Clerk's came: they are for the page's host alone, and fetch takes them along only where it is told to"
    )
    remedy = f'Call the gateway on the page\'s own host; for another one {BY_HEADER}. Is credentials: "omit" set?'
    return error(SUBJECT, found, remedy)


def _others(sent: Mapping[bytes, bytes], instances: Sequence[Instance]) -> Diagnosis:
    theirs = sorted({suffix for name in sent for plain in PLAIN_NAMES if (suffix := _suffix(name, plain))})
    ours = [each.config.credentials.cookie_suffix or "" for each in instances]
    found = (
        f"those that came are another Clerk application's: their suffix is {listed(theirs)}, here it is {listed(ours)}"
    )
    remedy = (
        "Give page and gateway the same publishable key (CLERK_PUBLISHABLE_KEY): the suffix is made from it. Where "
        "only CLERK_JWT_ISSUER_DOMAIN is set it is worked out, so set the publishable key too"
    )
    return error(SUBJECT, found, remedy)


def _suffix(name: bytes, plain: bytes) -> str:
    return name.removeprefix(plain + b"_").decode("latin-1") if name.startswith(plain + b"_") else ""


def _domain(evidence: Evidence) -> list[Diagnosis]:
    """Warn where cookies will come from some pages only."""
    page, here = _host(evidence.origin), _called(evidence)
    if not page or not here or page == here:
        return []
    found = f"the page is on {quoted(page)}, the gateway on {quoted(here)}: the page's __session does not go there"
    return [warning(SUBJECT, f"{found}; what came was set on {here} itself", BY_HEADER.capitalize())]


def _called(evidence: Evidence) -> str | None:
    if evidence.url is not None and evidence.url.hostname:
        return evidence.url.hostname
    return _host(f"//{evidence.host}") if evidence.host else None


def _host(origin: str | None) -> str | None:
    try:
        return urlsplit(origin).hostname if origin else None
    except ValueError:
        return None
