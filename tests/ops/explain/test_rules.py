from dataclasses import fields
from typing import Any

import pytest

from gateway.core.policy import Admission, Requirement
from gateway.ops.explain.request import Asked
from gateway.ops.explain.rules import KEYS
from gateway.ops.explain.step import BAD, GOOD, NOTE
from tests.fakes.gateway import APP, CLERK
from tests.ops.explain.conftest import NOW, explained, story

ACME: dict[str, Any] = {
    "o": {"id": "org_1", "slg": "acme", "rol": "member", "per": "read", "fpm": "1"}, "fea": "o:teams", "pla": "u:free",
}  # fmt: skip


async def under(rule: dict[str, Any], *, route: dict[str, Any] | None = None, **claims: Any):
    routes = [{"name": "rest", "path": "/*", "upstream": "api", "require": rule} | (route or {})]
    return await story(asked=Asked("GET", "/x", CLERK.session_token(NOW, **claims)), routes=routes)


@pytest.mark.parametrize(
    ("rule", "key", "step"),
    [
        ({"role": "admin"}, "role", (BAD, "org:member, asked: org:admin (role)")),
        ({"role": ["member", "admin"]}, "role", (GOOD, "org:member, asked: one of org:admin, org:member")),
        ({"permission": "teams:write"}, "permission", (BAD, "org:teams:read, asked: org:teams:write (permission)")),
        ({"org": True}, "org", (GOOD, "org_1, asked: any")),
        ({"org": "other"}, "org", (BAD, "org_1, acme, asked: other (org)")),
        ({"plan": "pro"}, "plan", (BAD, "u:free, asked: one of o:pro, u:pro (plan)")),
        ({"feature": "o:teams"}, "feature", (GOOD, "o:teams, asked: o:teams")),
        ({"claims": {"pla": "u:free"}}, "claims", (GOOD, "pla 'u:free', asked: u:free")),
        ({"claims": {"a.b": True}}, "claims", (BAD, "a.b not said, asked: True (claims: a.b)")),
        ({"max_age_min": 10}, "max_age_min", (BAD, "first factor used 11 min ago, asked: less than 10 min (max_age)")),
        ({"max_age_min": {"second": 5}}, "max_age_min", (BAD, "second factor never used, asked: less than 5 min (max_age)")),
    ],
)  # fmt: skip
async def test_each_key_says_what_is_asked_and_what_the_token_says(rule, key, step):
    told = await under(rule, fva=[11, -1], **ACME)
    assert explained(told, f"require.{key}") == [step]


async def test_all_keys_are_told_not_only_the_first_that_fails():
    told = await under({"role": "admin", "plan": "pro", "max_age_min": 10}, **ACME)
    assert [(step.stage, step.outcome) for step in told.steps if step.stage.startswith("require")] == [
        ("require.role", BAD), ("require.plan", BAD), ("require.max_age_min", GOOD),
    ]  # fmt: skip
    assert told.verdict.reason == "role"


async def test_a_session_that_is_too_old_says_what_the_page_will_ask_for():
    told = await under({"max_age_min": {"first": 60, "second": 5}}, fva=[0, 5])
    assert told.verdict.detail == "the page is told to ask for second_factor, used less than 5 min ago"
    assert "useReverification" in told.verdict.remedy


async def test_somebody_acting_is_told_wherever_it_matters():
    refused = {"allow_impersonation": False}
    assert explained(await under({}, route=refused), "impersonation") == [
        (GOOD, "nobody acts for the user; allow_impersonation: false")
    ]
    assert explained(await under({}, act={"sub": "user_s"}), "impersonation") == [
        (GOOD, "user_s acts for the user; allow_impersonation: true")
    ]
    assert explained(await under({}, route=refused, act={}), "impersonation") == [
        (BAD, "somebody acts for the user; allow_impersonation: false (impersonation)")
    ]
    assert explained(await under({}), "impersonation") == []


async def test_what_a_route_takes_at_all_is_told():
    route = {"token": ["session", "template"], "audience": ["convex"]}
    told = await under({}, route=route, aud="other")
    assert explained(told, "route.token") == [(GOOD, "session, asked: one of session, template")]
    assert explained(told, "route.audience") == [
        (BAD, "other, asked: convex (token-verification-failed: not meant for the route's audience)")
    ]
    assert explained(await under({}, sts="pending"), "route.allow_pending") == [
        (BAD, "the session is pending; allow_pending: false (session-pending)")
    ]
    pending = await under({}, route={"allow_pending": True}, sts="pending")
    assert explained(pending, "route.allow_pending") == [(GOOD, "the session is pending; allow_pending: true")]


async def test_a_cookie_is_told_by_its_age_and_its_page():
    token = CLERK.session_token(NOW)
    line = f"Cookie: __session={token}; __client_uat={int(NOW) + 1}"
    told = await story(asked=Asked("POST", "/x", origin="https://evil.example", headers=(line,)))
    assert explained(told, "cookie") == [
        (BAD, f"iat {NOW:.0f}, __client_uat {NOW + 1:.0f}: the token must not be the older one "
              "(session-token-iat-before-client-uat)")
    ]  # fmt: skip
    assert explained(told, "origin") == [(BAD, "POST with a cookie, from https://evil.example (origin)")]
    line = f"Cookie: __session={token}; __client_uat={int(NOW)}"
    told = await story(asked=Asked("POST", "/x", origin=APP, headers=(line,)))
    assert explained(told, "origin") == [(GOOD, f"POST with a cookie, from {APP}")]
    told = await story(asked=Asked("GET", "/x", headers=(line,)))
    assert explained(told, "origin") == [(GOOD, "GET with a cookie, from no Origin")]


async def test_nothing_is_known_to_be_revoked_where_nothing_is_kept():
    assert explained(await under({}), "revocation") == [
        (NOTE, "not looked at: no store is kept, so only the running gateway knows")
    ]


def test_every_key_of_a_rule_has_the_name_that_the_configuration_has_for_it():
    names = {each.name for kind in (Admission, Requirement) for each in fields(kind) if each.init}
    assert names - KEYS.keys() == {"audience", "issuer", "allow_pending", "allow_impersonation"}
