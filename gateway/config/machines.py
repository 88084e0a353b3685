"""Machine tokens: which routes take them, whom Clerk is asked about them with, and what is likely not meant."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.config.findings import Path, Report
from gateway.config.instances import Instance
from gateway.config.model import IssuerConfig
from gateway.config.urls import read_outbound
from gateway.core.machine import M2M, MachinePolicy
from gateway.core.model import MACHINE_TYPES, BackendAddress
from gateway.core.routing import Route

# Clerk: 1000 requests in 10 seconds for all that an application asks of a production instance.
CLERKS_OWN_PER_S = 100
ANY = frozenset({"session", *MACHINE_TYPES})  # as Clerk's SDK has it: a template's token is asked for by name
# What only sessions hold; of an organisation's API key, the organisation is known all the same.
OF_SESSIONS = (
    ("role", "roles"), ("permission", "permissions"), ("plan", "plans"), ("feature", "features"),
    ("max_age_min", "max_age_first_min"), ("max_age_min", "max_age_second_min"),
)  # fmt: skip


def token_types(written: Sequence[str]) -> frozenset[str]:
    """Read a route's `token`."""
    named = frozenset(written)
    return (named - {"any"}) | ANY if "any" in named else named


def with_machines(
    issuers: Sequence[IssuerConfig], instances: Sequence[Instance], routes: Sequence[Route], report: Report
) -> tuple[IssuerConfig, ...]:
    """Give the issuers with what is needed to ask them about the machine tokens that routes take of them."""
    taken: dict[str, set[str]] = {instance.name: set() for instance in instances}
    if not report.is_broken(("routes",)):  # else some are missing, and their places do not tell
        for index, route in enumerate(routes):
            _review_route(route, ("routes", index), report)
            kinds = _kinds(route)
            whose = route.admission.issuer or (instances[0].name if len(instances) == 1 else None)
            if kinds and whose is None:
                message = "with several issuers a machine token does not say whose it is"
                report.error(("routes", index, "token"), message, "Write issuer: and the name of the one to ask")
            elif kinds and whose is not None:
                taken[whose] |= kinds
    policies = {each.name: _policy(each, frozenset(taken[each.name]), report) for each in instances}
    return tuple(replace(issuer, machines=policies[issuer.name]) for issuer in issuers)


def _kinds(route: Route) -> frozenset[str]:
    return route.admission.token_types & MACHINE_TYPES if route.auth != "public" else frozenset()


def _policy(instance: Instance, taken: frozenset[str], report: Report) -> MachinePolicy | None:
    clerk, at = instance.clerk, instance.at
    own = _own_key(instance, report)
    if own is not None and M2M not in taken and not report.is_broken(("routes",)):
        report.warning((*at, "machine_secret_key"), "is not used: no route takes m2m tokens", "Leave it out")
    if not taken:
        return None
    _check_pace(instance, report)
    secret = clerk.secret_key.get_secret_value() if clerk.secret_key is not None else None
    url = report.tried((*at, "api_url"), read_outbound, clerk.api_url)
    if url is None:
        return None
    keyed = BackendAddress(url.text, secret) if secret is not None else None
    machine = BackendAddress(url.text, own) if own is not None else keyed
    missing = sorted(taken) if keyed is None else []
    if machine is not None and M2M in missing:
        missing.remove(M2M)
    if missing and not report.is_broken((*at, "secret_key"), (*at, "machine_secret_key")):
        also = " (or machine_secret_key: ak_…)" if missing == [M2M] else ""
        message = f"is needed: routes take {', '.join(missing)} tokens, and only Clerk can say whose those are"
        report.error((*at, "secret_key"), message, f"Write secret_key: sk_…, from the Clerk Dashboard, API keys{also}")
    return MachinePolicy(keyed, machine, clerk.machine_verify_per_s or 1.0)


def _own_key(instance: Instance, report: Report) -> str | None:
    if instance.clerk.machine_secret_key is None:
        return None
    own = instance.clerk.machine_secret_key.get_secret_value()
    if own.startswith("ak_") and own.isascii() and own.isprintable() and " " not in own and len(own) > len("ak_"):
        return own
    message = "is not a machine's secret key: copy it whole, from ak_ on, from the Clerk Dashboard, Machines"
    report.error((*instance.at, "machine_secret_key"), message)
    return None


def _check_pace(instance: Instance, report: Report) -> None:
    path: Path = (*instance.at, "machine_verify_per_s")
    per_s = instance.clerk.machine_verify_per_s
    if per_s < 0.1:
        message = "must be 0.1 at least: with less, next to no opaque token could be verified"
        report.error(path, message, "20 is the default; to take none, leave them out of every route's token")
    elif per_s > CLERKS_OWN_PER_S:
        message = f"more than the {CLERKS_OWN_PER_S} a second that Clerk takes of a production instance for everything"
        report.warning(path, message, "Stay well below: the rest of the application asks Clerk too")


def _review_route(route: Route, path: Path, report: Report) -> None:
    """Warn of what is asked for and no token that is taken can hold."""
    if route.auth == "public":
        return
    types, require = route.admission.token_types, route.require
    if require.scopes and types.isdisjoint(MACHINE_TYPES):
        message = "nobody passes: only machine tokens have scopes, and this route takes none"
        report.warning((*path, "require", "scope"), message, "Write token: api_key, m2m or oauth, or leave scope out")
    if types <= MACHINE_TYPES:
        for key, name in OF_SESSIONS:
            if getattr(require, name):
                message = "nobody passes: machine tokens have none, and this route takes no others"
                report.warning((*path, "require", key), message, "Use scope or claims, or leave it out")
