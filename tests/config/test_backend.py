import pytest

from gateway.config.backend import FORM
from gateway.core.model import BackendAddress
from gateway.core.reconcile import SyncPolicy
from tests.config.files import APP, KEY, findings, loaded, only, publishable_key, written

SECRET = "sk_live_abcdefgh"


def clerk(secret: str | None = SECRET, *, known: str = f"publishable_key: {KEY}", more: str = "") -> str:
    """The section with a secret key."""
    return f"{{{known}, authorized_parties: [{APP}], secret_key: {secret or 'null'}{more}}}"


def test_without_a_key_nothing_is_asked():
    config = loaded(written())
    assert config.backend is None
    assert config.sync == SyncPolicy(0)


def test_every_setting_counts():
    text = written(clerk=clerk(more=", api_url: https://api.example.com/"), sync="{every_h: 24}")
    config = loaded(text)
    assert config.backend == BackendAddress("https://api.example.com", SECRET)
    assert config.sync == SyncPolicy(24)
    assert config.needs_store
    assert SECRET not in repr(config)


def test_the_default_is_clerks_own_address():
    backend = loaded(written(clerk=clerk())).backend
    assert backend is not None
    assert backend.url == "https://api.clerk.com"


@pytest.mark.parametrize(
    "secret",
    ["whatever", "sk_live_", "sk_live_a b c d e f", "sk_other_abcdefgh", "whsec_abcdefgh", "sk_live_abcdefghü"],
)
def test_what_is_no_secret_key_is_refused_without_showing_it(secret):
    assert FORM.fullmatch(secret) is None
    finding = only(written(clerk=clerk(f'"{secret}"'), sync="{every_h: 24}"))
    assert (finding.key, finding.level) == ("clerk.secret_key", "error")
    assert "is not a secret key" in finding.message
    assert secret not in str(finding)


@pytest.mark.parametrize(
    ("known", "secret", "kinds"),
    [
        pytest.param(f"publishable_key: {KEY}", "sk_test_abcdefgh", "development instance, but tokens are taken of a production one", id="test-with-live"),
        pytest.param(
            f"publishable_key: {publishable_key('a.clerk.accounts.dev', 'test')}", SECRET,
            "production instance, but tokens are taken of a development one", id="live-with-test",
        ),
        pytest.param("issuer: a.clerk.accounts.dev", SECRET, "production instance", id="live-with-development-issuer"),
        pytest.param("issuer: https://a.clerk.accounts.dev/", SECRET, "production instance", id="written-out"),
    ],
)  # fmt: skip
def test_keys_of_two_instances_are_refused(known, secret, kinds):
    finding = only(written(clerk=clerk(secret, known=known)))
    assert (finding.key, finding.level) == ("clerk.secret_key", "error")
    assert kinds in finding.message


@pytest.mark.parametrize("known", ["issuer: clerk.example.com", f"publishable_key: {KEY}"])
def test_keys_that_may_belong_together(known):
    assert findings(written(clerk=clerk(known=known))) == ()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.clerk.com", "must be https"),
        ("https://169.254.169.254", "link-local"),
        ("https://user:pw@api.clerk.com", "must not carry a user or password"),
        ("ftp://api.clerk.com", "must begin with"),
    ],
)
def test_the_key_is_not_sent_just_anywhere(url, why):
    finding = only(written(clerk=clerk(more=f", api_url: '{url}'"), sync="{every_h: 24}"))
    assert (finding.key, finding.level) == ("clerk.api_url", "error")
    assert why in finding.message


def test_a_stand_in_may_be_on_this_machine():
    backend = loaded(written(clerk=clerk(more=", api_url: 'http://127.0.0.1:9000'"))).backend
    assert backend is not None
    assert backend.url == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        pytest.param({"sync": "{every_h: 24}"}, "needs clerk.secret_key", id="without-key"),
        pytest.param({"clerk": clerk(), "sync": "{every_h: 24}", "store": "{url: null}", "identity": "{enrich: false}"}, "needs store.url", id="without-store"),
        pytest.param({"clerk": clerk(), "sync": "{every_h: 0.01}"}, "must be 0 (never), or 0.1 to 8760 hours", id="too-often"),
        pytest.param({"clerk": clerk(), "sync": "{every_h: 9999}"}, "must be 0 (never)", id="hardly-ever"),
    ],
)  # fmt: skip
def test_a_schedule_has_what_it_needs(sections, message):
    found = [finding for finding in findings(written(**sections)) if finding.key == "sync.every_h"]
    assert [finding.level for finding in found] == ["error"]
    assert found[0].message.startswith(message)
    assert found[0].remedy
