import pytest

from gateway.config.webhooks import read_store
from gateway.core.events import Sender, WebhookPolicy
from gateway.core.model import StoreAddress
from tests.config.files import findings, loaded, only, written

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
CLERK = "{issuer: clerk.example.com, authorized_parties: [https://a.example], webhook_signing_secrets: [%s]}"
SIGNED = CLERK % SECRET


def test_defaults_are_the_contracts():
    config = loaded(written())
    assert config.store == StoreAddress("sqlite:///gateway.db")
    assert config.webhooks == WebhookPolicy(paths=("/webhooks/clerk", "/clerk-webhook"))
    assert not config.webhooks.needs_store


def test_every_setting_counts():
    config = loaded(
        written(
            clerk="{issuer: clerk.example.com, authorized_parties: [https://a.example], instance_id: ins_1,"
            f" webhook_signing_secrets: '{SECRET}, {SECRET[:-1]}1'}}",
            store="{url: 'postgresql://gw:pw@db/gateway?sslmode=require'}",
            webhooks="{path: /in, aliases: [/in, /b/c], max_body_bytes: 2048, private_metadata: true, retention_days: 7}",
        )
    )
    assert config.webhooks == WebhookPolicy(
        paths=("/in", "/b/c"), senders=(Sender("clerk", (SECRET, SECRET[:-1] + "1"), "ins_1"),), max_body_bytes=2048,
        private_metadata=True, retention_days=7,
    )  # fmt: skip
    assert config.webhooks.needs_store


def test_without_a_path_there_is_nothing():
    webhooks = loaded(written(clerk=SIGNED, webhooks="{path: null}", store="{url: null}")).webhooks
    assert webhooks.paths == ()
    assert not webhooks.needs_store


def test_no_secret_is_shown():
    config = loaded(written(clerk=SIGNED, store="{url: 'postgresql://gw:hunter2@db/gateway'}"))
    assert SECRET[6:] not in repr(config)
    assert "hunter2" not in repr(config)
    assert str(config.store) == "postgresql://…@db/gateway"


@pytest.mark.parametrize(
    ("sections", "key", "said"),
    [
        pytest.param({"clerk": SIGNED, "store": "{url: null}"}, "store.url", "is required", id="no-store"),
        pytest.param({"store": "{url: 'mysql://h/d'}"}, "store.url", "neither SQLite nor", id="another-database"),
        pytest.param({"store": "{url: 'postgresql://'}"}, "store.url", "names no host", id="no-host"),
        pytest.param({"webhooks": "{path: in}"}, "webhooks.path", "plain path", id="relative"),
        pytest.param({"webhooks": "{path: /in/*}"}, "webhooks.path", "plain path", id="pattern"),
        pytest.param({"webhooks": "{path: '/{x}'}"}, "webhooks.path", "plain path", id="braces"),
        pytest.param({"webhooks": "{path: /a/../b}"}, "webhooks.path", "plain path", id="dots"),
        pytest.param({"webhooks": "{path: /a%2e}"}, "webhooks.path", "plain path", id="encoded"),
        pytest.param({"webhooks": "{path: /readyz}"}, "webhooks.path", "own addresses", id="taken"),
        pytest.param({"webhooks": "{aliases: [/a, /b*c]}"}, "webhooks.aliases[1]", "plain path", id="alias"),
        pytest.param({"webhooks": "{max_body_bytes: 0}"}, "webhooks.max_body_bytes", "1024", id="unbounded"),
        pytest.param(
            {"clerk": CLERK % "sk_live_abcdefgh"},
            "clerk.webhook_signing_secrets[0]",
            "signing secret",
            id="another-key",
        ),
        pytest.param({"clerk": CLERK % "whsec_"}, "clerk.webhook_signing_secrets[0]", "signing secret", id="empty"),
        pytest.param(
            {"clerk": CLERK % "whsec_a*b"}, "clerk.webhook_signing_secrets[0]", "signing secret", id="not-base64"
        ),
        pytest.param(
            {"clerk": CLERK[:-1] % SECRET + ", instance_id: app_1}"}, "clerk.instance_id", "ins_", id="instance"
        ),
    ],
)
def test_what_cannot_work_is_refused(sections, key, said):
    finding = only(written(**sections))
    assert (finding.key, finding.level) == (key, "error")
    assert said in f"{finding.message} {finding.remedy}"


def test_a_short_secret_is_insecure():
    finding = only(written(clerk=CLERK % "whsec_c2hvcnQ="))
    assert (finding.key, finding.level) == ("clerk.webhook_signing_secrets[0]", "insecure")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///gateway.db",
        "sqlite:////var/lib/gateway/gateway.db",
        "postgresql://h/d",
        "postgresql://u:p%40@[::1]:5432/d?x=1",
    ],
)
def test_stores_there_are(url):
    assert read_store(url).url == url


@pytest.mark.parametrize(
    "url",
    ["", "gateway.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://gateway.db", "sqlite:///a?b=c",
     "postgresql:///d", "postgresql://h", "postgresql://h:x/d", "postgresql://[h/d"],
)  # fmt: skip
def test_stores_there_are_not(url):
    with pytest.raises(ValueError, match="write sqlite:///FILE"):
        read_store(url)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [("postgresql+asyncpg://u:hunter2@h/d", "postgresql"), ("postgres://h/d", "postgresql"),
     ("sqlite+aiosqlite:///gateway.db", "sqlite")],
)  # fmt: skip
def test_a_driver_is_not_named(url, remedy):
    finding = only(written(store=f"{{url: '{url}'}}"))
    assert (finding.key, finding.level) == ("store.url", "error")
    assert f"so write {remedy}://" in finding.message
    assert "hunter2" not in str(finding)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    finding = only(written(store=f"{{url: 'sqlite:///{tmp_path}/none/g.db'}}"))
    assert (finding.key, finding.level) == ("store.url", "warning")
    assert f"{tmp_path}/none" in finding.message
    for url in (f"sqlite:///{tmp_path}/g.db", "sqlite:///g.db", "postgresql://h/none/d"):
        assert findings(written(store=f"{{url: '{url}'}}")) == ()


def test_with_no_retention_there_is_nothing_to_replay():
    finding = only(written(webhooks="{retention_days: 0}"))
    assert (finding.key, finding.level) == ("webhooks.retention_days", "warning")
    assert "replay" in finding.message
    assert findings(written(webhooks="{retention_days: 1}")) == ()


def test_nothing_is_kept_for_lifetimes():
    assert findings(written(webhooks="{retention_days: 3650}")) == ()
    finding = only(written(webhooks="{retention_days: 3651}"))
    assert (finding.key, finding.level) == ("webhooks.retention_days", "error")
    assert "3650" in finding.message


def test_a_refused_store_is_not_quoted():
    shown = " ".join(str(finding) for finding in findings(written(store="{url: 'mysql://u:hunter2@h/d'}")))
    assert "hunter2" not in shown
