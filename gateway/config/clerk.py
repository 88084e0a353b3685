"""A Clerk instance from its publishable key, its issuer, or both: whose tokens are taken and with which keys."""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence

from gateway.config.findings import Path, Report
from gateway.config.instances import CLERK, ISSUERS, Instance
from gateway.config.model import IssuerConfig
from gateway.config.satellites import satellite_issuer
from gateway.config.urls import Url, read_keys_url, read_outbound
from gateway.core.cors import read_origins
from gateway.core.credentials import CredentialPolicy
from gateway.core.model import BackendAddress
from gateway.core.verify import TokenPolicy, key_set_from_pem

EXAMPLES = {
    "CLERK_PUBLISHABLE_KEY": "CLERK_PUBLISHABLE_KEY=pk_test_… (Clerk Dashboard, API keys)",
    "CLERK_JWT_ISSUER_DOMAIN": "CLERK_JWT_ISSUER_DOMAIN=https://clerk.example.com",
}


def build_issuers(
    instances: Sequence[Instance], report: Report, *, needed: bool, backends: Mapping[str, BackendAddress]
) -> tuple[IssuerConfig, ...]:
    """Make what verifies tokens: none without a Clerk instance, which is an error where some route needs one."""
    made = [_build(each, report, needed=needed, backend=backends.get(each.name)) for each in instances]
    issuers = tuple(issuer for issuer in made if issuer is not None)
    seen: dict[str, IssuerConfig] = {}
    for issuer in issuers:
        for other in (seen[text] for text in issuer.token_policy.issuers if text in seen):
            report.error(_path_of(issuer, instances), f'is the instance "{other.name}" once more', "Name each once")
        seen |= dict.fromkeys(issuer.token_policy.issuers, issuer)
    return issuers


def _path_of(issuer: IssuerConfig, instances: Sequence[Instance]) -> Path:
    return next(each.at for each in instances if each.name == issuer.name)


def _build(instance: Instance, report: Report, *, needed: bool, backend: BackendAddress | None) -> IssuerConfig | None:
    name, at, clerk = instance
    key_path, issuer_path = (*at, "publishable_key"), (*at, "issuer")
    derived = report.tried(key_path, frontend_api, clerk.publishable_key) if clerk.publishable_key else None
    written = report.tried(issuer_path, _read_issuer, clerk.issuer) if clerk.issuer else None
    if derived and written and not _is_same(derived, written):
        remedy = "Leave it out, or take the publishable key of the same instance"
        report.error(issuer_path, f"is not the publishable key's issuer, {derived.text}", remedy)
    issuer = written or derived
    if issuer is None:
        if (needed or at != CLERK) and not report.is_broken(key_path, issuer_path, ISSUERS):
            _note_missing(instance, report)
        return None
    keys_path: Path = (*at, "jwt_key")
    keys = report.tried(keys_path, key_set_from_pem, clerk.jwt_key) if clerk.jwt_key else None
    _review(instance, issuer, report, needed=needed)
    development = _is_development(clerk.publishable_key, issuer)
    here = satellite_issuer(instance, report, development=development) or issuer.text
    return IssuerConfig(
        name=name,
        key=instance.key,
        issuer=issuer.text,
        jwks_url=None if keys else _jwks_url(instance, issuer, report),
        static_keys=keys,
        token_policy=TokenPolicy(
            issuers=frozenset({issuer.text, here}),
            authorized_parties=frozenset(clerk.authorized_parties),
            azp_missing_ok=clerk.azp_missing == "accept",
            audience=frozenset(clerk.audience),
            leeway_s=clerk.clock_skew_s,
        ),
        credentials=CredentialPolicy(
            issuer=here,
            name=name,
            cookie_suffix=cookie_suffix(clerk.publishable_key or _usual_key(issuer)),
            development=development,
        ),
        backend=backend,
    )


def _is_same(derived: Url, written: Url) -> bool:
    # A publishable key has no scheme; plain http can have been written for loopback only, as `gateway dev` does.
    return derived == written or (written.scheme == "http" and derived.authority == written.authority)


def frontend_api(publishable_key: str) -> Url:
    """Read the Frontend API's URL, which is the issuer, out of a publishable key.

    Raises:
        ValueError: not a publishable key. Clerk: `pk_live_` or `pk_test_`, then base64 of the host and one `$`.
    """
    wrong = "is not a publishable key: copy the whole pk_live_… or pk_test_… from the Clerk Dashboard, API keys"
    parts = publishable_key.split("_")
    if len(parts) != 3 or parts[0] != "pk" or parts[1] not in ("live", "test"):
        raise ValueError(wrong)
    encoded = parts[2].rstrip("=")
    try:
        host = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode("ascii")
        if not host.endswith("$") or "$" in host[:-1] or "." not in host:
            raise ValueError(wrong)
        return read_outbound(f"https://{host[:-1]}")
    except (ValueError, binascii.Error):
        raise ValueError(wrong) from None


def cookie_suffix(publishable_key: str) -> str:
    """Give the suffix of Clerk's cookies. Clerk: the first 8 characters of base64url(SHA-1(publishable key))."""
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest)[:8].decode()


def _usual_key(issuer: Url) -> str:
    """Give the publishable key that this issuer's instance has, where only the issuer is configured."""
    kind = "test" if _is_development(None, issuer) else "live"
    host = issuer.text.removeprefix(f"{issuer.scheme}://")
    return f"pk_{kind}_" + base64.b64encode(f"{host}$".encode()).decode().rstrip("=")


def _read_issuer(value: str) -> Url:
    return read_outbound(value if "://" in value else f"https://{value}")


def _jwks_url(instance: Instance, issuer: Url, report: Report) -> str:
    clerk, path = instance.clerk, (*instance.at, "jwks_url")
    if clerk.jwks_url is None:
        return f"{issuer.text}/.well-known/jwks.json"
    url = report.tried(path, read_keys_url, clerk.jwks_url)
    if url is not None and url.scheme == "http":
        report.insecure(path, "keys come over plain http: whoever is in between can make tokens", "Use https")
    return clerk.jwks_url


def _is_development(publishable_key: str | None, issuer: Url) -> bool:
    # Clerk: development instances live under clerk.accounts.dev; others may be recognised by their key.
    return (publishable_key or "").startswith("pk_test_") or issuer.host.endswith(".clerk.accounts.dev")


def _note_missing(instance: Instance, report: Report) -> None:
    clerk, at = instance.clerk, instance.at
    message = "no Clerk instance is named, so no token can be verified"
    if clerk.jwt_key:
        message = "jwt_key says how tokens are signed, but not whose they are"
    variables = (*report.variables((*at, "publishable_key")), *report.variables((*at, "issuer")))
    if variables:
        remedy = "Set " + " or ".join(EXAMPLES.get(name, name) for name in variables)
    else:
        remedy = 'Write publishable_key: "${CLERK_PUBLISHABLE_KEY}" or issuer: "${CLERK_JWT_ISSUER_DOMAIN}"'
    report.error(at, message, f"{remedy}, or make every route auth: public")


def _review(instance: Instance, issuer: Url, report: Report, *, needed: bool) -> None:
    clerk, at = instance.clerk, instance.at
    parties: Path = (*at, "authorized_parties")
    if issuer.scheme == "http":
        report.insecure((*at, "issuer"), "keys come over plain http: for development only", "Use https")
    if clerk.jwt_key and clerk.jwks_url:
        report.warning((*at, "jwks_url"), "is not used, because jwt_key is set", "Leave one of them out")
    if needed and not clerk.authorized_parties and not report.is_broken(parties):
        variables = report.variables(parties)
        how = f"Set {variables[0]} to" if variables else "List"
        message = "empty: a token that another site of this Clerk instance obtained is taken too"
        report.insecure(parties, message, f"{how} the origins of your pages, such as https://app.example.com")
    if clerk.authorized_parties and clerk.azp_missing == "accept":
        # Navigations, which handshakes are, have no Origin that a token could name.
        tell = report.warning if clerk.handshake else report.insecure
        remedy = (
            "Use reject, unless users of pages meet token-invalid-authorized-parties"
            if clerk.handshake
            else "Use reject"
        )
        tell((*at, "azp_missing"), "tokens that name no party are taken from anywhere", remedy)
    for party in clerk.authorized_parties:
        _review_party(party, parties, report)


def _review_party(party: str, path: Path, report: Report) -> None:
    if "*" in party:
        report.error(path, f'"{party}": parties are compared as exact text, without *', "List each origin")
        return
    try:
        read_origins([party])
    except ValueError as wrong:
        report.warning(path, f"{wrong}; tokens carry the origin as the browser sends it")
