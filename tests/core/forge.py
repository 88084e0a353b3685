"""What an attacker has: an instance's public key in every form, keys of his own, good tokens of others, and a workshop."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from random import Random
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from tests.fakes.clerk import SESSION, FakeClerk, b64url, public_jwk, rsa_key

DIGESTS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "1": hashes.SHA1(), "256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512(),
}  # fmt: skip


class Forge:
    """Makes tokens for one instance at `now`; `trap` is an address that serves the attacker's own key set."""

    def __init__(self, clerk: FakeClerk, *, now: int, trap: str) -> None:
        self.clerk, self.now, self.trap = clerk, now, trap
        self.evil = rsa_key("evil")
        self.loot = [clerk.session_token(now, sub=f"user_good{number}") for number in range(20)]  # good ones, of others
        claims = [clerk.session_claims(now, sub=f"user_evil{number}") for number in range(20)]
        self.fakes = [self.own(self.header(), each) for each in claims]

    @cached_property
    def curve(self) -> ec.EllipticCurvePrivateKey:
        """A key on P-256."""
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def secrets(self) -> list[bytes]:
        """Everything public that a careless verifier may take for an HMAC key."""
        public = self.clerk.key.public_key()
        pem = self.clerk.pem().encode()
        spki, pkcs1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
        der = public.public_bytes(serialization.Encoding.DER, spki)
        numbers = public.public_numbers()
        modulus = numbers.n.to_bytes(256, "big")
        return [
            pem, pem.rstrip(b"\n"), pem + b"\n", pem.replace(b"\n", b"\r\n"), pem.replace(b"\n", b""), pem.replace(b"\n", b"\\n"),
            b"".join(pem.splitlines()[1:-1]), b"\n".join(pem.splitlines()[1:-1]), der, base64.b64encode(der),
            public.public_bytes(serialization.Encoding.DER, pkcs1), public.public_bytes(serialization.Encoding.PEM, pkcs1),
            modulus, b64url(modulus).encode(), json.dumps(self.clerk.jwk()).encode(), json.dumps(self.clerk.jwks()).encode(),
            self.clerk.kid.encode(), self.clerk.issuer.encode(), b"", b"\0", b"secret", b"null",
        ]  # fmt: skip

    def claims(self, rng: Random, **changes: Any) -> dict[str, Any]:
        """What a good token says, of a user the attacker would like to be; `...` takes a claim away."""
        return self.clerk.session_claims(
            self.now, **({"sub": f"user_evil{rng.randrange(10**9)}", "jti": str(rng.random())} | changes)
        )

    def header(self, **changes: Any) -> dict[str, Any]:
        """A good token's header; `...` takes a member away."""
        members = {"alg": "RS256", "typ": "JWT", "cat": SESSION, "kid": self.clerk.kid} | changes
        return {name: value for name, value in members.items() if value is not ...}

    def real(self, header: Mapping[str, Any], claims: Any) -> str:
        """Sign with the instance's own key: what Clerk might have been talked into signing."""
        return self.clerk.sign(dumped(header), dumped(claims))

    def own(self, header: Mapping[str, Any], claims: Any) -> str:
        """Sign with the attacker's key."""
        return self.clerk.sign(dumped(header), dumped(claims), key=self.evil)

    def hmac(self, header: Mapping[str, Any], claims: Any, secret: bytes) -> str:
        """Sign with something public."""
        digest = DIGESTS.get(str(header["alg"]), hashlib.sha256)
        text = joined(header, claims)
        return f"{text}.{b64url(hmac.new(secret, text.encode(), digest).digest())}"

    def rsa(self, header: Mapping[str, Any], claims: Any, scheme: str, digest: str) -> str:
        """Sign with the instance's own key in another way than RS256."""
        text, hashing = joined(header, claims), HASHES[digest]
        pad = padding.PSS(padding.MGF1(hashing), 32) if scheme == "PS" else padding.PKCS1v15()
        return f"{text}.{b64url(self.clerk.key.sign(text.encode(), pad, hashing))}"

    def curved(self, header: Mapping[str, Any], claims: Any) -> str:
        """Sign on a curve, with the attacker's key."""
        text = joined(header, claims)
        r, s = utils.decode_dss_signature(self.curve.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def own_jwk(self, **changes: Any) -> dict[str, Any]:
        """The attacker's key under the instance's kid."""
        return public_jwk(self.evil, self.clerk.kid, **changes)

    @property
    def modulus(self) -> int:
        """The instance's modulus."""
        key = self.clerk.key
        assert isinstance(key, rsa.RSAPrivateKey)
        return key.public_key().public_numbers().n


def dumped(value: Any) -> bytes:
    """Write as JSON, half surrogates too."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def joined(header: Any, claims: Any) -> str:
    """Give the part of a token that is signed."""
    return f"{b64url(dumped(header))}.{b64url(dumped(claims))}"


def decoded(part: str) -> bytes:
    """Decode a part of a token."""
    return base64.urlsafe_b64decode(part + "==")


Kind = Callable[[Forge, Random], str]  # of token: whatever chance says, it is no good
