"""The Clerk instances and set-ups of the table, in the SDK's words and in the gateway's; and what rows are written with."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from time import time
from typing import Any

from gateway.config.availability import UNBUILT
from tests.fakes.clerk import FakeClerk

NOW = int(time())  # of the table: both sides' clocks stand still there
APP, HOST = "https://app.example.com", "app.example.com"
SATELLITE = "satellite.example.net"
SIGN_IN = "https://app.example.com/sign-in"
PROXY = f"{APP}/__clerk"

LIVE = FakeClerk("https://clerk.example.com", kid="ins_live", key_name="live")
DEV = FakeClerk("https://clean-mayfly-1.clerk.accounts.dev", kid="ins_dev", key_name="dev")
OTHER = FakeClerk("https://clerk.other.example", kid="ins_other", key_name="other")  # somebody else's
AWAY = FakeClerk(
    f"https://clerk.{SATELLITE}", kid="ins_live", key_name="live"
)  # the same instance, seen on a satellite

SECRETS = {"sk_live_agreement0": LIVE, "sk_test_agreement0": DEV}  # what the stand-in for Clerk's API knows


def publishable_key(clerk: FakeClerk, kind: str) -> str:
    """Write the key that names an instance's Frontend API."""
    host = clerk.issuer.removeprefix("https://")
    return f"pk_{kind}_" + b64encode(f"{host}$".encode()).decode().rstrip("=")


PK_LIVE, PK_DEV = publishable_key(LIVE, "live"), publishable_key(DEV, "test")


def suffix(key: str) -> str:
    """Give the suffix of an instance's cookies."""
    return urlsafe_b64encode(sha1(key.encode()).digest()).decode()[:8]


SFX, DEV_SFX = suffix(PK_LIVE), suffix(PK_DEV)


def is_built(*patterns: str) -> bool:
    """Say whether this gateway has what these keys ask for."""
    return not {unbuilt.pattern for unbuilt in UNBUILT}.intersection(patterns)


@dataclass(frozen=True)
class Setup:
    """How both sides are set up; `{keys}` in the gateway's part stands for the URL of the instance's key set."""

    client: Mapping[str, Any]  # createClerkClient, beside apiUrl
    request: Mapping[str, Any]  # authenticateRequest, beside acceptsToken
    clerk: Mapping[str, Any]  # the gateway's `clerk:`, beside api_url and jwks_url
    url: str = APP  # where the requests are sent to
    needs: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)  # of the gateway's other settings


def _setup(*, request: Mapping[str, Any] | None = None, secret: str = "sk_live_agreement0", **more: Any) -> Setup:
    development = secret.startswith("sk_test")
    key, issuer = (PK_DEV, DEV.issuer) if development else (PK_LIVE, LIVE.issuer)
    client = {"secretKey": secret, "publishableKey": key} | more.pop("client", {})
    clerk = {"publishable_key": key, "secret_key": secret, "authorized_parties": [APP], "handshake": True}
    asked = {"authorizedParties": [APP], "issuer": issuer} if request is None else request
    return Setup(client, asked, clerk | more.pop("clerk", {}), **more)


_AWAY = {"isSatellite": True, "domain": SATELLITE, "signInUrl": SIGN_IN}
_AWAY_EDGE = {"satellite": True, "domain": SATELLITE, "sign_in_url": SIGN_IN}
_AWAY_NEEDS = ("clerk.satellite", "clerk.domain", "clerk.sign_in_url")

SETUPS: Mapping[str, Setup] = {
    "live": _setup(),
    "dev": _setup(
        secret="sk_test_agreement0", request={"authorizedParties": [APP, f"https://{SATELLITE}"], "issuer": DEV.issuer},
        clerk={"authorized_parties": [APP, f"https://{SATELLITE}"]},
    ),
    # The SDK as it comes: no parties, no issuer.
    "loose": _setup(request={}, clerk={"authorized_parties": []}),
    "pem": _setup(client={"jwtKey": LIVE.pem()}, clerk={"jwt_key": LIVE.pem()}),
    "audience": _setup(
        request={"authorizedParties": [APP], "issuer": LIVE.issuer, "audience": ["api", "web"]},
        clerk={"audience": ["api", "web"]},
    ),
    "punctual": _setup(
        request={"authorizedParties": [APP], "issuer": LIVE.issuer, "clockSkewInMs": 0}, clerk={"clock_skew_s": 0}
    ),
    "satellite": _setup(
        client=_AWAY, request=_AWAY | {"authorizedParties": [APP, f"https://{SATELLITE}"]},
        clerk=_AWAY_EDGE | {"authorized_parties": [APP, f"https://{SATELLITE}"]},
        url=f"https://{SATELLITE}", needs=_AWAY_NEEDS,
    ),
    "dev_satellite": _setup(
        secret="sk_test_agreement0", client=_AWAY, request=_AWAY | {"authorizedParties": [APP]}, clerk=_AWAY_EDGE,
        url=f"https://{SATELLITE}", needs=_AWAY_NEEDS,
    ),
    "proxied": _setup(
        client={"proxyUrl": PROXY}, request={"authorizedParties": [APP]},
        clerk={"proxy_path": "/__clerk", "proxy_url": PROXY}, needs=("clerk.proxy_path", "clerk.proxy_url"),
    ),
    "machine_key": _setup(
        client={"machineSecretKey": "ak_machine"}, clerk={"machine_secret_key": "ak_machine"},
        needs=("clerk.machine_secret_key",),
    ),
    "keyless": _setup(secret="sk_live_nobody0000"),  # whose keys nobody serves
    "key_refused": _setup(secret="sk_live_refused000"),
}  # fmt: skip

# --- what rows are written with ---------------------------------------------------------------------------------------

Fields = tuple[tuple[str, str], ...]
DOCUMENT: Fields = (("Sec-Fetch-Dest", "document"), ("Accept", "text/html,application/xhtml+xml"))
FETCH: Fields = (("Sec-Fetch-Dest", "empty"), ("Accept", "application/json"))


def session(clerk: FakeClerk = LIVE, **claims: Any) -> str:
    """Sign a session token that is good now; `...` takes a claim away."""
    return clerk.session_token(NOW, **claims)


def bent(header: Mapping[str, Any] | None = None, *drop: str, **claims: Any) -> str:
    """Sign a session token with another header."""
    return LIVE.mint(LIVE.session_claims(NOW, **claims), header=header, drop_header=drop)


def aged(seconds: int, clerk: FakeClerk = LIVE, **claims: Any) -> str:
    """Sign a session token minted so many seconds ago."""
    return session(clerk, **({"iat": NOW - seconds, "nbf": NOW - seconds - 10, "exp": NOW - seconds + 60} | claims))


def bearer(token: str) -> Fields:
    """The token as everybody sends it."""
    return (("Authorization", f"Bearer {token}"),)


def cookies(**values: str | int | Callable[[], str]) -> Fields:
    """Write a Cookie field: session, uat, browser, refresh, handshake, nonce, count; `_s` behind one says suffixed.

    `_d` behind one says suffixed as the development instance's are.
    """
    names = {
        "session": "__session", "uat": "__client_uat", "browser": "__clerk_db_jwt", "refresh": "__refresh",
        "handshake": "__clerk_handshake", "nonce": "__clerk_handshake_nonce", "count": "__clerk_redirect_count",
    }  # fmt: skip
    pairs = []
    for key, value in values.items():
        name, _, which = key.partition("_")
        end = {"": "", "s": f"_{SFX}", "d": f"_{DEV_SFX}"}[which]
        pairs.append(f"{names[name]}{end}={value}")
    return (("Cookie", "; ".join(pairs)),)
