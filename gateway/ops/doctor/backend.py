"""Clerk's Backend API: whether it takes the secret key, what templates there are, and whom it knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.core.routing import Route
from gateway.ops.doctor.asking import Answer, Asked, Unreached
from gateway.ops.doctor.diagnosis import Diagnosis, error, listed, ok, quoted, skipped, warning
from gateway.ops.doctor.instances import Instance
from gateway.ops.doctor.keys import REMEDIES, STATUS, read_key_set, trouble

SUBJECT: Final = "Backend API"
DASHBOARD: Final = "Clerk Dashboard, Configure, JWT templates"
SESSION: Final = "Clerk Dashboard, Configure, Sessions, Customize session token"
EMAIL: Final = '"email": "{{user.primary_email_address}}"'
NAME: Final = '"name": "{{user.full_name}}"'
TEXTS: Final = {"email": EMAIL, "name": NAME}


def answered(instance: Instance, asked: Asked | None) -> Diagnosis:
    """Judge what came of asking it for the instance's keys with the secret key."""
    subject = instance.subject(SUBJECT)
    if asked is None or instance.backend is None:
        return skipped(
            subject, "no secret_key (CLERK_SECRET_KEY), so it is not used: no gateway sync, no look-up of users"
        )
    url = instance.backend.url
    if isinstance(asked, Unreached):
        return error(subject, f"{url}: {trouble(asked)}", _remedy(asked, instance))
    if asked.status in (401, 403):
        found = f"Clerk does not take the secret key: status {asked.status}, {code_of(asked) or 'without a reason'}"
        remedy = (
            f"Copy {instance.key('secret_key')} (CLERK_SECRET_KEY) anew from the Clerk Dashboard, API keys: it was "
            "rolled, cut short, or is another application's"
        )
        return error(subject, found, remedy)
    if asked.status == 429:
        found = "Clerk answers 429: the instance's rate limit is spent"
        return warning(subject, found, "See what else asks Clerk with this secret key; try again in ten seconds")
    if asked.status >= 500:
        return error(subject, f"{url}: answers {asked.status}", STATUS)
    if read_key_set(asked) is None:
        what = "a web page" if asked.is_html else f"something else (status {asked.status})"
        remedy = f"{instance.key('api_url')} is https://api.clerk.com, without /v1, unless you know better"
        return error(subject, f"{url}: answers with {what} instead of the instance's keys", remedy)
    return ok(subject, f"{url} takes the secret key")


def _remedy(asked: Unreached, instance: Instance) -> str:
    if asked.why in ("dns", "not-http"):
        return f"Check {instance.key('api_url')} (https://api.clerk.com unless you know better), and this machine's DNS"
    return REMEDIES[asked.why].partition(", or give clerk.jwt_key")[0]


def code_of(answer: Answer) -> str | None:
    """Give Clerk's word for what is wrong."""
    try:
        code = orjson.loads(answer.body)["errors"][0]["code"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return code if isinstance(code, str) and code.isidentifier() else None


# --- templates --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Template:
    """A JWT template as far as it matters here."""

    name: str
    claims: Mapping[str, Any]
    is_own_key: bool = False  # signed with a key of the template's own, which no key set has

    @property
    def audience(self) -> frozenset[str]:
        """Whom its tokens are for."""
        value = self.claims.get("aud")
        values = value if isinstance(value, list) else [value]
        return frozenset(each for each in values if isinstance(each, str))


def read_templates(asked: Asked | None) -> tuple[Template, ...] | None:
    """Read the instance's templates; None where they are not known."""
    if not isinstance(asked, Answer) or asked.status != 200:
        return None
    try:
        found = orjson.loads(asked.body)
    except orjson.JSONDecodeError:
        return None
    found = found.get("data") if isinstance(found, dict) else found
    if not isinstance(found, list):
        return None
    return tuple(_template(each) for each in found if isinstance(each, dict) and isinstance(each.get("name"), str))


def _template(entry: Mapping[str, Any]) -> Template:
    claims = entry.get("claims")
    own_key = entry.get("custom_signing_key") is True or entry.get("signing_algorithm", "RS256") != "RS256"
    return Template(entry["name"], claims if isinstance(claims, dict) else {}, own_key)


def templates(
    instance: Instance, known: Sequence[Template] | None, routes: Sequence[Route], *, enriched: bool
) -> list[Diagnosis]:
    """Judge whether the templates that routes wait for are there, and say what upstreams are told.

    `enriched`: the user directory gives what tokens lack.
    """
    waiting = [route for route in routes if "template" in route.admission.token_types and route.auth != "public"]
    if not waiting or known is None:
        return []
    subject = instance.subject("templates")
    found: list[Diagnosis] = []
    for audience in dict.fromkeys(route.admission.audience for route in waiting):
        takers = [route for route in waiting if route.admission.audience == audience]
        fitting = [each for each in known if each.audience & audience]
        if not fitting:
            found.append(_missing(subject, audience, takers))
        found += [_own_key(subject, each) for each in fitting if each.is_own_key]
        if not enriched and any(route.upstream.identity for route in takers):
            found += [_lacking(subject, each) for each in fitting if set(TEXTS) - set(each.claims)]
    return list(dict.fromkeys(found)) or [
        ok(subject, f"{listed(each.name for each in known)}: what routes take is there")
    ]


def _missing(subject: str, audience: frozenset[str], takers: Sequence[Route]) -> Diagnosis:
    wanted, names = listed(sorted(audience)), listed(route.name for route in takers)
    found = f"no JWT template of this instance has aud {wanted}, which route {names} asks for"
    remedy = f'Make one with "aud": "{sorted(audience)[0]}" ({DASHBOARD})'
    if "convex" in audience:
        remedy = f"Activate Convex (Clerk Dashboard, Integrations), or make the template convex ({DASHBOARD})"
    if all("session" in route.admission.token_types for route in takers):
        # Clerk's Convex integration puts it into the session token, of which nobody can be asked.
        return warning(subject, f"{found}; good if the session token has it", remedy)
    return error(subject, f"{found}: no token is good there", remedy)


def _own_key(subject: str, template: Template) -> Diagnosis:
    found = f"template {quoted(template.name)} signs with a key of its own, which the issuer does not publish: 401"
    return error(subject, found, f"Turn its custom signing key off ({DASHBOARD})")


def _lacking(subject: str, template: Template) -> Diagnosis:
    missing = [name for name in TEXTS if name not in template.claims]
    found = f"template {quoted(template.name)} has no claim {' or '.join(missing)}, and no user directory fills it in"
    added = ", ".join(TEXTS[name] for name in missing)
    return warning(subject, found, f"Add {added} to it ({DASHBOARD}), or set store.url and identity.enrich: true")


# --- a user -----------------------------------------------------------------------------------------------------------


def user(instance: Instance, user_id: str, asked: Asked | None) -> list[Diagnosis]:
    """Judge what Clerk says of the user a token names."""
    subject = instance.subject("user")
    if not isinstance(asked, Answer):
        return []
    if asked.status == 404 and (code_of(asked) or "").endswith("not_found"):
        found = f"{user_id} is not among the users of the secret key's instance: deleted, or of another instance"
        return [error(subject, found, "Sign in again, with the application whose keys are configured here")]
    if asked.status != 200:
        return []
    try:
        told = orjson.loads(asked.body)
    except orjson.JSONDecodeError:
        return []
    states = [word for word in ("banned", "locked") if isinstance(told, dict) and told.get(word) is True]
    if states:
        found = f"{user_id} is {' and '.join(states)} at Clerk: what the user had is refused (401 session-revoked)"
        return [error(subject, found, "Clerk Dashboard, Users: lift it there, if that is meant")]
    return [ok(subject, f"Clerk knows {user_id}")]
