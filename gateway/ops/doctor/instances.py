"""The Clerk instances of a configuration, as the doctor goes through them: each with its keys and its Backend API."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.config import Config, IssuerConfig
from gateway.core.model import BackendAddress
from gateway.core.verify import KeySet


class Instance(NamedTuple):
    """One Clerk instance whose tokens are taken."""

    config: IssuerConfig
    is_only: bool = True

    def subject(self, what: str) -> str:
        """Name what is looked at, and whose it is where there are several."""
        return what if self.is_only else f"{what} of {self.config.name}"

    def key(self, name: str) -> str:
        """Name a setting as the file has it."""
        return f"{self.config.key}.{name}"

    @property
    def backend(self) -> BackendAddress | None:
        """Its Backend API; None without a secret key."""
        return self.config.backend

    @property
    def jwks_url(self) -> str:
        """Where its keys are published, whether or not they are taken from there."""
        return self.config.jwks_url or f"{self.config.issuer}/.well-known/jwks.json"

    @property
    def is_development(self) -> bool:
        """Whether it is one for development."""
        return self.config.credentials.development


class Known(NamedTuple):
    """The keys that could be had: `issuer` publishes them, `backend` says whose secret key it is; None: not had."""

    issuer: KeySet | None = None
    backend: KeySet | None = None


Keys = Mapping[str, Known]  # by issuer


def instances_of(config: Config) -> tuple[Instance, ...]:
    """Give the instances of a configuration, in its order."""
    return tuple(Instance(issuer, len(config.issuers) == 1) for issuer in config.issuers)
