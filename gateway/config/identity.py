"""What upstreams are told about the caller: a prefix and extra names that cannot be confused with anything else."""

import re

from gateway.config.assertion import assertion_header, check_assertion_header
from gateway.config.cors import check_header_names
from gateway.config.findings import Path, Report
from gateway.config.schema import Identity
from gateway.core.events import PRIVATE
from gateway.core.headers import COMMON, HOP_BY_HOP, RESERVED_NAMES, RESERVED_PREFIXES, WATCHED, folded
from gateway.core.identity import IdentityPolicy

# CONTRACT §5: the names the gateway itself gives, after the prefix.
FIXED = (
    "Id", "Machine-Id", "Email", "Email-Verified", "Name", "Given-Name", "Family-Name", "Nickname", "Picture",
    "External-Id", "Session-Id", "Org-Id", "Org-Slug", "Org-Role", "Org-Permissions", "Token-Type", "Scopes", "Actor",
    "Assertion", "Truncated",
)  # fmt: skip
ESSENTIAL = ("Accept", "Content-Length", "Sec-WebSocket-Key", *COMMON, *WATCHED, *HOP_BY_HOP)
RESERVED = {folded(each) for each in (*HOP_BY_HOP, *RESERVED_NAMES, *ESSENTIAL)}
AT: Path = ("identity",)


def build_identity(section: Identity, report: Report, *, has_store: bool, identifies: bool) -> IdentityPolicy:
    """Make the policy of the identity headers; enriched where there is somewhere to know users from."""
    _check_prefix(section.prefix, report)
    check_assertion_header(section, report, ours=_ours(section), reserved=RESERVED)
    taken = {folded(assertion_header(section))}
    for name, claim in section.headers.items():
        _check_header(name, claim, section, report)
        if folded(name) in taken:
            report.error((*AT, "headers", name), "is given twice: servers may read both as one header")
        taken.add(folded(name))
    at: Path = (*AT, "allow_unsafe_metadata")
    if section.allow_unsafe_metadata:
        report.insecure(at, "users write their own unsafe_metadata, so they decide what these headers say")
    if section.enrich and (*AT, "enrich") in report.places and not has_store:
        report.warning(
            (*AT, "enrich"), "has nothing to take it from: store.url is null", "Set store.url, or leave it out"
        )
    return IdentityPolicy(
        prefix=section.prefix,
        headers=tuple(section.headers.items()),
        max_bytes=section.max_bytes,
        allow_unsafe_metadata=section.allow_unsafe_metadata,
        enrich=section.enrich and has_store and identifies,
        assertion_header=assertion_header(section),
    )


def _ours(section: Identity) -> set[str]:
    return {folded(section.prefix + each) for each in FIXED}


def _check_prefix(prefix: str, report: Report) -> None:
    at: Path = (*AT, "prefix")
    hidden = [name for name in ESSENTIAL if folded(name).startswith(folded(prefix))]
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", prefix):
        report.error(at, "must be letters, digits and dashes, begin with a letter, and never be empty", "Write X-User-")
    elif hidden:
        report.error(at, f"would take {hidden[0]} away from every request", "Write a longer prefix, such as X-User-")
    elif not prefix.endswith("-"):
        report.warning(at, f"does not end with a dash: {prefix}… of any word is taken from clients", f"Write {prefix}-")


def _check_header(name: str, claim: str, section: Identity, report: Report) -> None:
    at: Path = (*AT, "headers", name)
    check_header_names((name,), at, report)
    fold = folded(name)
    if fold in _ours(section):
        report.error(at, "is a name the gateway gives its own meaning", "Choose another name")
    elif fold in RESERVED or fold.startswith(tuple(map(folded, RESERVED_PREFIXES))):
        report.error(at, "is a name with a meaning of its own between client, gateway and upstream", "Choose another")
    if not all(claim.split(".")):
        report.error(at, "names no claim", "Write a claim or a dotted path, such as public_metadata.tier")
    elif claim.split(".")[0] == "unsafe_metadata" and not section.allow_unsafe_metadata:
        remedy = "Use public_metadata, or set identity.allow_unsafe_metadata: true"
        report.error(at, "unsafe_metadata is what users say of themselves, and is left out", remedy)
    elif claim.split(".")[0] == PRIVATE:
        message = "is always empty: private_metadata is in no token and is not kept with a user"
        report.warning(at, message, "Use public_metadata, or let the upstream ask Clerk")
