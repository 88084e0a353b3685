"""A Clerk instance of our own: keys, tokens in Clerk's shape, and a key-set endpoint on loopback.

clerk = FakeClerk()
token = clerk.session_token(now, sub="user_2", org_role="org:admin")    # good, unless told otherwise
token = clerk.mint(clerk.session_claims(now), header={"alg": "none"})   # every part may be bent
async with FakeIssuer(clerk) as issuer: ... issuer.jwks_url ...         # and may answer badly
"""

import asyncio
import base64
import functools
import json
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SESSION, TEMPLATE, M2M, SILENT = (
    f"cl_{middle}" for middle in ("B7d4PD111AAA", "B7d4PD222AAA", "B7d4PD333AAA", "I7d4PD111III")
)


@functools.cache
def rsa_key(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make the key of this name once per process: making one takes longer than most tests."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def b64url(raw: bytes) -> str:
    """Encode as a JWS does: base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def public_jwk(key: rsa.RSAPrivateKey | rsa.RSAPublicKey, kid: str, /, **changes: Any) -> dict[str, Any]:
    """Write a key as an entry of a key set; a change to None leaves the member out."""
    public = key.public_key() if isinstance(key, rsa.RSAPrivateKey) else key
    numbers = public.public_numbers()
    n = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
    e = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")
    entry = {"use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256", "n": b64url(n), "e": b64url(e)} | changes
    return {name: value for name, value in entry.items() if value is not None}


class FakeClerk:
    """One instance: an issuer, a signing key and its kid. All three may be reassigned."""

    def __init__(
        self, issuer: str = "https://clerk.example.com", *, kid: str = "ins_test", key_name: str = "first"
    ) -> None:
        self.issuer = issuer
        self.kid = kid
        self.key = rsa_key(key_name)

    def session_claims(self, now: float, **overrides: Any) -> dict[str, Any]:
        """Claims of a session token (v2) minted at `now`; an override replaces or adds, `...` takes away."""
        claims = {
            "azp": "https://app.example.com",
            "exp": int(now) + 60,
            "fva": [0, -1],
            "iat": int(now),
            "iss": self.issuer,
            "jti": "0123456789abcdef0123",
            "nbf": int(now) - 10,
            "sid": "sess_1",
            "sts": "active",
            "sub": "user_1",
            "v": 2,
        } | overrides
        return {name: value for name, value in claims.items() if value is not ...}

    def template_claims(self, now: float, **overrides: Any) -> dict[str, Any]:
        """Claims of a JWT template's token: no session, no organisation; `...` takes away."""
        absent: dict[str, Any] = dict.fromkeys(("fva", "sid", "sts", "v"), ...)
        return self.session_claims(now, **(absent | overrides))

    def machine_claims(self, now: float, **overrides: Any) -> dict[str, Any]:
        """Claims of an M2M token's JWT; `...` takes away."""
        claims = {
            "iss": self.issuer, "sub": "mch_1", "iat": int(now), "nbf": int(now) - 10, "exp": int(now) + 300,
            "jti": "mt_1", "scopes": "mch_2 mch_3",
        } | overrides  # fmt: skip
        return {name: value for name, value in claims.items() if value is not ...}

    def oauth_claims(self, now: float, **overrides: Any) -> dict[str, Any]:
        """Claims of an OAuth access token's JWT (RFC 9068); `...` takes away."""
        absent: dict[str, Any] = {"scopes": ...}
        own = {"sub": "user_1", "jti": "oat_1", "client_id": "client_1", "scope": "profile email"}
        return self.machine_claims(now, **(absent | own | overrides))

    def m2m_token(self, now: float, **overrides: Any) -> str:
        """Sign a good M2M token, changed as `machine_claims` says."""
        return self.mint(self.machine_claims(now, **overrides), header={"cat": M2M})

    def oauth_token(self, now: float, **overrides: Any) -> str:
        """Sign a good OAuth access token, changed as `oauth_claims` says."""
        return self.mint(self.oauth_claims(now, **overrides), header={"typ": "at+jwt"}, drop_header=("cat",))

    def session_token(self, now: float, **overrides: Any) -> str:
        """Sign a good session token, changed as `session_claims` says."""
        return self.mint(self.session_claims(now, **overrides))

    def template_token(self, now: float, **overrides: Any) -> str:
        """Sign a good template token, changed as `template_claims` says."""
        return self.mint(self.template_claims(now, **overrides), header={"cat": TEMPLATE})

    def mint(
        self,
        claims: Mapping[str, Any],
        *,
        header: Mapping[str, Any] | None = None,
        key: rsa.RSAPrivateKey | None = None,
        drop: Collection[str] = (),
        drop_header: Collection[str] = (),
    ) -> str:
        """Sign these claims, good or not, with RS256, whatever the header says the algorithm is."""
        full = {"alg": "RS256", "typ": "JWT", "cat": SESSION, "kid": self.kid} | dict(header or {})
        head = {name: value for name, value in full.items() if name not in drop_header}
        body = {name: value for name, value in claims.items() if name not in drop}
        return self.sign(json.dumps(head).encode(), json.dumps(body).encode(), key=key)

    def sign(self, header: bytes, payload: bytes, *, key: rsa.RSAPrivateKey | None = None) -> str:
        """Sign any two byte strings as header and payload, JSON or not."""
        signed = f"{b64url(header)}.{b64url(payload)}"
        signature = (key or self.key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64url(signature)}"

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Write this instance's key as an entry of a key set."""
        return public_jwk(self.key, self.kid, **changes)

    def jwks(self) -> dict[str, Any]:
        """Write the key set this instance publishes."""
        return {"keys": [self.jwk()]}

    def pem(self) -> str:
        """Write the public key as the Dashboard shows it."""
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return self.key.public_key().public_bytes(*form).decode()


class FakeIssuer:
    """`/.well-known/jwks.json` of some instances, on 127.0.0.1; what it answers can be changed at any moment.

    `stop()` and `start()` again keep the port, as a server does that was down for a while.
    """

    def __init__(self, *clerks: FakeClerk) -> None:
        self.clerks = list(clerks or (FakeClerk(),))  # reassign to rotate
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None  # instead of the key set
        self.hold: asyncio.Event | None = None  # answers wait for it
        self.arrived = asyncio.Event()  # set by each request before it is held
        self.requests = 0
        self.last_headers: Mapping[str, str] = {}
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The issuer's address, without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def jwks_url(self) -> str:
        """The key set's address."""
        return f"{self.url}/.well-known/jwks.json"

    async def start(self) -> None:
        """Listen, on the port of last time if there was one."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and let go of what is held."""
        if self.hold is not None:
            self.hold.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.last_headers = request.headers
        self.arrived.set()
        if self.hold is not None:
            await self.hold.wait()
        keys = {"keys": [key for clerk in self.clerks for key in clerk.jwks()["keys"]]}
        body = json.dumps(keys).encode() if self.body is None else self.body
        return web.Response(status=self.status, body=body, headers=self.headers, content_type="application/json")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
