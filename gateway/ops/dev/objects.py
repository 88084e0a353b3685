"""What Clerk says of users, organisations, memberships and sessions, in webhooks and over its Backend API.

Pure. `core/directory` reads it, and tests hold both against each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.ops.dev.people import ROLE_PERMISSIONS, Membership, Organisation, Person

SESSION_LIFE_MS = 7 * 86_400_000  # Clerk's default
HTTP_REQUEST = {"client_ip": "127.0.0.1", "user_agent": "gateway dev"}


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in session; times in ms."""

    id: str
    user_id: str
    created_at: int
    updated_at: int
    status: str = "active"  # active | ended | removed | revoked


def user_json(person: Person) -> dict[str, Any]:
    """Write a user. What is empty is null, as with Clerk."""
    emails = [_email(person)] if person.email else []
    return {
        "object": "user",
        "id": person.id,
        "username": person.username or None,
        "first_name": person.given_name or None,
        "last_name": person.family_name or None,
        "image_url": person.picture,
        "has_image": bool(person.image_url),
        "primary_email_address_id": emails[0]["id"] if emails else None,
        "email_addresses": emails,
        "primary_phone_number_id": None,
        "phone_numbers": [],
        "primary_web3_wallet_id": None,
        "web3_wallets": [],
        "external_accounts": [],
        "external_id": person.external_id or None,
        "password_enabled": True,
        "two_factor_enabled": False,
        "public_metadata": dict(person.public_metadata),
        "private_metadata": dict(person.private_metadata),
        "unsafe_metadata": dict(person.unsafe_metadata),
        "banned": person.banned,
        "locked": person.locked,
        "last_sign_in_at": None,
        "created_at": person.created_at,
        "updated_at": person.updated_at,
    }


def _email(person: Person) -> dict[str, Any]:
    return {
        "object": "email_address",
        "id": f"idn_{person.id.removeprefix('user_')}",
        "email_address": person.email,
        "reserved": False,
        "verification": {"status": "verified" if person.email_verified else "unverified", "strategy": "email_code"},
        "linked_to": [],
    }


def organisation_json(organisation: Organisation, *, members: int) -> dict[str, Any]:
    """Write an organisation with its number of members."""
    return {
        "object": "organization",
        "id": organisation.id,
        "name": organisation.name,
        "slug": organisation.slug,
        "image_url": organisation.image_url or f"https://img.example/{organisation.id}.png",
        "has_image": bool(organisation.image_url),
        "members_count": members,
        "max_allowed_memberships": 100,
        "admin_delete_enabled": True,
        "public_metadata": dict(organisation.public_metadata),
        "private_metadata": dict(organisation.private_metadata),
        "created_at": organisation.created_at,
        "updated_at": organisation.updated_at,
    }


def membership_json(person: Person, held: Membership, *, members: int) -> dict[str, Any]:
    """Write a membership; `members` is the number of the organisation's."""
    return {
        "object": "organization_membership",
        "id": held.id,
        "role": held.role,
        "role_name": held.role.removeprefix("org:").capitalize(),
        "permissions": list(ROLE_PERMISSIONS.get(held.role, ())),
        "public_metadata": dict(held.public_metadata),
        "private_metadata": dict(held.private_metadata),
        "organization": organisation_json(held.organisation, members=members),
        "public_user_data": {
            "user_id": person.id,
            "first_name": person.given_name or None,
            "last_name": person.family_name or None,
            "image_url": person.picture,
            "has_image": bool(person.image_url),
            "identifier": person.email or person.username or person.id,
        },
        "created_at": held.created_at,
        "updated_at": held.updated_at,
    }


def session_json(session: Session, *, org_id: str | None = None) -> dict[str, Any]:
    """Write a session, `org_id` being the organisation it was last in."""
    return {
        "object": "session",
        "id": session.id,
        "client_id": f"client_{session.id.removeprefix('sess_')}",
        "user_id": session.user_id,
        "status": session.status,
        "actor": None,
        "last_active_organization_id": org_id,
        "last_active_at": session.updated_at,
        "expire_at": session.created_at + SESSION_LIFE_MS,
        "abandon_at": session.created_at + 4 * SESSION_LIFE_MS,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }


def deleted_json(kind: str, key: str, external_id: str = "") -> dict[str, Any]:
    """Write what is left of a user or organisation that was deleted."""
    return {"object": kind, "id": key, "deleted": True} | ({"external_id": external_id} if external_id else {})


def event_json(kind: str, data: Mapping[str, Any], *, at: int, instance: str) -> dict[str, Any]:
    """Write the body of a webhook; `at` in ms."""
    return {
        "data": dict(data),
        "event_attributes": {"http_request": HTTP_REQUEST},
        "instance_id": instance,
        "object": "event",
        "timestamp": at,
        "type": kind,
    }
