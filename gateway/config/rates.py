"""Rate limits to policies, and what is likely not meant by them."""

from gateway.config.findings import Path, Report
from gateway.config.schema import RateLimits
from gateway.config.types import RouteRates
from gateway.core.limits import Rate, RatePolicy

AT_ONCE = 6  # connections that a browser opens to one host under HTTP/1.1, and asks on together
OF_VERIFIED = ("by_user", "by_org", "by_machine")


def build_rates(section: RateLimits | RouteRates | None, path: Path, report: Report) -> RatePolicy:
    """Make the policy of a section; an empty one where there is none."""
    written = {} if section is None else section.model_dump(exclude_none=True)
    rates = {name: Rate.read(text) for name, text in written.items()}
    for name, rate in rates.items():
        if rate.burst < min(rate.count, AT_ONCE):
            message = f"lets only {rate.burst} through at once, but a browser asks for {AT_ONCE} things at a time"
            report.warning(_place(path, name, report), message, f"Write burst {AT_ONCE} or more")
    return RatePolicy(**rates)


def check_counted(rates: RatePolicy, auth: str, path: Path, report: Report) -> None:
    """Warn of limits that count nobody: only where a credential is read is anybody a user."""
    if auth != "public":
        return
    for name in OF_VERIFIED:
        if getattr(rates, name) is not None:
            report.warning((*path, name), "counts nobody on a public route, where no credential is read", "Use by_ip")


def _place(path: Path, name: str, report: Report) -> Path:
    return (*path, name) if (*path, name) in report.places else path  # one text is the route's by_caller
