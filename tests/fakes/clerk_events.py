"""Clerk's webhooks as they are sent: bodies, and events read from them."""

from typing import Any

import orjson

from gateway.core.events import Event, read_event
from gateway.store.base import Arrival

NOW_MS = 1_800_000_000_000


def user(key: str = "user_1", *, updated_at: int = 2000, **members: Any) -> dict[str, Any]:
    """Write a user as Clerk does."""
    return {
        "id": key, "object": "user", "first_name": "Ada", "last_name": "Lovelace", "username": "ada",
        "image_url": "https://img.example.com/a.png", "primary_email_address_id": "idn_1",
        "email_addresses": [
            {"id": "idn_1", "email_address": f"{key}@example.com", "verification": {"status": "verified"}}
        ],
        "external_id": f"ext-{key}", "banned": False, "locked": False, "public_metadata": {"tier": "gold"},
        "private_metadata": {"note": "secret"}, "created_at": 1000, "updated_at": updated_at,
    } | members  # fmt: skip


def organization(key: str = "org_1", *, updated_at: int = 2000, **members: Any) -> dict[str, Any]:
    """Write an organisation."""
    return {
        "id": key, "object": "organization", "name": "Acme", "slug": "acme", "image_url": "https://img.example.com/o.png",
        "public_metadata": {}, "private_metadata": {"note": "secret"}, "created_at": 1000, "updated_at": updated_at,
    } | members  # fmt: skip


def membership(
    key: str = "orgmem_1", *, user_id: str = "user_1", org_id: str = "org_1", updated_at: int = 2000, **members: Any
) -> dict[str, Any]:
    """Write a membership."""
    return {
        "id": key, "object": "organization_membership", "role": "org:admin", "public_metadata": {},
        "organization": organization(org_id), "created_at": 1000, "updated_at": updated_at,
        "public_user_data": {"user_id": user_id, "identifier": f"{user_id}@example.com"},
    } | members  # fmt: skip


def gone(key: str, kind: str = "user") -> dict[str, Any]:
    """Write what is left of something deleted."""
    return {"id": key, "object": kind, "deleted": True}


def body(kind: str, data: dict[str, Any], *, at: int = NOW_MS, instance: str | None = "ins_test") -> bytes:
    """Write a webhook's body."""
    return orjson.dumps({
        "data": data, "object": "event", "type": kind, "timestamp": at, "instance_id": instance,
        "event_attributes": {"http_request": {"client_ip": "192.0.2.1", "user_agent": "test"}},
    })  # fmt: skip


def event(kind: str, data: dict[str, Any], *, at: int = NOW_MS) -> Event:
    """Give an event as the gateway reads it."""
    return read_event(body(kind, data, at=at))


def arrival(svix_id: str, kind: str, data: dict[str, Any], *, at: int = NOW_MS, received_at: int = NOW_MS) -> Arrival:
    """Give a webhook that came in."""
    return Arrival(svix_id, event(kind, data, at=at), received_at)
