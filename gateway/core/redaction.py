"""What is a secret by its looks, wherever it stands in a text that somebody is to read."""

import re
from typing import Final

# Clerk's keys and opaque tokens, signing secrets; a JWT, whole or cut (its header is JSON, so it begins like this); a
# user and password in a URL. Up to what ends a word, since a key that was pasted wrongly is one all the same. A URL in
# another's query has `%3D` where it had `=`. Clerk itself says `m2m_token`, and asks about one at `/m2m_tokens/verify`.
SECRET: Final = re.compile(
    r"(?:\b|(?<=%[0-9A-Fa-f]{2}))(?:(?:sk_(?:live|test)|whsec|ak|mt|m2m(?!_tokens?\b)|oat)_[^\s\"'…]{2,}"
    r"|eyJ[\w-]{8,}(?:\.[\w-]*={0,2})*)|(?<=//)[^\s/@\"'…]+@"
)


def without_secrets(text: str, *, shown: int = 0) -> str:
    """Cut secrets to their first few characters."""
    return SECRET.sub(lambda found: f"{found[0][:shown]}…", text)
