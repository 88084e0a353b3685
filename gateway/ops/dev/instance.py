"""The Clerk instance that the local issuer plays: its keys' spelling, and how its cookies are called. Pure."""

import base64
import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance whose Frontend API is at `url`.

    A development instance cannot set cookies where the application is, so it passes everything in the query, and knows
    a browser by `__clerk_db_jwt`; a production instance shares the application's domain, and its cookies.
    """

    url: str
    development: bool = True

    @property
    def kind(self) -> str:
        """The word for it in Clerk's keys."""
        return "test" if self.development else "live"

    @property
    def publishable_key(self) -> str:
        """Give the publishable key: the address of the Frontend API, without its scheme, and a `$`."""
        host = self.url.partition("://")[2]
        return f"pk_{self.kind}_" + base64.b64encode(f"{host}$".encode()).decode().rstrip("=")

    @property
    def suffix(self) -> str:
        """Give the suffix of its cookies (Clerk: the first 8 characters of base64url(SHA-1(publishable key)))."""
        digest = hashlib.sha1(self.publishable_key.encode(), usedforsecurity=False).digest()
        return base64.urlsafe_b64encode(digest)[:8].decode()
