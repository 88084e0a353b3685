"""The local issuer: keys made anew at each start, tokens shaped like Clerk's, and the addresses that give them out.

Whoever can reach it can be anyone, so it answers on loopback only, under loopback names only, to loopback pages only.
"""

import json
import re
import secrets
import string
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gateway.ops.dev import shapes
from gateway.ops.dev.clients import Clients
from gateway.ops.dev.happenings import Happening, check_may_sign_in, sign_in
from gateway.ops.dev.instance import Instance
from gateway.ops.dev.machines import Machines
from gateway.ops.dev.people import Person
from gateway.ops.dev.redirects import LOOPBACK
from gateway.ops.dev.token_request import TokenOptions, read_options
from gateway.ops.dev.world import World

FOREIGN_ISSUER = "https://clerk.stranger.example"

_HOST = re.compile(LOOPBACK, re.IGNORECASE)
_ORIGIN = re.compile("https?://" + LOOPBACK)
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Max-Age": "600",
}


@dataclass(frozen=True, slots=True)
class Signer:
    """One Clerk instance: its address, its key and the key's id, which with Clerk is the id of the instance."""

    issuer: str
    kid: str
    key: rsa.RSAPrivateKey

    @classmethod
    def make(cls, issuer: str) -> "Signer":
        """Make an instance with a fresh key (RSA with 2048 bits, as Clerk's are)."""
        alphabet = string.ascii_letters + string.digits
        kid = "ins_dev" + "".join(secrets.choice(alphabet) for _ in range(24))
        return cls(issuer, kid, rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def sign(self, claims: dict[str, Any], category: str | None, *, kind: str = "JWT") -> str:
        """Sign `claims` as Clerk does: RS256, with the token's class in the header parameter `cat`, or in `typ`."""
        full = claims | {"iss": self.issuer}
        headers = {"kid": self.kid, "typ": kind} | ({"cat": category} if category else {})
        return jwt.encode(full, self.key, algorithm="RS256", headers=headers)

    def jwks(self) -> dict[str, Any]:
        """Give the public key as a key set."""
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {
            "keys": [{"use": "sig", "kty": "RSA", "kid": self.kid, "alg": "RS256", "n": public["n"], "e": public["e"]}]
        }


class LocalIssuer:
    """Mints what Clerk would, for the users of a `world`; `url` is its own address, `gateway_origin` the default `azp`.

    `tell` gets what Clerk would announce of it: a token for who is not signed in yet begins a session. Session tokens
    in cookies live `cookie_life_s`.
    """

    def __init__(
        self, url: str, *, gateway_origin: str, world: World | None = None,
        tell: Callable[[Sequence[Happening]], object] = lambda _: None,
        development: bool = True, cookie_life_s: int = shapes.LIFE_S,
    ) -> None:  # fmt: skip
        self.url = url
        self.world = world or World()
        self.tell = tell
        self.played = Instance(url, development)
        self.clients = Clients(self.world)
        self.machines = Machines(self.world, self.sign)
        self.cookie_life_s = cookie_life_s
        self._gateway_origin = gateway_origin
        self._signer = Signer.make(url)
        self._stranger: Signer | None = None

    @property
    def instance(self) -> str:
        """The id of the Clerk instance it plays."""
        return self._signer.kid

    def jwks(self) -> dict[str, Any]:
        """Give the key set that verifies everything but foreign tokens."""
        return self._signer.jwks()

    def sign(self, claims: dict[str, Any], category: str | None, *, kind: str = "JWT", foreign: bool = False) -> str:
        """Sign what else Clerk signs with the same key, or a stranger with theirs; `kind` is the header's `typ`."""
        return (self._foreign() if foreign else self._signer).sign(claims, category, kind=kind)

    def read_expired(self, token: str) -> dict[str, Any]:
        """Give the claims of a token of its own, however old. Raises ValueError for any other."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._signer.key.public_key(),
                algorithms=["RS256"],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
            )
        except jwt.InvalidTokenError as error:
            raise ValueError(f"not a token of this instance: {error}") from error
        return claims

    def mint(
        self,
        now: float,
        user_id: str | None = None,
        *,
        version: int = 2,
        template: str | None = None,
        org: str | None = None,
        role: str | None = None,
        permissions: Sequence[str] = (),
        expires_in: int = shapes.LIFE_S,
        foreign: bool = False,
        azp: str | None = None,
        pending: bool = False,
    ) -> str:
        """Mint a session token at `now` (Unix seconds) living `expires_in` seconds, or one of the JWT `template`.

        `org` is None for the user's own organisation and "none" for no organisation; `azp` None is the gateway's own
        origin and "" none at all, as Clerk leaves it out where no Origin was sent.

        Raises:
            ValueError: an unknown user or organisation, one who may not sign in, a malformed role or permission, a life
                over ten years.
        """
        person = self.world.person(user_id)
        check_may_sign_in(person)
        signer = self._foreign() if foreign else self._signer
        claims: dict[str, Any] = shapes.times(now, expires_in) | {"sub": person.id}
        if azp := self._gateway_origin if azp is None else azp:
            claims["azp"] = azp
        if template is not None:
            claims |= {"jti": secrets.token_hex(10)} | shapes.template_claims(person, template, now=now)
            return signer.sign(claims, shapes.TEMPLATE_CATEGORY)
        if org not in (None, "none"):
            org = self.world.organisation(org).id  # raises for one that was deleted
        active = shapes.choose_active(
            person, org=org, role=role, permissions=permissions, organisations=self.world.organisations
        )
        session = {
            "sid": self._session_id(person, foreign=foreign),
            "fva": [0, -1],
            "sts": _status(person, pending=pending),
        }
        claims |= {} if version == 1 else {"jti": secrets.token_hex(10)}
        claims |= shapes.session_claims(person, active, version=version, session=session)
        return signer.sign(claims, shapes.SESSION_CATEGORY)

    def _foreign(self) -> Signer:
        if self._stranger is None:
            self._stranger = Signer.make(FOREIGN_ISSUER)
        return self._stranger

    def _session_id(self, person: Person, *, foreign: bool) -> str:
        if foreign:
            return f"sess_{secrets.token_hex(8)}"  # nobody has signed in here
        session, told = sign_in(self.world, person)
        if told:
            self.tell(told)
        return session.id

    def answer(self, options: TokenOptions, *, now: float, origin: str | None = None) -> dict[str, Any]:
        """Give the token asked for, and the cookies that Clerk's browser SDK would set with it."""
        if options.type != "session":
            token, claims = self.machines.mint(options)
            return {"token": token, "claims": claims, "cookies": {}}
        token = self.mint(
            now,
            options.user,
            version=1 if options.v1 else 2,
            template=options.template,
            org=options.org,
            role=options.role,
            permissions=options.permissions,
            expires_in=options.expires_in,
            foreign=options.foreign,
            azp=origin if options.azp is None else options.azp,
            pending=options.pending,
        )
        claims = jwt.decode(token, options={"verify_signature": False})
        return {"token": token, "claims": claims, "cookies": self._cookies(token, claims, options)}

    def _cookies(self, token: str, claims: dict[str, Any], options: TokenOptions) -> dict[str, str]:
        if options.template is not None:
            return {}
        # The moment of the last sign-in or sign-out. A token older than it is refused, so it is the token's own moment.
        cookies = {"__session": token, "__client_uat": str(claims["iat"])}
        if self.played.development:
            session = self.world.session_by_id(claims["sid"])
            cookies["__clerk_db_jwt"] = self.clients.holding(session).browser if session else "dvb_stranger"
        return cookies


def _status(person: Person, *, pending: bool) -> str:
    return "pending" if pending or person.pending else "active"


def issuer_app(
    issuer: LocalIssuer, *, now: Callable[[], float] = time.time, routes: Iterable[web.AbstractRouteDef] = ()
) -> web.Application:
    """Build the issuer's addresses: key set, discovery, users and tokens; and `routes`, behind the same guard."""

    async def jwks(_: web.Request) -> web.Response:
        return web.json_response(issuer.jwks())

    async def discovery(_: web.Request) -> web.Response:
        return web.json_response(_discovery(issuer.url))

    async def users(_: web.Request) -> web.Response:
        return web.json_response([_listed(person) for person in issuer.world.people])

    async def token(request: web.Request) -> web.Response:
        try:
            options = read_options(json.loads(await request.read() or b"{}"))
            answer = issuer.answer(options, now=now(), origin=request.headers.get("Origin"))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    app = web.Application(middlewares=[_only_loopback])
    app.router.add_get("/.well-known/jwks.json", jwks)
    app.router.add_get("/.well-known/openid-configuration", discovery)
    app.router.add_get("/dev/users", users)
    app.router.add_post("/dev/token", token)
    app.add_routes(routes)
    return app


@web.middleware
async def _only_loopback(request: web.Request, handler: Handler) -> web.StreamResponse:
    # DNS rebinding brings a foreign page's own name in Host, and its scripts a foreign Origin; neither gets one.
    origin = request.headers.get("Origin")
    if not _HOST.fullmatch(request.headers.get("Host", "")) or (origin and not _ORIGIN.fullmatch(origin)):
        return web.json_response({"error": "the local issuer speaks only with this machine's own pages"}, status=403)
    if request.method == "OPTIONS":
        response: web.StreamResponse = web.Response(status=204, headers=_PREFLIGHT)
    else:
        response = await handler(request)
    if origin:
        response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Vary"] = "Origin"
    return response


def _discovery(url: str) -> dict[str, Any]:
    return {
        "issuer": url,
        "jwks_uri": f"{url}/.well-known/jwks.json",
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
    }


def _listed(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "external_id": person.external_id,
        "pending": person.pending,
        "banned": person.banned,
        "locked": person.locked,
        "organisations": [
            {
                "id": held.organisation.id,
                "slug": held.organisation.slug,
                "name": held.organisation.name,
                "role": held.role,
            }
            for held in person.memberships
        ],
    }
