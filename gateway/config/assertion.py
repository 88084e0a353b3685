"""The signed assertion: who signs, under which name, for how long, and whether the keys' directory will do."""

import os
import stat

from gateway.config.cors import check_header_names
from gateway.config.findings import Path, Report
from gateway.config.schema import Identity
from gateway.core.assertion import MAX_TTL_S, PATH, AssertionPolicy
from gateway.core.headers import RESERVED_PREFIXES, folded
from gateway.core.rotation import MIN_ROTATION_S

AT: Path = ("identity", "assertion")
HEADER: Path = (*AT, "header")
KEYS_DIR: Path = (*AT, "keys_dir")
MIN_TTL_S = 5  # the clocks of gateway and upstream differ by as much
HOUR_S = 3600


def assertion_header(section: Identity) -> str:
    """Name the header: as written, else under the prefix, which renames every identity header (CONTRACT §2)."""
    written = "header" in section.assertion.model_fields_set
    return section.assertion.header if written else f"{section.prefix}Assertion"


def check_assertion_header(section: Identity, report: Report, *, ours: set[str], reserved: set[str]) -> None:
    """Check the header's name, which is taken from clients whether anything is signed or not; both sets are folded."""
    if report.is_broken(("identity", "prefix")):
        return  # the name it would have is not the one that is meant
    name = assertion_header(section)
    check_header_names((name,), HEADER, report)
    fold = folded(name)
    if fold in ours - {folded(f"{section.prefix}Assertion")}:
        report.error(HEADER, "is a name the gateway gives its own meaning", "Choose another name")
    elif fold in reserved or fold.startswith(tuple(map(folded, RESERVED_PREFIXES))):
        report.error(
            HEADER, "is a name with a meaning of its own between client, gateway and upstream", "Choose another"
        )


def build_assertion(
    section: Identity, report: Report, *, public_url: str | None, is_told: bool
) -> AssertionPolicy | None:  # fmt: skip
    """Make the policy; None where it is off. `is_told`: whether there is an upstream that gets it."""
    asked = section.assertion
    _check_numbers(asked.ttl_s, asked.rotate_after_h, report)
    if not asked.enabled:
        return None
    issuer = asked.issuer or public_url
    if not issuer and not report.is_broken(("public_url",), (*AT, "issuer")):
        message = "is missing: upstreams check by it that it was this gateway that signed"
        report.error((*AT, "issuer"), message, "Write public_url: https://api.example.com, or an issuer of its own")
    if asked.keys_dir:
        _check_directory(asked.keys_dir, report)
    elif not report.is_broken(KEYS_DIR):
        message = "is missing: the keys have to outlive a restart, and all gateways have to sign with the same ones"
        remedy = "Write keys_dir: /var/lib/gateway/keys, or wherever the gateway may make a directory"
        report.error(KEYS_DIR, message, remedy)
    if not is_told and not report.is_broken(("routes",), ("upstreams",)):
        message = f"no upstream gets it: every route is public, or leads where identity is false. {PATH} is served"
        report.warning((*AT, "enabled"), message)
    return AssertionPolicy(
        issuer=issuer or "",
        keys_dir=asked.keys_dir or "",
        header=assertion_header(section),
        algorithm=asked.algorithm,
        ttl_s=asked.ttl_s,
        rotate_after_s=asked.rotate_after_h * HOUR_S,
    )


def _check_numbers(ttl_s: float, rotate_after_h: int, report: Report) -> None:
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        message = f"must be from {MIN_TTL_S} to {MAX_TTL_S:.0f}: what is signed cannot be taken back"
        report.error((*AT, "ttl_s"), message, "Write ttl_s: 60")
    if 0 < rotate_after_h * HOUR_S < MIN_ROTATION_S:
        message = "must be 24 or more, because a key is published a day before it signs; or 0 for never"
        report.error((*AT, "rotate_after_h"), message)


def _check_directory(path: str, report: Report) -> None:
    """Look at a directory that is there; one that is not is made at the start."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a file name"
        return report.error(KEYS_DIR, f"{path} cannot be looked at: {why}", "Name a directory of the gateway's own")
    if mode is None:
        return None
    if not stat.S_ISDIR(mode):
        return report.error(KEYS_DIR, f"{path} is not a directory", "Name a directory, or one that is to be made")
    if stat.S_IMODE(mode) & 0o077:
        message = f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}): they could sign as the gateway"
        return report.error(KEYS_DIR, message, f"Do: chmod 700 {path}")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return report.error(
            KEYS_DIR, f"{path} is not for this user to write", "It has to be owned by the gateway's user"
        )
    return None
