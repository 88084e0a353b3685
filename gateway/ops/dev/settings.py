"""What `gateway dev` tells its gateway through `config/dev.yaml`: addresses, and secrets made anew at each start."""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.ops.dev import DevError
from gateway.ops.dev.guide import Addresses
from gateway.ops.dev.instance import Instance
from gateway.ops.dev.sending import new_secret

# Not the names that `gateway run` takes by itself: kept in a project's folder, neither is ever in the other's way.
STORE = "gateway-dev.db"
FILE = "gateway-dev.yaml"
KEYS = "gateway-dev-keys"
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What nobody but this run knows; nothing else accepts any of it."""

    instance: Instance
    admin_token: str = field(default_factory=lambda: secrets.token_hex(16))
    random: str = field(default_factory=lambda: secrets.token_hex(20))
    webhook_secret: str = field(default_factory=new_secret)

    @property
    def secret_key(self) -> str:
        """What opens the Backend API."""
        return f"sk_{self.instance.kind}_{self.random}"

    @property
    def publishable_key(self) -> str:
        """What names the instance; no secret, but wanted beside that one."""
        return self.instance.publishable_key


def variables(where: Addresses, known: Secrets, *, store: str, keys: str) -> dict[str, str]:
    """Give the variables of `config/dev.yaml`; `store` is a URL, `keys` the directory of the assertion's keys."""
    return {
        "GATEWAY_PORT": where.gateway.rpartition(":")[2],
        "GATEWAY_DEV_ISSUER": where.issuer,
        "GATEWAY_DEV_UPSTREAM": where.upstream,
        "GATEWAY_DEV_ADMIN_PORT": where.admin.rpartition(":")[2],
        "GATEWAY_DEV_ADMIN_TOKEN": known.admin_token,
        "GATEWAY_DEV_PUBLISHABLE_KEY": known.publishable_key,
        "GATEWAY_DEV_SECRET_KEY": known.secret_key,
        "GATEWAY_DEV_WEBHOOK_SECRET": known.webhook_secret,
        "GATEWAY_DEV_STORE": store,
        "GATEWAY_DEV_KEYS": keys,
    }


def written_out(text: str, environ: Mapping[str, str]) -> str:
    """Give a configuration with the values in the places of the variables, for commands that are run beside it."""
    return _VARIABLE.sub(lambda found: environ.get(found[1]) or found[2] or "", text)


@contextmanager
def folder(keep: str | None) -> Iterator[Path]:
    """Give the folder of this run's files: one that is there for so long only, or the one to `keep`.

    Raises:
        DevError: there can be none; the text says why.
    """
    if keep is None:
        with TemporaryDirectory(prefix="gateway-dev-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    path = Path(keep).absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DevError(f"--keep: cannot make the folder {path}: {error.strerror}") from error
    yield path


def write_file(path: Path, text: str) -> None:
    """Write what only its owner may read. Raises DevError."""
    try:
        # Whatever stands there is replaced, not written through: it might be a link, or readable by others.
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DevError(f"--keep: cannot write {path}: {error.strerror}") from error
