import io

import pytest

from gateway.errors import StoreDown
from gateway.ops.doctor.evidence import read_evidence
from gateway.ops.doctor.examine import examine
from gateway.ops.doctor.facts import Facts
from gateway.ops.doctor.instances import instances_of
from gateway.ops.doctor.upstreams import questions
from gateway.store.look import Look
from gateway.store.migrations import LATEST
from tests.config.files import APP
from tests.ops.doctor.scene import of
from tests.ops.doctor.world import CLERK, KEYED, NOW, answer, configured, jwks_of, levels, said

ISSUER = CLERK.issuer
KEYS = answer(200, jwks_of(CLERK), offset_s=0.2)


def examined(facts=None, *, clerk=KEYED, evidence=None, **sections):
    config = configured(clerk=clerk, **sections)
    facts = facts or Facts(key_sets={ISSUER: KEYS}, backends={ISSUER: KEYS})
    return examine(config, instances_of(config), facts, read_evidence(**(evidence or {})), now=NOW)


def test_what_others_hang_on_comes_first():
    found = examined(evidence={"token": CLERK.session_token(NOW), "origin": APP, "url": "/x"})
    subjects = list(dict.fromkeys(each.subject for each in found))
    assert subjects == [
        "keys",
        "Backend API",
        "instance",
        "clock",
        "store",
        "webhooks",
        "gateway",
        "url",
        "origin",
        "token",
    ]


def test_without_facts_nothing_is_made_up():
    found = examined(Facts())
    assert set(levels(found)) == {"skipped"}
    assert levels(examined(Facts(late=["keys", "keys", "store"]))).count("error") == 2


def test_an_answer_that_is_late_is_an_error_with_a_remedy():
    (late,) = of(examined(Facts(late=["store"])), "store")[-1:]
    assert (late.level, late.found) == ("error", "no answer in time")
    assert late.remedy


def test_a_fault_of_its_own_is_said():
    (broken,) = of(examined(Facts(broken={"admin": "KeyError"})), "admin")
    assert (broken.level, "KeyError" in broken.found) == ("error", True)


def test_the_clock_is_read_from_clerk_alone_and_upstreams_by_it():
    config = configured()
    asked = [(question, answer(200, offset_s=-400.0)) for question in questions(config)]
    found = examined(Facts(key_sets={ISSUER: KEYS}, endpoints=asked))
    assert levels(of(found, "clock")) == ["ok"]
    assert "behind" in said(of(found, "upstream api"))
    down = Facts(key_sets={ISSUER: answer(502, offset_s=999.0)})
    assert levels(of(examined(down), "clock")) == ["skipped"]  # a proxy's, not Clerk's


def test_the_least_leeway_of_several_counts():
    several = "[{name: a, issuer: clerk.example.com, clock_skew_s: 60}, {name: b, issuer: clerk.other.example, clock_skew_s: 1}]"
    facts = Facts(key_sets={ISSUER: answer(200, jwks_of(CLERK), offset_s=10.0)})
    assert levels(of(examined(facts, clerk="{}", issuers=several), "clock")) == ["error"]


def test_where_no_token_is_read_no_clock_is_compared():
    public = "[{path: /*, upstream: api, auth: public}]"
    found = examined(Facts(), clerk="{}", routes=public)
    assert of(found, "clock") == []


@pytest.mark.parametrize(
    ("clerk", "seen", "told"),
    [
        pytest.param("{issuer: clerk.example.com}", Look(version=LATEST, dead=0), True, id="not-in-the-directory"),
        pytest.param("{issuer: clerk.example.com}", StoreDown(), True, id="directory-away"),
        pytest.param(KEYED, Look(version=LATEST, dead=0), False, id="clerk-is-asked"),
    ],
)
def test_what_a_token_lacks_is_said_where_nobody_adds_it(clerk, seen, told):
    facts = Facts(key_sets={ISSUER: KEYS}, store=seen)
    found = examined(facts, clerk=clerk, evidence={"token": CLERK.session_token(NOW)})
    assert ("no claim email or name" in said(of(found, "token"))) is told


def test_a_token_in_a_cookie_is_judged_as_one():
    good, expired = CLERK.session_token(NOW), CLERK.session_token(NOW - 900)
    assert levels(of(examined(evidence={"cookie": f"__session={good}; __client_uat=5"}), "token")) == ["ok"]
    assert "expired" in said(of(examined(evidence={"cookie": f"__session={expired}; __client_uat=5"}), "token"))
    both = examined(evidence={"cookie": f"__session={expired}; __client_uat=5", "token": good})
    assert levels(of(both, "token")) == ["ok"]
    assert "are not looked at" in said(of(both, "cookies"))
    assert of(examined(evidence={"cookie": "a=b"}), "token") == []


def test_a_machines_token_names_no_user():
    found = examined(evidence={"token": CLERK.session_token(NOW, sub="mch_1")})
    assert of(found, "user directory") == []


def test_instance_ids_are_compared_where_webhooks_are_taken():
    clerk = "{issuer: clerk.example.com, instance_id: ins_x, webhook_signing_secrets: [whsec_c2VjcmV0c2VjcmV0c2VjcmV0]}"
    assert "instance_id is ins_x" in said(of(examined(clerk=clerk), "webhooks"))
    off = "{issuer: clerk.example.com, instance_id: ins_x}"
    assert "instance_id" not in said(of(examined(clerk=off), "webhooks"))


def test_a_log_is_judged():
    line = b'{"event": "request", "path": "/x", "reason": "token-invalid-issuer"}'
    assert levels(of(examined(evidence={"log": io.BytesIO(line)}), "log")) == ["error"]
    assert of(examined(), "log") == []
