"""Hostile tokens that Clerk itself may have been talked into signing, and others whose form alone is wrong.

Each kind is a function of the forge and of chance; whatever chance says, the token is no good.
"""

import json
import zlib
from collections.abc import Mapping
from random import Random
from typing import Any

from tests.core.forge import Forge, Kind, dumped
from tests.core.hostile_words import (
    AUDIENCES,
    CATS,
    CRITS,
    FOREVER,
    ISSUERS,
    JUNK,
    NUMBERS,
    PARTIES,
    SUBJECTS,
    TIMES,
    TYPES,
)
from tests.fakes.clerk import M2M, FakeClerk, b64url

# --- the form ---------------------------------------------------------------------------------------------------------


def odd_base64(forge: Forge, rng: Random) -> str:
    parts = rng.choice(forge.loot).split(".")
    which = rng.randrange(3)
    part = parts[which]
    at = rng.randrange(1, len(part))
    padded = part + "=" * (-len(part) % 4 or 4)
    stray = part[:-1] + _stray(part[-1]) if len(part) % 4 else f"{part}A"
    parts[which] = rng.choice([padded, part + "=", stray, part[:at] + rng.choice("+/!*%~$") + part[at:], part[:at] + "%41" + part[at:],
                               part[:at] + "=" + part[at:], f"={part}", part[:at] + "\u212a" + part[at:], "A"])  # fmt: skip
    return ".".join(parts)


def other_parts(forge: Forge, rng: Random) -> str:
    token = rng.choice(forge.loot)
    head, body, signature = token.split(".")
    return rng.choice([
        f"{head}.{body}", head, f"{token}.", f".{token}", f"{token}.{signature}", f"{head}..{body}.{signature}", f"{head}.{body}.{signature}.{body}.{head}",
        f"{head}..{signature}", f".{body}.{signature}", "..", "...", ".", f"{body}.{head}.{signature}", f"{signature}.{body}.{head}", token.replace(".", ":"),
        token.replace(".", "%2E"), f"{token}~", f"{token}{token}", token.replace(".", "\u3002"),
    ])  # fmt: skip


def encrypted(forge: Forge, rng: Random) -> str:
    header = {
        "alg": rng.choice(["RSA-OAEP", "dir", "A128KW", "PBES2-HS256+A128KW"]),
        "enc": "A128GCM",
        "kid": forge.clerk.kid,
        "p2c": 2**31,
        "p2s": "AA",
    }
    return ".".join([b64url(dumped(header)), *(b64url(rng.randbytes(length)) for length in (256, 12, 200, 16))])


def as_json(forge: Forge, rng: Random) -> str:
    head, body, signature = rng.choice(forge.loot).split(".")
    flat = {"payload": body, "protected": head, "signature": signature}
    general = {
        "payload": body,
        "signatures": [{"protected": head, "signature": signature}, {"header": {"alg": "none"}, "signature": ""}],
    }
    return json.dumps(
        rng.choice([flat, general, flat | {"header": {"alg": "none"}}, [flat]]),
        separators=rng.choice([(",", ":"), (", ", ": ")]),
    )


def junk_inside(forge: Forge, rng: Random) -> str:
    junk = rng.choice([*JUNK, rng.randbytes(rng.randrange(1, 60))])
    return forge.clerk.sign(*rng.choice([(dumped(forge.header()), junk), (junk, dumped(forge.claims(rng)))]))


def twice(forge: Forge, rng: Random) -> str:
    name = rng.choice(["sub", "iss", "exp", "azp"])
    claims = dumped(forge.claims(rng))
    more = f'"{rng.choice([name, _escaped(name)])}":{json.dumps(rng.choice(["user_1", "x", 9999999999]))}'.encode()
    doubled = rng.choice([claims[:-1] + b"," + more + b"}", b"{" + more + b"," + claims[1:]])
    header = dumped(forge.header())
    headers = header[:-1] + rng.choice(
        [b',"alg":"RS256"}', b',"alg":"none"}', b',"kid":"x"}', b',"\\u0061lg":"none"}', b',"x":{"a":1,"a":2}}']
    )
    return forge.clerk.sign(*rng.choice([(header, doubled), (headers, claims)]))


def nested(forge: Forge, rng: Random) -> str:
    depth = rng.choice([600, 1200, 2000])
    deep = rng.choice([b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])
    claims, header = dumped(forge.claims(rng)), dumped(forge.header())
    inside = (claims[:-1] + b',"x":' + deep + b"}", header[:-1] + b',"x":' + deep[:1200] + b"}")
    return forge.clerk.sign(*rng.choice([(header, inside[0]), (inside[1], claims), (header, deep)]))


def encoded_otherwise(forge: Forge, rng: Random) -> str:
    claims = json.dumps(forge.claims(rng))
    body = rng.choice([
        b"\xef\xbb\xbf" + claims.encode(), claims.encode("utf-16"), claims.encode("utf-32-le"), claims.encode().replace(b"user", b"\xe9"),
        claims.encode().replace(b"user", b"\xc1\xb5ser"), claims.encode().replace(b"user", b"\xed\xa0\x80"), zlib.compress(claims.encode()),
        claims.encode().replace(b"user", b"us\0er"), claims.encode().replace(b"user", b"us\ner"), claims.encode().replace(b"user_", b"\\ud800"),
        claims.encode().replace(b"user_", b"\\udc00\\ud800"), claims.encode().replace(b'"jti"', b'"\\ud800"'), claims.encode().replace(b"user_", b"\\u00"), claims.encode().replace(b"user_", b"\\x41"),
    ])  # fmt: skip
    header = forge.header(**rng.choice([{}, {"zip": "DEF"}, {"cty": "JWT"}]))
    return forge.real(header, body)


def token_in_a_token(forge: Forge, rng: Random) -> str:
    inner = rng.choice(forge.loot)
    return forge.real(forge.header(cty="JWT"), rng.choice([inner.encode(), json.dumps(inner).encode()]))


def too_long(forge: Forge, rng: Random) -> str:
    filling = "x" * rng.choice([12_300, 13_000, 16_384])
    members = rng.choice([({}, {"x": filling}), ({"x": filling[:6000]}, {})])
    if rng.random() < 0.5:
        return forge.real(forge.header(**members[0]), forge.claims(rng, **members[1]))
    return rng.choice(["A" * 16_384, "." * 16_384, f"{rng.choice(forge.loot)}{'A' * 16_000}"])


def forged_at_full_length(forge: Forge, rng: Random) -> str:
    token = forge.own(forge.header(), forge.claims(rng, x="x" * 11_400))
    return token[: 16 * 1024]


# --- what it says, signed by the right key ----------------------------------------------------------------------------


def odd_header(forge: Forge, rng: Random) -> str:
    bent = rng.choice([{"crit": rng.choice(CRITS)}, {"crit": ["b64"], "b64": False}, {"typ": rng.choice(TYPES)}, {"cat": rng.choice(CATS)},
                       {"typ": rng.choice(["at+jwt", "application/at+jwt"])}])  # fmt: skip
    return forge.real(forge.header(**bent), forge.claims(rng))


def odd_time(forge: Forge, rng: Random) -> str:
    late, soon = forge.now - rng.choice([5, 6, 60, 10**6]), forge.now + rng.choice([6, 60, 10**6])
    name, values = rng.choice([
        ("exp", [..., late, float(late), 0, -1, -0.0, *TIMES, *FOREVER]), ("nbf", [soon, float(soon), *TIMES, *FOREVER]), ("iat", [..., soon, *TIMES, *FOREVER]),
    ])  # fmt: skip
    return forge.real(forge.header(), forge.claims(rng, **{name: rng.choice(values)}))


def odd_number(forge: Forge, rng: Random) -> str:
    claims, name = forge.claims(rng), rng.choice(["exp", "nbf", "iat", "x"])
    body = dumped(claims | {name: "@"}).replace(b'"@"', rng.choice(NUMBERS))
    return forge.real(forge.header(), body)


def odd_issuer(forge: Forge, rng: Random) -> str:
    return forge.real(forge.header(), forge.claims(rng, iss=rng.choice(ISSUERS)))


def odd_party(forge: Forge, rng: Random) -> str:
    return forge.real(forge.header(), forge.claims(rng, azp=rng.choice(PARTIES)))


def odd_audience(forge: Forge, rng: Random) -> str:
    return forge.real(forge.header(), forge.claims(rng, aud=rng.choice(AUDIENCES)))


def odd_subject(forge: Forge, rng: Random) -> str:
    return forge.real(forge.header(), forge.claims(rng, sub=rng.choice(SUBJECTS)))


def no_session(forge: Forge, rng: Random) -> str:
    bent: Mapping[str, Any] = rng.choice(
        [{"sid": ...}, {"sid": None}, {"sid": ""}, {"sid": 7}, {"sts": "pending"}, {"fea": "dashboard"}]
    )
    return forge.real(forge.header(), forge.claims(rng, **bent))


def of_a_machine(forge: Forge, rng: Random) -> str:
    claims = {
        "sub": "mch_1",
        "iat": forge.now,
        "exp": forge.now + 60,
        "jti": "mt_1",
        "scopes": "mch_2",
        "iss": forge.clerk.issuer,
    }
    made = rng.choice(
        [(forge.header(cat=M2M), claims), (forge.header(typ="at+jwt", cat=...), claims | {"sub": "user_1"})]
    )
    return forge.real(*made)


def of_another_instance(forge: Forge, rng: Random) -> str:
    other = FakeClerk(
        rng.choice([forge.clerk.issuer, "https://clerk.other.example"]),
        kid=rng.choice([forge.clerk.kid, "ins_other"]),
        key_name="other",
    )
    return rng.choice([other.session_token, other.template_token])(forge.now)


def of_a_template(forge: Forge, rng: Random) -> str:
    return forge.clerk.template_token(
        forge.now, **rng.choice([{}, {"aud": "api"}, {"sid": "sess_1"}, {"azp": "https://evil.example"}])
    )


def _stray(last: str) -> str:
    """Give a last character that decodes to the same bytes: the bits nobody reads are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(last) | 1] if alphabet.index(last) % 2 == 0 else alphabet[alphabet.index(last) ^ 1]


def _escaped(name: str) -> str:
    return f"\\u{ord(name[0]):04x}{name[1:]}"


KINDS: tuple[Kind, ...] = (
    odd_base64, other_parts, encrypted, as_json, junk_inside, twice, nested, encoded_otherwise,
    token_in_a_token, too_long, forged_at_full_length, odd_header, odd_time, odd_number, odd_issuer,
    odd_party, odd_audience, odd_subject, no_session, of_a_machine, of_another_instance, of_a_template,
)  # fmt: skip
