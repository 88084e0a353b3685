"""TLS towards clients and towards upstreams: the settings, and whether the files they name will do."""

from gateway.config.certificates import check_authority, check_pair
from gateway.config.findings import Path, Report
from gateway.config.parties import UpstreamTls as UpstreamSettings
from gateway.config.schema import ListenTls as ListenSettings
from gateway.config.urls import read_host
from gateway.core.model import ListenTls, UpstreamTls

LISTEN: Path = ("listen", "tls")


def build_listen_tls(section: ListenSettings | None, report: Report) -> ListenTls | None:
    """Make the listener's TLS; None for plain HTTP, which is what a section without values means too."""
    if section is None or not (section.cert or section.key or section.client_ca):
        return None
    if section.client_ca:
        check_authority((*LISTEN, "client_ca"), section.client_ca, report)
    if not _has_both(section.cert, section.key, LISTEN, ("cert", "key"), report):
        return None
    assert section.cert is not None
    assert section.key is not None
    check_pair(((*LISTEN, "cert"), section.cert), ((*LISTEN, "key"), section.key), report)
    return ListenTls(section.cert, section.key, section.client_ca)


def build_upstream_tls(section: UpstreamSettings, at: Path, report: Report, *, is_used: bool) -> UpstreamTls:
    """Make an upstream's TLS; `is_used` says whether its URL is https."""
    if not is_used:
        if section != UpstreamSettings():
            report.warning(at, "is not used: the upstream's URL begins with http://", "Write https://, or leave it out")
        return UpstreamTls()
    if not section.verify:
        message = "the upstream's certificate is not checked: whoever is in between reads and changes everything"
        report.insecure((*at, "verify"), message, "Name its authority in tls.ca, and its name in tls.server_name")
    if section.ca:
        check_authority((*at, "ca"), section.ca, report)
        if not section.verify:
            report.warning((*at, "ca"), "is not used, because verify is false")
    cert, key = section.client_cert, section.client_key
    if (cert or key) and _has_both(cert, key, at, ("client_cert", "client_key"), report):
        check_pair(((*at, "client_cert"), str(cert)), ((*at, "client_key"), str(key)), report)
    name = report.tried((*at, "server_name"), read_host, section.server_name) if section.server_name else None
    return UpstreamTls(section.verify, section.ca or None, cert or None, key or None, name)


def _has_both(cert: str | None, key: str | None, at: Path, names: tuple[str, str], report: Report) -> bool:
    for have, name, other in ((cert, names[0], names[1]), (key, names[1], names[0])):
        if not have:
            report.error((*at, name), f"is missing: {other} is of no use without it", f"Write {name}: FILE (PEM)")
    return bool(cert and key)
