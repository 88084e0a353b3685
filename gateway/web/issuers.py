"""The Clerk instances whose tokens count, and which of them a token is to be verified for.

Choosing is not believing: whatever a token says of itself, the instance that is chosen verifies it with its own keys
and by its own policy.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.credentials import CredentialPolicy
from gateway.core.handshake import PagesPolicy
from gateway.core.model import Identified, Principal
from gateway.core.verify import SignedToken, TokenPolicy, claimed_issuer
from gateway.net.handshakes import Handshakes
from gateway.net.jwks import KeySource

Identify = Callable[..., Awaitable[Identified | None]]  # `documents.identify_get`


@dataclass(frozen=True, slots=True)
class Pages:
    """How an instance's documents are signed in, and who asks Clerk for that."""

    policy: PagesPolicy
    clerk: Handshakes | None = None  # None: nobody


class Machines(Protocol):
    """What says whose an opaque machine token is (`net.machine_tokens`)."""

    async def verify(self, kind: str, raw: bytes, key: bytes) -> Principal:
        """Say whose it is; `key` is its hash. Raises InvalidToken, Overloaded, ClerkApiDown."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One Clerk instance whose tokens count."""

    name: str
    keys: KeySource
    tokens: TokenPolicy
    credentials: CredentialPolicy
    machines: Machines | None = None  # None where no route takes opaque machine tokens of it
    pages: Pages | None = None  # None: documents are as any other request


class Keyed(Protocol):
    """What verdicts are reached with."""

    @property
    def generation(self) -> int:
        """Changes with any of the keys."""


class _Together:
    """The keys of several instances as one."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._sources = tuple(issuer.keys for issuer in issuers)

    @property
    def generation(self) -> int:
        """The sum: none of its parts ever goes back."""
        return sum([source.generation for source in self._sources])


class Issuers:
    """All that are configured, one at least, by their order there.

    `pages` identifies those who ask by GET, where any of the instances has pages.
    """

    __slots__ = ("_all", "_by_name", "credentials", "keys", "pages")

    def __init__(self, issuers: Sequence[Issuer], *, pages: Identify | None = None) -> None:
        self.pages = pages if any(issuer.pages is not None for issuer in issuers) else None
        self._all = tuple(issuers)
        self._by_name = {issuer.name: issuer for issuer in issuers}
        # By the issuer that a route names: a browser may be signed in to several on one domain, and another's session
        # is then none that such a route could take.
        self.credentials: dict[str | None, tuple[CredentialPolicy, ...]]
        self.credentials = {issuer.name: (issuer.credentials,) for issuer in issuers}
        self.credentials[None] = tuple(issuer.credentials for issuer in issuers)
        self.keys: Keyed = self._all[0].keys if len(self._all) == 1 else _Together(self._all)

    def __iter__(self) -> Iterator[Issuer]:
        return iter(self._all)

    @property
    def is_one(self) -> bool:
        """Whether there is but one."""
        return len(self._all) == 1

    def named(self, name: str) -> Issuer:
        """Give the one of this name. Raises KeyError."""
        return self._by_name[name]

    def opaque(self, named: str | None) -> Issuer | None:
        """Choose who is asked about a token that does not say whose it is: the only one, or the one named."""
        if self.is_one:
            return self._all[0]
        return self._by_name.get(named) if named is not None else None

    def of(self, token: SignedToken, *, named: str | None = None) -> Issuer | None:
        """Choose whose token this claims to be; None where it is nobody's here, or not that of the one named."""
        if self.is_one:
            return self._all[0]
        # By kid first: with Clerk it is the id of the instance, also in machines' tokens, whose `iss` is another.
        chosen = next((issuer for issuer in self._all if token.kid in issuer.keys.kids), None)
        chosen = chosen or self._claimed(claimed_issuer(token))
        if chosen is None and named is not None:
            return self._by_name.get(named)  # a route of before a reload may name one that is gone
        return chosen if named is None or chosen is None or chosen.name == named else None

    def _claimed(self, said: str | None) -> Issuer | None:
        return next((issuer for issuer in self._all if said in issuer.tokens.issuers), None)
