"""What to change where a request was refused, for the one who runs the gateway or the one who calls it."""

from typing import Final

from gateway.errors import GatewayError
from gateway.ops.explain.run import Course

# Of the instance's settings; `{route}` is the route's name.
CLERK_KEYS: Final = (
    "publishable_key", "issuer", "jwt_key", "jwks_url", "authorized_parties", "clock_skew_s", "api_url",
    "machine_verify_per_s",
)  # fmt: skip
CLOCK: Final = "Set this machine's clock (NTP), or raise {clock_skew_s} a little"
FETCH: Final = (
    "Reload the page, so that Clerk's script there sets the cookies anew, or send getToken() in Authorization"
)
# By code, then by reason; "" for any other reason.
REMEDIES: Final[dict[str, dict[str, str]]] = {
    "bad_request": {
        "path": "Write the path plainly; %2f, ; and // can be let through by allow_encoded of the route",
        "two-credentials": "Send one token, in one place",
        "host": "Send one Host, a name or an address with or without a port",
        "": "Send a well-formed request (RFC 9112)",
    },
    "missing_credential": {
        "": "Send Authorization: Bearer <token of getToken()>, or set auth: public for {route}",
    },
    "invalid_token": {
        "token-expired": "Obtain a new token with getToken() right before the call: they live a minute",
        "token-not-active-yet": CLOCK,
        "token-iat-in-the-future": CLOCK,
        "session-token-nbf": CLOCK,
        "session-token-iat-in-the-future": CLOCK,
        "token-invalid-signature": "Another instance signed it: check {publishable_key} or {jwt_key}",
        "token-invalid-issuer": "It is another instance's: check {publishable_key} or {issuer}, and the page's key",
        "jwk-kid-mismatch": "No key of this instance signed it: check {publishable_key}, and the page's key",
        "token-invalid-authorized-parties": "Add the page's origin to {authorized_parties} "
        "(CLERK_AUTHORIZED_PARTIES), or obtain the token on a page that is listed",
        "token-type-mismatch": "Send a kind of token that {route} takes, or add this kind to its token:",
        "session-pending": "Let the user finish the session's tasks, or set allow_pending: true for {route}",
        "token-verification-failed": "Look at the claims above: one that every token needs is missing, or aud is "
        "none that is accepted",
        "token-invalid": "Send the token whole, as getToken() gives it",
        "": FETCH,
    },
    "forbidden": {
        "role": "Give the user the role in the active organisation, or change require.role of {route}; a token that "
        "was made before still has the old one",
        "permission": "Give the role that permission in Clerk, or change require.permission of {route}",
        "org": "Have the user choose the organisation (setActive), then obtain a new token",
        "plan": "Subscribe the user or the organisation to the plan, or change require.plan of {route}",
        "feature": "Add the feature to the plan, or change require.feature of {route}",
        "scope": "Create the token with that scope, or change require.scope of {route}",
        "claims": "Put the claim into the session token (Dashboard, Sessions), or change require.claims of {route}",
        "max_age": "Call it through Clerk's useReverification(), which asks the user again and then calls once more",
        "impersonation": "Let the user call it themselves, or leave allow_impersonation: false out of {route}",
        "origin": "Call from the gateway's own origin, list the page in cors.origins or {authorized_parties}, or send "
        "the token in Authorization",
        "convex_admin": "Keep admin keys inside, or set allow_convex_admin for this upstream",
    },
    "no_route": {"": "Add a route for this path and host; the first that matches is taken"},
    "method_not_allowed": {"": "Use another method, or add it to methods: of the route"},
    "body_too_large": {"": "Send less, or raise max_body_bytes of {route} (limits.body_bytes)"},
    "headers_too_large": {"": "Send less, or raise limits.header_bytes or limits.headers"},
    "expectation_failed": {"": "Send no Expect but 100-continue"},
    "rate_limited": {"": "Call less often, or raise the rate limit"},
    "keys_unavailable": {"": "Make {jwks_url} reachable from here, or set {jwt_key}, which needs no network"},
    "clerk_unavailable": {"": "Make {api_url} reachable from here, and see that Clerk takes the key it is asked with"},
    "overloaded": {"": "Too much is being asked of Clerk at once: try again, or raise {machine_verify_per_s}"},
    "internal_error": {"": "This is a fault of the gateway's own: please report it"},
}


def remedy(course: Course, error: GatewayError) -> str:
    """Say what to change; "" where nobody has an idea."""
    by_reason = REMEDIES.get(error.code, {})
    reason = error.reason or ""
    found = by_reason.get(reason, by_reason.get("", ""))
    return found.format_map(_names(course))


def _names(course: Course) -> dict[str, str]:
    route, issuers = course.witness.route, course.config.issuers
    wanted = route.admission.issuer if route is not None else None
    chosen = [each for each in issuers if wanted in (None, each.name)]
    at = chosen[0].key if len(chosen) == 1 else "issuers[…]"
    named = {key: f"{at}.{key}" for key in CLERK_KEYS}
    return {**named, "route": f'route "{route.name}"' if route is not None else "the route"}
