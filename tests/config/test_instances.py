"""Several Clerk instances in one file."""

import pytest

from tests.config.files import APP, findings, loaded, only, written

PARTIES = f"authorized_parties: [{APP}]"
ONE = f"{{name: one, issuer: one.example, {PARTIES}}}"
TWO = f"{{name: two, issuer: two.example, {PARTIES}, secret_key: sk_live_abcdefgh, clock_skew_s: 9}}"


def several(*blocks: str, **more: str) -> str:
    """Write the good file with these issuers instead of the one under `clerk`."""
    return written(**({"clerk": "{}", "issuers": f"[{', '.join(blocks)}]"} | more))


def test_each_has_its_own_settings():
    config = loaded(several(ONE, TWO))
    one, two = config.issuers
    assert (one.name, two.name) == ("one", "two")
    assert (one.issuer, two.issuer) == ("https://one.example", "https://two.example")
    assert (one.token_policy.leeway_s, two.token_policy.leeway_s) == (5, 9)
    assert (one.credentials.name, two.credentials.name) == ("one", "two")
    assert one.credentials.cookie_suffix != two.credentials.cookie_suffix
    assert (one.backend, two.backend) == (None, config.backends["two"])
    assert config.issuer is config.backend is None  # which of them nobody said


def test_the_one_under_clerk_has_a_name_too():
    (one,) = loaded(written()).issuers
    assert (one.name, one.key) == ("clerk", "clerk")


def test_a_route_names_the_one_it_takes():
    config = loaded(several(ONE, TWO, routes="[{path: /a, upstream: api, issuer: two}, {path: /*, upstream: api}]"))
    assert [route.admission.issuer for route in config.routes] == ["two", None]


def test_several_instances_have_webhooks_and_no_run_through_their_users():
    one = ONE[:-1] + ", webhook_signing_secrets: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, instance_id: ins_1}"
    two = TWO[:-1] + ", webhook_signing_secrets: whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD, instance_id: ins_2}"
    config = loaded(several(one, two))
    senders = [(sender.issuer, len(sender.secrets), sender.instance) for sender in config.webhooks.senders]
    assert senders == [("one", 1, "ins_1"), ("two", 1, "ins_2")]
    assert only(several(one, two, sync="{every_h: 24}")).key == "sync.every_h"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        pytest.param(several(ONE, clerk="{issuer: x.example}"), "clerk", "stands beside issuers", id="both"),
        pytest.param(several(ONE, "{issuer: two.example}"), "issuers[1].name", "is missing", id="no-name"),
        pytest.param(several(ONE, TWO.replace("two,", "one,")), "issuers[1].name", "Give each a name", id="same-name"),
        pytest.param(several(ONE, TWO.replace("two,", "'a b',")), "issuers[1].name", "letters", id="bad-name"),
        pytest.param(several(ONE, f"{{name: b, {PARTIES}}}"), "issuers[1]", "no Clerk instance", id="nobody"),
        pytest.param(
            several(ONE, TWO.replace("two.", "one.")), "issuers[1]", 'the instance "one"', id="the-same-twice"
        ),
        pytest.param(
            several(ONE, TWO, routes="[{path: /*, upstream: api, issuer: tow}]"),
            "routes[0].issuer",
            "no issuer",
            id="typo",
        ),
        pytest.param(
            written(routes="[{path: /*, upstream: api, issuer: clerk}]"), "routes[0].issuer", "no issuers", id="none"
        ),
        pytest.param(
            several(ONE, TWO.replace("sk_live_abcdefgh", "abc")), "issuers[1].secret_key", "not a secret key", id="key"
        ),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(text: str, key: str, words: str):
    found = [finding for finding in findings(text) if finding.level == "error"]
    assert [finding.key for finding in found] == [key]
    assert words in found[0].message + str(found[0].remedy)


def test_a_route_that_nobody_is_identified_on_needs_no_issuer():
    routes = "[{path: /*, upstream: api, auth: public, issuer: one}]"
    assert "routes[0].issuer" in [finding.key for finding in findings(several(ONE, routes=routes))]


def test_of_issuers_that_cannot_be_read_routes_are_not_said_to_name_none():
    finding = only(written(clerk="{}", issuers="one", routes="[{path: /*, upstream: api, issuer: one}]"))
    assert (finding.key, finding.message) == ("issuers", "must be a list")


def test_names_are_listed_once():
    blocks = (ONE, TWO.replace("two,", "one,"))
    routes = "[{path: /*, upstream: api, issuer: staff}]"
    (finding,) = [each for each in findings(several(*blocks, routes=routes)) if each.key == "routes[0].issuer"]
    assert finding.remedy == "Issuers are: one"
