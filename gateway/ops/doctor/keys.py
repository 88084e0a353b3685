"""An issuer's keys: whether they can be had, and whether issuer, `jwt_key` and secret key are of one instance."""

from typing import Final

from gateway.core.verify import MAX_JWKS_BYTES, KeySet, parse_jwks
from gateway.ops.doctor.asking import Answer, Asked, Unreached
from gateway.ops.doctor.diagnosis import Diagnosis, error, listed, ok, skipped, warning
from gateway.ops.doctor.instances import Instance, Known

SUBJECT: Final = "keys"
OFFLINE: Final = (
    "or give clerk.jwt_key (CLERK_JWT_KEY: Clerk Dashboard, API keys, JWKS public key), which needs no network"
)
SAME_PAGE: Final = (
    "Take publishable key (CLERK_PUBLISHABLE_KEY) or issuer (CLERK_JWT_ISSUER_DOMAIN), secret key (CLERK_SECRET_KEY) "
    "and jwt_key (CLERK_JWT_KEY) from one page: Clerk Dashboard, the right application and instance, API keys"
)
STATUS: Final = (
    "Try again; https://status.clerk.com says whether Clerk is down. The gateway serves on with the keys it has"
)
REMEDIES: Final = {
    "dns": "Is the issuer spelt as in the Clerk Dashboard, API keys (Frontend API URL)? A production instance needs "
    "its CNAME clerk.<domain> (Dashboard, Domains); in a container or cluster, look at its DNS",
    "refused": "Is the issuer spelt right, and its port? Let the gateway connect there (firewall, egress policy), "
    f"{OFFLINE}",
    "timeout": f"Is the issuer spelt right? Let the gateway connect there (firewall, egress policy), {OFFLINE}",
    "tls": "Something between here and Clerk shows another certificate, or Clerk has none for this domain yet "
    "(Dashboard, Domains). A company's own authority belongs into the system's (SSL_CERT_FILE). Is the date right?",
    "not-http": "What listens there is not Clerk: check clerk.issuer and clerk.jwks_url",
    "link-local": "The gateway never asks link-local addresses: check the name's DNS records",
    "failed": f"Look at the network between here and there, {OFFLINE}",
}  # fmt: skip
TROUBLES: Final = {
    "dns": "its name cannot be resolved", "refused": "the connection is refused", "timeout": "no answer in time",
    "tls": "TLS fails", "not-http": "what answers is not HTTP", "link-local": "its name leads to a link-local address",
    "failed": "it cannot be asked",
}  # fmt: skip


def trouble(unreached: Unreached) -> str:
    """Say why there is no answer."""
    detail = f" ({unreached.detail})" if unreached.detail else ""
    return TROUBLES[unreached.why] + detail


def read_key_set(asked: Asked | None) -> KeySet | None:
    """Read the keys out of an answer; None where there are none to be had."""
    if not isinstance(asked, Answer) or asked.status != 200:
        return None
    try:
        return parse_jwks(asked.body)
    except ValueError:
        return None


def key_set(instance: Instance, asked: Asked) -> Diagnosis:
    """Judge what came of asking for the issuer's keys."""
    url = instance.jwks_url.partition("?")[0]
    fault = _fault(instance, asked)
    subject = instance.subject(SUBJECT)
    if fault is None:
        keys = read_key_set(asked)
        assert keys is not None
        return ok(subject, f"{url}: {len(keys)} key{'s' if len(keys) > 1 else ''}, {listed(sorted(keys.kids))}")
    found, remedy = fault
    if instance.config.static_keys is not None:
        found = f"{url}: {found}, so jwt_key cannot be compared with it; tokens are verified by jwt_key all the same"
        return warning(subject, found, remedy)
    return error(subject, f"{url}: {found}, so no token can be verified (503 keys_unavailable)", remedy)


def _fault(instance: Instance, asked: Asked) -> tuple[str, str] | None:
    if isinstance(asked, Unreached):
        return trouble(asked), REMEDIES[asked.why]
    if asked.status in (301, 302, 303, 307, 308):
        target = asked.fields.get("location", "elsewhere").partition("?")[0]
        return f"answers {asked.status} to {target}, and redirects are not followed", _where(instance)
    if asked.status in (404, 410):
        return f"answers {asked.status}: there is no key set", _where(instance)
    if asked.status >= 500 or asked.status == 429:
        return f"answers {asked.status}", STATUS
    if asked.status != 200:
        return f"answers {asked.status}", _where(instance)
    if len(asked.body) > MAX_JWKS_BYTES:
        return f"what comes is larger than {MAX_JWKS_BYTES} bytes, no key set of Clerk's", _where(instance)
    try:
        parse_jwks(asked.body)
    except ValueError as wrong:
        if asked.is_html:
            page = "a proxy's or captive portal's, or your own app where Clerk's Frontend API should be"
            return f"answers with a web page instead of keys ({page})", _where(instance)
        return f"what comes is of no use: {wrong}", _where(instance)
    return None


def _where(instance: Instance) -> str:
    if instance.config.jwks_url not in (None, f"{instance.config.issuer}/.well-known/jwks.json"):
        return f"Leave {instance.key('jwks_url')} out: Clerk publishes its keys at <issuer>/.well-known/jwks.json"
    return (
        f"Check {instance.key('publishable_key')} or issuer (CLERK_JWT_ISSUER_DOMAIN): it is the Frontend API URL that "
        "the Clerk Dashboard shows under API keys"
    )


def proxied(instance: Instance, asked: Asked, issuers: KeySet | None) -> Diagnosis:
    """Judge whether the proxy of the Frontend API leads to this instance: what came of asking it for the keys."""
    subject, policy = instance.subject("proxy"), instance.config.frontend_api
    assert policy is not None
    url, keys = policy.proxy_url, read_key_set(asked)
    if keys is not None and (issuers is None or share_key(keys, issuers)):
        return ok(subject, f"{url} leads to the Frontend API")
    if keys is not None:
        return error(subject, f"{url} leads to another instance, {listed(sorted(keys.kids))}", SAME_PAGE)
    if isinstance(asked, Unreached):
        found, remedy = (
            f"{url}: {trouble(asked)}",
            "Start the gateway, and let its public name lead to it, all paths",
        )
        # Some networks do not let a machine reach itself by its public name.
        return error(subject, found, remedy) if asked.why in ("dns", "tls") else warning(subject, found, remedy)
    found = (
        f"{url} does not lead to Clerk's Frontend API: status {asked.status}{', a web page' if asked.is_html else ''}"
    )
    remedy = (
        f"Check {instance.key('proxy_url')} and proxy_path, that whatever stands in front passes all paths below on, "
        "and that the Clerk Dashboard (Domains, Frontend API proxy) names the same URL; the gateway must run"
    )
    return (error if asked.status < 500 else warning)(subject, found, remedy)


# --- whether they belong together -------------------------------------------------------------------------------------


def belonging(instance: Instance, known: Known) -> list[Diagnosis]:
    """Judge whether the issuer's published keys, `jwt_key` and the secret key are of one Clerk instance."""
    static, published = instance.config.static_keys, known.issuer
    found = []
    if static is not None and published is not None:
        found.append(_judged_static(instance, static, published))
    elif static is not None:
        found.append(
            skipped(instance.subject("jwt_key"), "the issuer's keys are not known, so it is compared with none")
        )
    if known.backend is not None:
        found.append(_judged_backend(instance, known.backend, published or static))
    return found


def _judged_static(instance: Instance, static: KeySet, published: KeySet) -> Diagnosis:
    subject = instance.subject("jwt_key")
    if share_key(static, published):
        return ok(subject, "is one of the issuer's keys")
    found = (
        f"is not among the {len(published)} keys that {instance.config.issuer} publishes: no token of it is good here"
    )
    return error(subject, f"{found} (401 token-invalid-signature)", f"{SAME_PAGE}; or leave jwt_key out")


def _judged_backend(instance: Instance, backend: KeySet, issuers: KeySet | None) -> Diagnosis:
    subject = instance.subject("instance")
    whose = listed(sorted(backend.kids))
    if issuers is None:
        return skipped(
            subject, f"the secret key is of {whose}; whether the issuer is too cannot be told without its keys"
        )
    if share_key(backend, issuers):
        return ok(subject, f"issuer and secret key are of one instance, {whose}")
    kids = listed(sorted(issuers.kids)) or "jwt_key's"
    found = f"mixed keys: the secret key is of {whose}, but {instance.config.issuer} is {kids}"
    return error(subject, f"{found}: users and webhooks would be of another instance than tokens", SAME_PAGE)


def share_key(one: KeySet, other: KeySet) -> bool:
    """Say whether two sets have a key in common, whatever it is called."""
    return not _numbers(one).isdisjoint(_numbers(other))


def _numbers(keys: KeySet) -> frozenset[int]:
    found = [keys.find(kid) for kid in keys.kids] or [keys.find(None)]
    return frozenset(key.public_numbers().n for key in found if key is not None)


def webhook_instance(instance: Instance, named: str | None, known: Known) -> list[Diagnosis]:
    """Judge whether webhooks are taken of the instance that tokens come from; `named` by `instance_id`."""
    kids = sorted(kid for kid in (known.issuer.kids if known.issuer is not None else ()) if kid.startswith("ins_"))
    if named is None or not kids or named in kids:
        return []
    found = f"instance_id is {named}, but tokens come from {listed(kids)}: that one's webhooks are refused"
    remedy = f"Leave {instance.key('instance_id')} out, or write the other one"
    return [error(instance.subject("webhooks"), f"{found} (400, reason instance)", remedy)]
