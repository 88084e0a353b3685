"""Hostile tokens that are forged: the algorithm, the key or the signature is not what it has to be.

Each kind is a function of the forge and of chance; whatever chance says, the token is no good.
"""

import json
from random import Random

from tests.core.forge import Forge, Kind, decoded, dumped, joined
from tests.core.hostile_words import KIDS, NONES
from tests.fakes.clerk import b64url

# --- the algorithm ----------------------------------------------------------------------------------------------------


def unsigned(forge: Forge, rng: Random) -> str:
    signature = rng.choice(["", "AA", b64url(rng.randbytes(256)), rng.choice(forge.loot).split(".")[2]])
    return f"{joined(forge.header(alg=rng.choice(NONES)), forge.claims(rng))}.{signature}"


def public_key_as_secret(forge: Forge, rng: Random) -> str:
    header = forge.header(alg=rng.choice(["HS256", "HS384", "HS512"]))
    return forge.hmac(header, forge.claims(rng), rng.choice(forge.secrets))


def hmac_said_to_be_rsa(forge: Forge, rng: Random) -> str:
    return forge.hmac(
        forge.header(alg=rng.choice(["RS256", "hs256", "HS256 "])), forge.claims(rng), rng.choice(forge.secrets)
    )


def other_rsa(forge: Forge, rng: Random) -> str:
    scheme, digest = rng.choice([("RS", "384"), ("RS", "512"), ("PS", "256"), ("PS", "384"), ("RS", "1")])
    said = rng.choice([f"{scheme}{digest}", "RS256"])  # said truly, or falsely
    return forge.rsa(forge.header(alg=said), forge.claims(rng), scheme, digest)


def elliptic(forge: Forge, rng: Random) -> str:
    header = forge.header(alg=rng.choice(["ES256", "ES256K", "EdDSA", "RS256"]))
    text = joined(header, forge.claims(rng))
    # r = s = 0 verified for anything once (CVE-2022-21449).
    return f"{text}.{b64url(bytes(64))}" if rng.random() < 0.3 else forge.curved(header, forge.claims(rng))


def odd_algorithm(forge: Forge, rng: Random) -> str:
    said = rng.choice(
        [
            "rs256",
            "RS256 ",
            " RS256",
            "RS256\0",
            "RS-256",
            "ＲS256",
            ["RS256"],
            {"alg": "RS256"},
            None,
            ...,
            256,
            True,
            "RSA",
            "*",
        ]
    )
    return forge.real(forge.header(alg=said), forge.claims(rng))


# --- the key ----------------------------------------------------------------------------------------------------------


def same_kid(forge: Forge, rng: Random) -> str:
    return forge.own(forge.header(), forge.claims(rng))


def own_key_inside(forge: Forge, rng: Random) -> str:
    jwk = forge.own_jwk(**rng.choice([{}, {"kid": "evil"}, {"alg": None}, {"use": "enc"}]))
    member = rng.choice([{"jwk": jwk}, {"jwks": {"keys": [jwk]}}, {"jwk": json.dumps(jwk)}, {"key": jwk}])
    return forge.own(forge.header(**member, kid=rng.choice([forge.clerk.kid, "evil", ...])), forge.claims(rng))


def own_key_elsewhere(forge: Forge, rng: Random) -> str:
    member = rng.choice(["jku", "x5u", "iss", "url", "kid"])
    place = rng.choice(
        [forge.trap, f"{forge.clerk.issuer}@{forge.trap[7:]}", f"{forge.trap}#{forge.clerk.issuer}", "file:///dev/null"]
    )
    return forge.own(forge.header(**{member: place}), forge.claims(rng))


def own_certificate(forge: Forge, rng: Random) -> str:
    chain = [b64url(rng.randbytes(400)) for _ in range(rng.randrange(1, 3))]
    return forge.own(forge.header(x5c=chain, x5t=b64url(rng.randbytes(20))), forge.claims(rng))


def own_issuer(forge: Forge, rng: Random) -> str:
    evil = rng.choice([forge.trap, "https://evil.example", "https://evil.clerk.accounts.dev"])
    return forge.own(forge.header(kid=rng.choice(["ins_evil", forge.clerk.kid])), forge.claims(rng, iss=evil))


def odd_kid(forge: Forge, rng: Random) -> str:
    header, claims = forge.header(kid=rng.choice(KIDS)), forge.claims(rng)
    if rng.random() < 0.5:
        return forge.own(header, claims)
    return forge.hmac(header | {"alg": "HS256"}, claims, rng.choice([b"", b"\0", b"key"]))


def unknown_kid(forge: Forge, rng: Random) -> str:
    return forge.real(forge.header(kid=f"ins_{rng.randrange(10**12)}"), forge.claims(rng))


# --- the signature ----------------------------------------------------------------------------------------------------


def bent_signature(forge: Forge, rng: Random) -> str:
    text, _, signature = rng.choice(forge.loot).rpartition(".")
    cut = rng.randrange(1, 200)
    at = rng.randrange(len(signature) - 1)
    other = rng.choice([each for each in "ABCDEFabcdef0123456789-_" if each != signature[at]])
    bent = rng.choice([
        "", signature[:-cut], signature + "A" * cut, signature[cut:], signature[::-1], signature * 2, signature.swapcase(),
        signature[:at] + other + signature[at + 1 :], b64url(bytes(256)), b64url(b"\xff" * 256), b64url(rng.randbytes(256)),
        b64url((1).to_bytes(256, "big")), b64url(forge.modulus.to_bytes(256, "big")), b64url((forge.modulus - 1).to_bytes(256, "big")),
    ])  # fmt: skip
    return f"{text}.{bent}"


def lengthened_signature(forge: Forge, rng: Random) -> str:
    """The same number, written longer: a zero in front, or the modulus added."""
    text, _, signature = rng.choice(forge.loot).rpartition(".")
    number = int.from_bytes(decoded(signature), "big")
    length = rng.choice([257, 258, 512])
    return f"{text}.{b64url((number + rng.choice([0, forge.modulus])).to_bytes(length, 'big'))}"


def signature_of_another(forge: Forge, rng: Random) -> str:
    first, second = rng.sample(forge.loot, 2)
    parts = [first.split("."), second.split(".")]
    return rng.choice(
        [".".join([*parts[0][:2], parts[1][2]]), f"{joined(forge.header(), forge.claims(rng))}.{parts[1][2]}"]
    )


def other_payload(forge: Forge, rng: Random) -> str:
    head, body, signature = rng.choice(forge.loot).split(".")
    claims = json.loads(decoded(body)) | rng.choice(
        [{"sub": "user_evil"}, {"exp": forge.now + 10**6}, {"org_role": "org:admin"}, {"x": 1}]
    )
    respaced = json.dumps(json.loads(decoded(body)), separators=(",", ":"))
    return f"{head}.{rng.choice([b64url(dumped(claims)), b64url(respaced.encode())])}.{signature}"


def other_header(forge: Forge, rng: Random) -> str:
    _, body, signature = rng.choice(forge.loot).split(".")
    header = forge.header(**rng.choice([{"alg": "none"}, {"alg": "HS256"}, {"x": 1}, {"cat": ...}, {"typ": ...}]))
    return f"{b64url(dumped(header))}.{body}.{signature}"


def one_bit(forge: Forge, rng: Random) -> str:
    token = bytearray(rng.choice(forge.loot).encode())
    at = rng.choice([index for index, byte in enumerate(token[:-1]) if chr(byte) != "."])
    token[at] ^= 1 << rng.randrange(7)
    # Bits that make a control or a separator of the field are `hostile`'s own kinds.
    return token.decode() if 32 < token[at] < 127 and chr(token[at]) not in ';,"' else rng.choice(forge.loot)[:-9]


KINDS: tuple[Kind, ...] = (
    unsigned, public_key_as_secret, hmac_said_to_be_rsa, other_rsa, elliptic, odd_algorithm, same_kid,
    own_key_inside, own_key_elsewhere, own_certificate, own_issuer, odd_kid, unknown_kid, bent_signature,
    lengthened_signature, signature_of_another, other_payload, other_header, one_bit,
)  # fmt: skip
