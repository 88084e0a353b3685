import base64

import pytest

from gateway.core.delivery import Subscription
from tests.config.files import findings, loaded, only, written

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
CLERK = "{issuer: clerk.example.com, authorized_parties: [https://a.example], webhook_signing_secrets: [whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI=]}"


def file(webhooks: str, *, url: str = "http://127.0.0.1:3000", clerk: str = CLERK, **more: str) -> str:
    return written(clerk=clerk, upstreams=f"{{api: {{url: '{url}', webhooks: {webhooks}}}}}", **more)


def test_an_upstream_is_told_what_it_asks_for():
    config = loaded(
        file(f"{{path: '/in?x=1', events: ['user.*', session.ended], secret: {SECRET}}}", url="http://a.example/v1/")
    )
    upstream = config.routes[0].upstream
    assert config.subscriptions == (Subscription(upstream, "/v1/in?x=1", ("user.*", "session.ended"), KEY),)
    assert config.subscriptions[0].name == "api"
    assert "secretsecret" not in repr(config)
    assert SECRET not in repr(config)


def test_defaults_are_the_contracts():
    (subscription,) = loaded(file(f"{{events: '*', secret: {SECRET}}}")).subscriptions
    assert (subscription.path, subscription.events) == ("/webhooks/clerk", ("*",))
    assert loaded(written()).subscriptions == ()


def test_events_may_come_from_a_variable():
    (subscription,) = loaded(file("{events: '${E}', secret: '${S}'}"), {"E": "user.*, x.y", "S": SECRET}).subscriptions
    assert subscription.events == ("user.*", "x.y")


@pytest.mark.parametrize(
    ("webhooks", "key", "said"),
    [
        pytest.param(f"{{secret: {SECRET}}}", "events", "is missing", id="no-events"),
        pytest.param(f"{{events: [], secret: {SECRET}}}", "events", "is missing", id="empty-events"),
        pytest.param(f"{{events: ['user.*', 'user*'], secret: {SECRET}}}", "events[1]", "last part", id="bad-pattern"),
        pytest.param(f"{{events: ['*.created'], secret: {SECRET}}}", "events[0]", "last part", id="star-first"),
        pytest.param("{events: ['*']}", "secret", "is missing", id="no-secret"),
        pytest.param("{events: ['*'], secret: sk_live_abcdefgh}", "secret", "openssl rand", id="another-key"),
        pytest.param("{events: ['*'], secret: whsec_}", "secret", "signing secret", id="empty-secret"),
        pytest.param("{events: ['*'], secret: whsec_a*b}", "secret", "signing secret", id="not-base64"),
        pytest.param(f"{{path: in, events: ['*'], secret: {SECRET}}}", "path", "such as", id="relative"),
        pytest.param(f"{{path: 'http://b/in', events: ['*'], secret: {SECRET}}}", "path", "such as", id="another-host"),
        pytest.param(
            f"{{path: '//b/in', events: ['*'], secret: {SECRET}}}", "path", "such as", id="another-host-still"
        ),
        pytest.param(f"{{path: '/a/../b', events: ['*'], secret: {SECRET}}}", "path", "such as", id="dots"),
        pytest.param(f"{{path: '/a b', events: ['*'], secret: {SECRET}}}", "path", "such as", id="blank"),
        pytest.param(f"{{path: '/a#b', events: ['*'], secret: {SECRET}}}", "path", "such as", id="fragment"),
        pytest.param(f"{{path: '/ä', events: ['*'], secret: {SECRET}}}", "path", "such as", id="not-ascii"),
    ],
)
def test_what_cannot_work_is_refused(webhooks: str, key: str, said: str):
    finding = only(file(webhooks))
    assert (finding.key, finding.level) == (f"upstreams.api.webhooks.{key}", "error")
    assert said in f"{finding.message} {finding.remedy}"


def test_everything_is_said_at_once():
    assert {finding.key.rpartition(".")[2] for finding in findings(file("{path: x}"))} == {"path", "events", "secret"}


def test_a_short_secret_is_insecure():
    finding = only(file("{events: ['*'], secret: whsec_c2hvcnQ=}"))
    assert (finding.key, finding.level) == ("upstreams.api.webhooks.secret", "insecure")


def test_without_webhooks_coming_in_there_is_nothing_to_deliver():
    clerk = "{issuer: clerk.example.com, authorized_parties: [https://a.example]}"
    finding = only(file(f"{{events: ['*'], secret: {SECRET}}}", clerk=clerk))
    assert (finding.key, finding.level) == ("upstreams.api.webhooks", "warning")
    assert "CLERK_WEBHOOK_SIGNING_SECRET" in str(finding.remedy)


def test_an_upstream_may_be_there_for_deliveries_alone():
    both = f"{{api: {{url: http://a}}, mail: {{url: http://b, webhooks: {{events: '*', secret: {SECRET}}}}}}}"
    config = loaded(written(clerk=CLERK, upstreams=both))
    assert [subscription.name for subscription in config.subscriptions] == ["mail"]
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("clerk", "named", "not_named"),
    [
        pytest.param(CLERK, "webhooks.path", "webhook_signing_secrets", id="secrets-set"),
        pytest.param(
            "{issuer: clerk.example.com, authorized_parties: [https://a.example]}",
            "webhooks.path (/webhooks/clerk) and clerk.webhook_signing_secrets",
            "null",
            id="neither",
        ),
    ],
)
def test_without_a_path_it_is_the_path_that_is_missing(clerk: str, named: str, not_named: str):
    finding = only(file(f"{{events: ['*'], secret: {SECRET}}}", clerk=clerk) + "webhooks: {path: null}\n")
    assert (finding.key, finding.level) == ("upstreams.api.webhooks", "warning")
    assert named in str(finding.remedy)
    assert not_named not in str(finding.remedy)


@pytest.mark.parametrize("path", ["in", "5", "/readyz"])
def test_a_wrong_path_is_said_once(path: str):
    text = file(f"{{events: ['*'], secret: {SECRET}}}") + f"webhooks: {{path: {path}, aliases: []}}\n"
    assert only(text).key == "webhooks.path"


@pytest.mark.parametrize("secret", ["whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI=", "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI"])
def test_a_secret_of_clerks_is_no_secret_of_an_upstream(secret: str):
    finding = only(file(f"{{events: ['*'], secret: {secret}}}"))
    assert (finding.key, finding.level) == ("upstreams.api.webhooks.secret", "insecure")
    assert "clerk.webhook_signing_secrets" in finding.message


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("user.updatd", "user.updated"), ("User.Created", "user.created"), ("users.*", "user.*"), ("user", "user.*"),
        ("organizationmembership.created", "organizationMembership.created"),
    ],
)  # fmt: skip
def test_a_type_that_clerk_does_not_have_is_noticed(pattern: str, meant: str):
    text = file(f"{{events: ['user.*', {pattern}], secret: {SECRET}}}")
    finding = only(text)
    assert (finding.key, finding.level) == ("upstreams.api.webhooks.events[1]", "warning")
    assert finding.remedy == f'Did you mean "{meant}"?'
    assert loaded(text).subscriptions[0].events == ("user.*", pattern)


def test_a_type_that_resembles_none_may_be_new():
    finding = only(file(f"{{events: [quux.begun], secret: {SECRET}}}"))
    assert (finding.level, "Event Catalog" in str(finding.remedy)) == ("warning", True)


def test_types_that_clerk_has_are_not_remarked_on():
    text = file(f"{{events: ['*', session.ended, 'organization.*', subscriptionItem.pastDue], secret: {SECRET}}}")
    assert findings(text) == ()
