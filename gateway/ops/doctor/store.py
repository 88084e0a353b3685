"""The store: whether it can be asked, has this version's schema and takes rows; and what stands in it of use here."""

from typing import TYPE_CHECKING, Final

from gateway.config import Config
from gateway.errors import StoreDown
from gateway.ops.doctor.diagnosis import Diagnosis, error, lasting, ok, skipped, warning

if TYPE_CHECKING:
    from gateway.store.look import Look

SUBJECT: Final = "store"
MIGRATE: Final = "Run: gateway migrate"
SYNC: Final = "Run: gateway sync (needs CLERK_SECRET_KEY), and let Clerk's webhooks come"


def look(url: str, user_id: str | None) -> "Look | StoreDown":
    """Look at it; blocking."""
    from gateway.store.look import look_at

    try:
        return look_at(url, user_id=user_id)
    except StoreDown as down:
        return down


def store(config: Config, seen: "Look | StoreDown | None") -> Diagnosis:
    """Judge how it stands with the store."""
    if config.store is None or seen is None:
        return skipped(SUBJECT, "store.url is null: no webhooks, and upstreams are told what tokens say alone")
    where = str(config.store)
    if isinstance(seen, StoreDown):
        return _down(config, where, seen.detail or seen.code)
    if seen.missing:
        if not seen.writable:
            return error(SUBJECT, f"{where}: is not there, and this user may not make it", _permit(config))
        return ok(SUBJECT, f"{where}: is not there yet; gateway run makes it")
    if seen.version < seen.latest:
        what = f"its schema has version {seen.version} of {seen.latest}" if seen.version else "it has no schema yet"
        if config.store.file is not None and seen.writable:
            return ok(SUBJECT, f"{where}: {what}; gateway run brings it up to date")
        return error(SUBJECT, f"{where}: {what}", MIGRATE)
    if not seen.writable:
        return error(SUBJECT, f"{where}: can be read, but not written to", _permit(config))
    return ok(SUBJECT, f"{where}: schema version {seen.version}")


def _down(config: Config, where: str, why: str) -> Diagnosis:
    if "made by a later gateway" in why:
        return error(SUBJECT, f"{where}: {why}", "Start that version of the gateway, or take a store of this one's own")
    if config.store is not None and config.store.file is not None:
        return error(SUBJECT, f"{where}: {why}", "Is it the gateway's SQLite file, and may this user read it?")
    effect = "webhooks get 503, and new users are not known" if config.needs_store else "nothing needs it so far"
    remedy = (
        "Check host, port, database, user and password in store.url (GATEWAY_STORE_URL), and that it may be reached "
        "from here; then: gateway migrate"
    )
    return error(SUBJECT, f"{where}: {why}; {effect}", remedy)


def _permit(config: Config) -> str:
    assert config.store is not None
    if config.store.file is not None:
        return "Give file and folder to the user that the gateway runs as (chown); in a container mount a volume there"
    return "Name the primary server, and grant INSERT, UPDATE and DELETE on the tables gateway_… to this user"


def webhooks(config: Config, seen: "Look | StoreDown | None", *, now: float) -> list[Diagnosis]:
    """Judge by the inbox whether webhooks come; `now` in Unix seconds."""
    if not config.webhooks.paths:
        return []
    subject = "webhooks"
    if not config.webhooks.secrets:
        return [skipped(subject, "no signing secret (CLERK_WEBHOOK_SIGNING_SECRET), so none is taken")]
    if seen is None or isinstance(seen, StoreDown) or seen.dead is None:
        return []
    found = []
    if seen.last_webhook_ms is None:
        remedy = (
            f"Clerk Dashboard, Webhooks: an endpoint https://<gateway>{config.webhooks.paths[0]}, and its signing "
            "secret whsec_… as CLERK_WEBHOOK_SIGNING_SECRET. If Clerk shows failed attempts with 400, the secret is "
            "another endpoint's: give doctor the log (--log)"
        )
        found.append(warning(subject, "none has come yet that this secret has signed", remedy))
    else:
        found.append(ok(subject, f"the last one came {lasting(now - seen.last_webhook_ms / 1000)} ago"))
    if seen.dead:
        remedy = "gateway webhooks dead says why; once it is mended: gateway webhooks replay --dead"
        found.append(warning("deliveries", f"{seen.dead} given up after three days", remedy))
    return found


def user(config: Config, user_id: str, seen: "Look | StoreDown | None") -> list[Diagnosis]:
    """Judge what the user directory knows of the user a token names."""
    subject = "user directory"
    if seen is None or isinstance(seen, StoreDown) or (seen.dead is None and not seen.missing):
        return []
    if seen.user is None and config.backends:
        return [ok(subject, f"{user_id} is not in it yet; with the first request the gateway asks Clerk")]
    if seen.user is None:
        found = f"{user_id} is not in it: upstreams are told what the token says, no more"
        return [warning(subject, found, SYNC)]
    if seen.user.deleted:
        return [error(subject, f"{user_id} was deleted at Clerk: tokens are refused (401 session-revoked)", SYNC)]
    states = [word for word in ("banned", "locked") if getattr(seen.user, word)]
    if states:
        found = f"{user_id} is {' and '.join(states)}: what the user had by then is refused (401 session-revoked)"
        return [
            error(subject, found, "Clerk Dashboard, Users: lift it there; a webhook or gateway sync tells the gateway")
        ]
    lacking = [name for name in ("email", "name") if getattr(seen.user, name) is None]
    if lacking:
        found = f"{user_id} is in it, but without {' and '.join(lacking)}"
        return [warning(subject, found, f"{SYNC}; a user who has none at Clerk has none here")]
    return [ok(subject, f"{user_id} is in it, with e-mail and name")]
