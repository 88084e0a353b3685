"""Where the gateway deliberately says something else than the SDK, and why. A row here that does not differ fails."""

from collections.abc import Mapping
from typing import NamedTuple


class Difference(NamedTuple):
    """What the gateway says instead, as state and reason, and the reason for it."""

    says: str
    why: str


def _because(why: str, rows: Mapping[str, str]) -> Mapping[str, Difference]:
    """Give the reason once for several rows; `rows` are names, blank between them, by what the gateway says."""
    return {name: Difference(says, why) for says, names in rows.items() for name in names.split()}


IN = "signed-in None"
OUT = "signed-out "

DIFFERENCES: Mapping[str, Difference] = {
    # --- where a token stands -----------------------------------------------------------------------------------------
    **_because(
        "schemes are case-insensitive, and any blanks may follow one (RFC 9110 §11.1, §11.4)",
        {IN: "header-bearer-in-lower-case header-bearer-in-capitals header-two-blanks header-tab"},
    ),
    **_because(
        "what follows the token is not dropped unseen: it is no token68 (RFC 6750 §2.1)",
        {OUT + "token-invalid": "header-something-behind"},
    ),
    **_because(
        "a value without a scheme is a credential only where it has the form of one (CONTRACT §4)",
        {OUT + "session-token-and-uat-missing": "header-a-word", IN: "header-a-word-beside-a-good-cookie"},
    ),
    **_because(
        "which of two fields an upstream would read nobody knows (CONTRACT §4); the SDK sees them joined by a comma",
        {"refused-400 two-credentials": "header-twice"},
    ),
    # --- forms --------------------------------------------------------------------------------------------------------
    **_because(
        "a token has one spelling: no padding (RFC 7515 §2)",
        {OUT + "token-invalid": "header-payload-padded header-signature-padded cookie-equals-behind"},
    ),
    **_because(
        "claims are an object, and no member twice (RFC 7519 §7.2, RFC 8725 §2.4)",
        {OUT + "token-invalid": "header-payload-an-array header-member-twice"},
    ),
    **_because(
        "of the payload nothing is read before the signature holds",
        {OUT + "token-invalid-signature": "cookie-payload-not-json"},
    ),
    **_because(
        "RS256 is the one algorithm there is, so the others are called what they are; the SDK fails importing the key",
        {OUT + "token-invalid-algorithm": "header-alg-RS384 header-alg-RS512"},
    ),
    **_because(
        "a member that is no text is malformed before it is unknown",
        {OUT + "token-invalid": "header-kid-a-number header-cat-null"},
    ),
    **_because(
        "an extension nobody understands makes the token invalid (RFC 7515 §4.1.11)",
        {OUT + "token-invalid": "header-crit header-crit-empty"},
    ),
    # --- claims -------------------------------------------------------------------------------------------------------
    **_because(
        "what the upstream is told has to be somebody, and printable",
        {OUT + "token-verification-failed": "header-sub-empty header-sub-with-control"},
    ),
    **_because(
        "a session token is that of a session",
        {
            OUT + "token-verification-failed": "header-sid-missing",
            OUT + "token-type-mismatch": "header-sid-missing-without-cat",
        },
    ),
    **_because(
        "an audience is asked for and there is an aud: then it has to be one, not something that cannot be compared",
        {
            OUT
            + "token-verification-failed": "header-aud-empty header-aud-empty-list header-aud-mixed header-aud-number"
        },
    ),
    **_because(
        "the issuer is always checked, the SDK does it only when told",
        {OUT + "token-invalid-issuer": "header-iss-other-loose header-iss-missing-loose"},
    ),
    **_because(
        "a time beyond what a date can be is no time",
        {OUT + "token-verification-failed": "header-exp-far header-nbf-far"},
    ),
    **_because(
        "without iat no token can be told from one minted before the user signed out",
        {OUT + "token-verification-failed": "header-iat-missing cookie-iat-missing"},
    ),
    **_because(
        "features without a scope grant nothing anybody could name; the SDK throws, which is a 500 in most applications",
        {OUT + "token-invalid": "header-v2-feature-without-scope"},
    ),
    **_because(
        "upstreams are always told a role with org: before it (CONTRACT §5)",
        {IN: "header-v1-role-without-prefix"},
    ),
    **_because(
        "a pending session is signed out for both, but the gateway says why (CONTRACT §8)",
        {OUT + "session-pending": "header-pending cookie-pending document-pending"},
    ),
    # --- times --------------------------------------------------------------------------------------------------------
    **_because(
        "a header's token is spelt as verifyToken does (CONTRACT §8 has it as the example): no cookie is about to refresh it",
        {
            OUT + "token-expired": "header-exp-negative header-exp-5s-ago header-exp-now-punctual header-fetch-expired "
            "header-POST-expired header-DELETE-expired header-HEAD-expired header-OPTIONS-expired "
            "header-expired-beside-a-refresh-cookie header-expired-beside-cookies",
            OUT + "token-not-active-yet": "header-nbf-in-6s header-nbf-in-1s-punctual header-fetch-nbf",
            OUT + "token-iat-in-the-future": "header-iat-in-6s header-fetch-iat",
        },
    ),
    # --- keys ---------------------------------------------------------------------------------------------------------
    **_because(
        "keys that cannot be had say nothing about a token: 503, never signed out (CONTRACT §8)",
        {
            "unavailable keys_unavailable": "header-keys-cannot-be-had header-keys-refused cookie-keys-cannot-be-had "
            "cookie-expired-and-keys-cannot-be-had"
        },
    ),
    # --- cookies ------------------------------------------------------------------------------------------------------
    **_because(
        "a form that was open for longer than a token lives is taken: no script of Clerk's need be in the page (issue: no Clerk "
        "code of its own), and its origin has been looked at",
        {
            IN: "refresh-posted",
            OUT + "session-token-expired-refresh-resource_not_found": "cookie-POST-expired cookie-PUT-expired "
            "cookie-DELETE-expired cookie-HEAD-expired cookie-OPTIONS-expired",
        },
    ),
    **_because(
        "a cookie counts for a change only where its own pages sent it (CONTRACT §4); the SDK leaves that to the application",
        {"refused-403 origin": "cookie-POST-from-elsewhere cookie-POST-from-nowhere"},
    ),
    **_because(
        "Clerk writes no hexadecimal times: read as 0, which is signed out",
        {OUT + "session-token-but-no-client-uat": "cookie-uat-hexadecimal"},
    ),
    # --- documents ----------------------------------------------------------------------------------------------------
    **_because(
        "what a client says of hosts is believed of trusted proxies only; addresses come from public_url",
        {
            "redirect client-uat-but-no-session-token": "document-to-forwarded-host document-to-forwarded-proto",
        },
    ),
    **_because(
        "from three redirects on it is a loop; the SDK stops at three exactly, and goes on at four",
        {
            OUT + "client-uat-but-no-session-token": "document-loop-4 document-loop-9",
        },
    ),
    **_because(
        "the guard counts in whole numbers, from 0",
        {
            "redirect client-uat-but-no-session-token": "document-loop--1 document-loop-1.5",
        },
    ),
    **_because(
        "in production a handshake comes back in cookies: one in the query is a link by which somebody signs others in as himself",
        {
            OUT + "session-token-and-uat-missing": "nonce-in-the-query handshake-in-the-query",
        },
    ),
    **_because(
        "only a document comes back from a handshake; a nonce works once, and is not spent on what goes on beside it",
        {
            OUT + "session-token-and-uat-missing": "nonce-fetched nonce-posted",
        },
    ),
    **_because(
        "only documents are sent to be synced, so only of them the query is read",
        {
            OUT + "dev-browser-missing": "cookie-dev-browser-in-the-query",
        },
    ),
    **_because(
        "a handshake that another instance signed is refused; the SDK throws, which is a 500 in most applications",
        {
            OUT + "token-invalid-signature": "handshake-dev-of-another",
            OUT + "token-invalid": "handshake-dev-nonsense handshake-dev-template",
        },
    ),
    **_because(
        "a template's token is no session, wherever it comes from; the SDK looks at that for tokens of its own cookies only",
        {OUT + "token-type-mismatch": "nonce-session-a-template"},
    ),
    **_because(
        "a nonce that could not be asked about says nothing: 503, never signed out (CONTRACT §8)",
        {"unavailable clerk_unavailable": "nonce-api-down"},
    ),
    **_because(
        "a nonce that was spent says nothing of the session beside it",
        {IN: "nonce-unknown-beside-good-cookies"},
    ),
    **_because(
        "a clock that is off is called that at once; the SDK looks away for a day, goes on, and ends in its loop guard",
        {
            OUT + "token-not-active-yet": "nonce-dev-session-ahead handshake-dev-session-ahead",
            OUT + "token-expired": "nonce-dev-session-expired handshake-dev-session-expired",
        },
    ),
    **_because(
        "a pending session is signed out before anybody asks where its page came from",
        {OUT + "session-pending": "document-from-other-and-pending nonce-pending"},
    ),
    **_because(
        "a session that came back and is no good is called that; the SDK asks for another handshake or says nothing was sent",
        {
            OUT + "token-expired": "nonce-session-expired handshake-session-expired",
            OUT
            + "jwk-kid-mismatch": "nonce-session-of-another nonce-dev-session-of-another handshake-dev-session-of-another",
        },
    ),
    **_because(
        "an API that could not be asked has one word here, whatever it said; the log has the rest",
        {
            OUT + "session-token-expired-refresh-fetch-error": "refresh-api-without-errors refresh-too-many",
            "redirect session-token-expired-refresh-fetch-error": "refresh-api-without-errors-document "
            "refresh-too-many-document",
        },
    ),
    **_because(
        "only parties are answered: the SDK leads to whatever address the query names and hands it the dev browser's token",
        {IN: "document-dev-syncing-elsewhere document-dev-syncing-to-no-url"},
    ),
    **_because("only documents are sent to be synced, so only of them the query is read", {IN: "fetch-dev-syncing"}),
    # --- machine tokens -----------------------------------------------------------------------------------------------
    **_because(
        "a token with the form of a machine's is called that wherever it may not stand; the SDK fails decoding it",
        {
            OUT
            + "token-type-mismatch": "session-route-api_key session-route-m2m session-route-oauth machine-in-a-cookie",
        },
    ),
    **_because(
        '"No token in header" is a sentence and no reason; what is missing or of another kind has its word',
        {
            OUT
            + "token-type-mismatch": "api_key-route-session-cookie m2m-route-session-cookie oauth-route-session-cookie "
            "m2m-jwt-in-a-cookie",
            OUT
            + "session-token-and-uat-missing": "api_key-route-nothing m2m-route-nothing oauth-route-nothing machines-route-nothing "
            "api_key-route-document-returning m2m-route-document-returning oauth-route-document-returning machines-route-document-returning",
            OUT
            + "client-uat-but-no-session-token": "api_key-route-document-session-missing m2m-route-document-session-missing oauth-route-document-session-missing machines-route-document-session-missing",
            OUT
            + "session-token-expired-refresh-non-eligible-no-refresh-cookie": "api_key-route-document-expired-cookie m2m-route-document-expired-cookie oauth-route-document-expired-cookie machines-route-document-expired-cookie",
        },
    ),
    **_because(
        "what kind a token is, is said of good ones only: a bad one is called bad first",
        {
            OUT + "token-invalid": "api_key-route-nonsense m2m-route-nonsense oauth-route-nonsense "
            "machines-route-nonsense oauth-jwt-typ-capitals",
            OUT
            + "token-expired": "api_key-route-expired-session m2m-route-expired-session oauth-route-expired-session "
            "machines-route-expired-session session_or_key-route-expired-session "
            "any-route-expired-session "
            "api_key-route-document-expired-header m2m-route-document-expired-header oauth-route-document-expired-header machines-route-document-expired-header",
        },
    ),
    **_because(
        "Clerk's API has said that it is no token of its own; the SDK knows this only of a 404",
        {
            OUT + "token-invalid": "api_key-bad-request m2m-bad-request oauth-bad-request api_key-unprocessable "
            "m2m-unprocessable oauth-unprocessable",
        },
    ),
    **_because(
        "an API that cannot be asked has said nothing about the token: 503, never signed out (CONTRACT §8)",
        {
            "unavailable clerk_unavailable": "api_key-forbidden m2m-forbidden oauth-forbidden api_key-secret-refused "
            "m2m-secret-refused oauth-secret-refused api_key-api-down m2m-api-down oauth-api-down "
            "api_key-api-away m2m-api-away oauth-api-away api_key-too-many m2m-too-many "
            "oauth-too-many api_key-nonsense m2m-nonsense oauth-nonsense api_key-of-nobody",
            "unavailable keys_unavailable": "m2m-jwt-keys-cannot-be-had",
        },
    ),
    **_because(
        "a revoked or expired token is not let in even where Clerk's API describes it; the SDK hands that to the application",
        {
            OUT + "token-invalid": "api_key-revoked m2m-revoked oauth-revoked",
            OUT + "token-expired": "api_key-expired m2m-expired oauth-expired",
        },
    ),
    **_because(
        "the reason is as precise as for a session; the SDK has one word for all that can be wrong with a machine's JWT",
        {
            OUT + "token-expired": "m2m-jwt-expired oauth-jwt-expired",
            OUT + "token-not-active-yet": "m2m-jwt-nbf oauth-jwt-nbf",
            OUT + "token-iat-in-the-future": "m2m-jwt-iat oauth-jwt-iat",
            OUT + "token-invalid-signature": "m2m-jwt-forged oauth-jwt-forged",
            OUT + "token-invalid-algorithm": "m2m-jwt-alg-none oauth-jwt-alg-none",
            OUT + "jwk-kid-mismatch": "m2m-jwt-kid-unknown oauth-jwt-kid-unknown m2m-jwt-of-another",
        },
    ),
    **_because(
        "an actor is somebody the upstream should know of (CONTRACT §5); the SDK keeps it to itself for OAuth tokens",
        {
            IN: "oauth-jwt-with-actor",
        },
    ),
    **_because(
        "without a scheme only a JWT counts (CONTRACT §4)",
        {
            OUT + "session-token-and-uat-missing": "machine-without-scheme",
        },
    ),
}
