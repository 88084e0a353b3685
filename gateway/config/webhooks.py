"""Where webhooks come in and where they are kept: addresses, secrets, and that each has what it needs."""

import base64
import binascii
import os
import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from gateway.config.findings import Path, Report
from gateway.config.instances import Instance
from gateway.config.schema import Webhooks
from gateway.core.assertion import PATH as ASSERTION_KEYS
from gateway.core.events import NAME, Sender, WebhookPolicy
from gateway.core.model import StoreAddress

AT: Path = ("webhooks",)
PATH: Path = (*AT, "path")
ALIASES: Path = (*AT, "aliases")
RETENTION: Path = (*AT, "retention_days")
URL: Path = ("store", "url")
OTHERS = ("/healthz", "/readyz", ASSERTION_KEYS)  # the gateway's own addresses beside these
# Nothing that is spelt in more than one way: it is compared, not matched.
PLAIN = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
SHORT = 16  # bytes; Clerk's have 24
WRONG_SECRET = "is not a signing secret: whsec_ and then base64"  # noqa: S105
FROM_CLERK = "Copy it whole, from whsec on, from the Clerk Dashboard, Webhooks"
DATABASES = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}
URLS = "sqlite:///FILE, sqlite:////FOLDER/FILE or postgresql://HOST/DATABASE"


def build_webhooks(
    section: Webhooks, instances: Sequence[Instance], report: Report, *, store: StoreAddress | None
) -> WebhookPolicy:
    """Make the policy of the webhook endpoint; one without paths where it is off."""
    policy = WebhookPolicy(
        paths=tuple(dict.fromkeys(_paths(section, report))),
        senders=tuple(sender for each in instances if (sender := _sender(each, report)).secrets),
        max_body_bytes=section.max_body_bytes,
        private_metadata=section.private_metadata,
        retention_days=section.retention_days,
    )
    if policy.needs_store and store is None and not report.is_broken(URL):
        report.error(URL, "is required, because webhooks are kept before they are acknowledged", f"Write {URLS}")
    if policy.retention_days == 0:
        message = "0: a webhook's payload goes soon after it is delivered, so there is nothing to replay"
        report.warning(RETENTION, message, "Write the days in which somebody may want that; 30 unless written")
    return policy


def review_store(store: StoreAddress, report: Report) -> None:
    """Warn of a file that cannot be made, as things are where this is read."""
    if store.file is None:
        return
    folder = os.path.dirname(store.file) or "."
    if not os.path.isdir(folder):
        remedy = "Make it, for the user that the gateway runs as, or name a file in another one"
        report.warning(URL, f"its folder is not there: {folder}", remedy)


def read_store(value: str) -> StoreAddress:
    """Read where the store is. Raises ValueError, which does not quote it: it may hold a password."""
    try:
        parts = urlsplit(value)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"is not a URL: write {URLS}") from None
    if parts.scheme == "sqlite":
        if parts.netloc or not parts.path.strip("/") or parts.path == "/:memory:" or parts.query or parts.fragment:
            raise ValueError(f"names no file: write {URLS}")
    elif (plain := DATABASES.get(parts.scheme.partition("+")[0])) and parts.scheme != plain:
        raise ValueError(f"begins with {parts.scheme}://: the gateway has its own driver, so write {plain}://…")
    elif parts.scheme != "postgresql":
        raise ValueError(f"is neither SQLite nor PostgreSQL: write {URLS}")
    elif not named or not parts.path.strip("/"):
        raise ValueError(f"names no host or no database: write {URLS}")
    return StoreAddress(value)


def _paths(section: Webhooks, report: Report) -> Iterator[str]:
    if section.path is None:
        return  # and no alias of what is not there
    for path, value in ((PATH, section.path), *(((*ALIASES, n), alias) for n, alias in enumerate(section.aliases))):
        read = report.tried(path, _read_path, value)
        if read is not None:
            yield read


def _read_path(value: str) -> str:
    if value in OTHERS:
        raise ValueError(f"{value} is another of the gateway's own addresses")
    if not PLAIN.fullmatch(value) or any(part in (".", "..") for part in value.split("/")):
        raise ValueError("is not a plain path, such as /webhooks/clerk: letters, digits and - . _ ~ between slashes")
    return value


def _sender(instance: Instance, report: Report) -> Sender:
    said = instance.clerk.instance_id
    named = report.tried((*instance.at, "instance_id"), _read_instance, said) if said else None
    return Sender(instance.name, tuple(_secrets(instance, report)), named)


def _secrets(instance: Instance, report: Report) -> Iterator[str]:
    for number, secret in enumerate(instance.clerk.webhook_signing_secrets):
        path: Path = (*instance.at, "webhook_signing_secrets", number)
        if read_key(secret.get_secret_value(), path, report, remedy=FROM_CLERK) is not None:
            yield secret.get_secret_value()


def read_key(secret: str, path: Path, report: Report, *, remedy: str) -> bytes | None:
    """Read the key of a signing secret; where it is none, or a weak one, that is noted with the remedy."""
    key = report.tried(path, signing_key, secret, remedy=remedy)
    if key is not None and len(key) < SHORT:
        report.insecure(path, f"is shorter than {SHORT} bytes, so it can be guessed", remedy)
    return key


def signing_key(secret: str) -> bytes:
    """Give the key of a signing secret. Raises ValueError."""
    if not secret.startswith("whsec_"):
        raise ValueError(WRONG_SECRET)
    encoded = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(WRONG_SECRET) from None
    if not key:
        raise ValueError(WRONG_SECRET)
    return key


def _read_instance(value: str) -> str:
    if not value.startswith("ins_") or not NAME.fullmatch(value):
        raise ValueError("is not an instance id: ins_…")
    return value
