"""What of secrets may be shown, and text that a terminal may show: tokens, cookies and keys come out as stumps."""

import re
from typing import Final

from gateway.core import redaction

SHOWN: Final = 6  # characters of a secret
# Fields whose value is a secret whatever it looks like.
SECRET_FIELD: Final = re.compile(r"authorization|cookie|secret|password|api-?key|(?:auth|access|csrf)-?token", re.I)
# The same in a query.
SECRET_PARAMETER: Final = re.compile(
    r"(?<=[?&;])([\w.%-]*(?:token|secret|password|adminkey|api_?key|session|jwt|nonce|signature)[\w.%-]*=)[^&;\s]+",
    re.I,
)


def masked(secret: str) -> str:
    """Give the first few characters of a secret, and how long it is."""
    if len(secret) <= 2 * SHOWN:
        return f"… ({len(secret)} characters)"
    return f"{secret[:SHOWN]}… ({len(secret)} characters)"


def masked_field(name: str, value: str) -> str:
    """Give a header field's value without what is secret in it."""
    low = name.lower()
    if low in ("cookie", "set-cookie"):
        return "; ".join(f"{each.partition('=')[0]}=…" if "=" in each else "…" for each in value.split("; "))
    if SECRET_FIELD.search(low):
        scheme, blank, secret = value.partition(" ")
        return f"{scheme} {masked(secret)}" if blank else masked(value)
    return without_secrets(value)


def without_secrets(text: str, *known: str) -> str:
    """Mask everything in a text that is a secret by its looks, and those that are known to be."""
    for secret in known:
        if len(secret) > SHOWN:
            text = text.replace(secret, f"{secret[:SHOWN] if len(secret) > 2 * SHOWN else ''}…")
    text = SECRET_PARAMETER.sub(r"\1…", text)
    return redaction.without_secrets(text, shown=SHOWN)


def plain(text: str) -> str:
    """Give text that a terminal may show, whoever it came from."""
    return "".join(char if char.isprintable() else "?" for char in text)
