"""The whole story of a request: every check in the order of `web/pipeline`, and how it ended."""

from collections.abc import Iterator
from typing import NamedTuple

from gateway.core.credentials import Credential
from gateway.core.handshake import is_document
from gateway.core.model import Inbound, SignedOut
from gateway.core.routing import Route
from gateway.errors import GatewayError, Redirect, StepUpNeeded
from gateway.ops.explain.credential import credential_steps, found_credential
from gateway.ops.explain.matching import matching_steps
from gateway.ops.explain.onward import Onward, onward_of, onward_steps
from gateway.ops.explain.remedy import remedy
from gateway.ops.explain.rules import admission_steps, cookie_steps, requirement_steps, revocation_step
from gateway.ops.explain.run import Course
from gateway.ops.explain.step import BAD, Step, judged, note
from gateway.ops.explain.token import principal_of, token_steps
from gateway.web.respond import refusal_fields


class Verdict(NamedTuple):
    """How it ended. Without a status it is for the upstream, or for the gateway's own application, to answer."""

    status: int | None
    code: str | None = None
    reason: str | None = None
    detail: str | None = None
    remedy: str = ""
    words: str = ""
    fields: tuple[tuple[str, str], ...] = ()  # of the answer, that say more about the refusal


class Story(NamedTuple):
    """What there is to tell."""

    course: Course
    steps: tuple[Step, ...]
    verdict: Verdict
    onward: Onward | None


def tell(course: Course) -> Story:
    """Tell the story of what has been carried."""
    outbound = course.witness.outbound
    onward = onward_of(course, outbound) if outbound is not None and course.error is None else None
    return Story(course, tuple(_steps(course)), _verdict(course), onward)


def _steps(course: Course) -> Iterator[Step]:
    """Tell of each check; last, of the refusal itself where none of them is the one that it came from."""
    steps, error = tuple(_checks(course)), course.error
    yield from steps
    word = None if error is None or isinstance(error, Redirect) else error.reason or error.code
    if error is not None and word is not None and not any(step.outcome == BAD and word in step.text for step in steps):
        yield judged(error.code, error, "refused")


def _checks(course: Course) -> Iterator[Step]:
    inbound, error = course.inbound, course.error
    if inbound is None:
        yield judged("request", error, "cannot be read")
        return
    yield note("request", _request(course, inbound))
    yield from matching_steps(course, inbound)
    route = course.witness.route
    witness = course.witness
    if route is None or witness.is_own or witness.proxy is not None or witness.preflight is not None:
        return
    if isinstance(error, GatewayError) and error.code == "bad_request" and error.reason == "path":
        return
    yield from _who(course, inbound, route)
    yield from onward_steps(course, course.witness.identified, route)


def _request(course: Course, inbound: Inbound) -> str:
    peer, host = inbound.header.peer, inbound.header.authority.decode("latin-1")
    trusted = ", one of trusted_proxies" if peer.trusted else ""
    kind = "a WebSocket's handshake" if inbound.upgrade else inbound.method
    return f"{kind} for {peer.scheme}://{host}, as if from {peer.address}{trusted}"


def _who(course: Course, inbound: Inbound, route: Route) -> Iterator[Step]:
    """Tell of credential, token and rules."""
    yield from credential_steps(course, inbound, route)
    if route.auth == "public":
        return
    if _may_be_renewed(course, inbound, route):
        yield note("pages", "Clerk is asked for no session here; a running gateway refreshes one, or takes a handshake")
    found, known = found_credential(course, inbound, route), course.witness.identified
    if isinstance(found, Credential):
        named = found.issuer if found.source == "cookie" else route.admission.issuer
        yield from token_steps(course, found.token, named)
        principal = known.principal if known is not None else principal_of(course, found.token, named)
        if principal is not None:
            yield from admission_steps(principal, route)
            if found.source == "cookie":
                yield from cookie_steps(course, inbound, route, found, principal)
            yield revocation_step(course, principal)
        if known is None and route.auth == "optional" and found.source == "cookie":
            yield note("credential", "cookies that do not amount to signed in are nobody's: anonymous here")
            principal = None
        if principal is not None or route.auth == "optional":
            yield from requirement_steps(course, principal, route)
    elif isinstance(found, SignedOut) and route.auth == "optional":
        yield from requirement_steps(course, None, route)


def _may_be_renewed(course: Course, inbound: Inbound, route: Route) -> bool:
    """Say whether a running gateway might ask Clerk for another session (`web/documents`)."""
    issuers = course.deps.issuers
    if issuers is None or issuers.pages is None or inbound.upgrade:
        return False
    if inbound.method != "GET" and inbound.header.credential is not None:
        return False  # no cookie replaces a token in the header
    is_asked = any(issuer.pages is not None and issuer.pages.policy.handshake for issuer in issuers)
    has_what_it_takes = is_document(inbound) or b"__refresh_" in inbound.header.seen.get("cookie", b"")
    return is_asked and has_what_it_takes and "session" in route.admission.token_types


def _verdict(course: Course) -> Verdict:
    error, witness = course.error, course.witness
    if isinstance(error, Redirect):
        fields = (("Location", error.location),)
        return Verdict(error.status, reason=error.reason, words="sent elsewhere first", fields=fields)
    if error is not None:
        return _refused(course, error)
    if witness.is_own:
        return Verdict(None, words="answered by the gateway itself")
    if witness.preflight is not None:
        granted = b"Access-Control-Allow-Origin" in witness.preflight
        return Verdict(204, words=f"the preflight is answered, {'granted' if granted else 'nothing is granted'}")
    return Verdict(None, words="passes, and is sent on")


def _refused(course: Course, error: GatewayError) -> Verdict:
    detail = error.detail
    if isinstance(error, StepUpNeeded):
        detail = f"the page is told to ask for {error.level}, used less than {error.after_min} min ago"
    lines = (line.decode("latin-1").strip().partition(": ") for line in refusal_fields(error))
    fields = tuple((name, value) for name, _, value in lines)
    return Verdict(error.status, error.code, error.reason, detail, remedy(course, error), fields=fields)
