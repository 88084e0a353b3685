"""The Clerk instances a file names: the one under `clerk`, or those under `issuers`, each with its name."""

from typing import NamedTuple

from gateway.config.findings import Path, Report, dotted
from gateway.config.parties import Clerk
from gateway.config.schema import Settings
from gateway.config.upstreams import NAME, NAME_RULE

CLERK: Path = ("clerk",)
ISSUERS: Path = ("issuers",)


class Instance(NamedTuple):
    """The settings of one Clerk instance, and where they stand."""

    name: str
    at: Path
    clerk: Clerk

    @property
    def key(self) -> str:
        """Where it stands, as a finding names it."""
        return dotted(self.at)


def instances_of(settings: Settings, report: Report) -> tuple[Instance, ...]:
    """Give the instances of a file, one at least: what is missing of it is whoever needs it to say."""
    if not settings.issuers:
        return (Instance("clerk", CLERK, settings.clerk),)
    if settings.clerk != Clerk():
        report.error(
            CLERK, "stands beside issuers, and only one of both can count", "Move it into issuers, with a name"
        )
    taken: dict[str, int] = {}
    named = []
    for index, section in enumerate(settings.issuers):
        at: Path = (*ISSUERS, index)
        name = section.name or ""
        if not name and not report.is_broken((*at, "name")):
            report.error((*at, "name"), "is missing", "Write name: and a word that routes can say in issuer:")
        elif name and not NAME.fullmatch(name):
            report.error((*at, "name"), NAME_RULE)
        elif name in taken:
            message = f'"{name}" is already the name of issuers[{taken[name]}]'
            report.error((*at, "name"), message, "Give each a name of its own")
        taken.setdefault(name, index)
        named.append(Instance(name or f"issuer-{index + 1}", at, section))
    return tuple(named)
