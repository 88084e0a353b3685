import pytest

from gateway.config.identity import FIXED
from gateway.core.identity import IdentityPolicy, identity_fields
from gateway.core.model import Principal
from tests.config.files import findings, loaded, only, written


def test_a_policy_is_as_written():
    config = loaded(
        written(identity="{prefix: X-Me-, headers: {X-Tier: public_metadata.tier, X-Me-Plan: pla}, max_bytes: 4096}")
    )
    headers = (("X-Tier", "public_metadata.tier"), ("X-Me-Plan", "pla"))
    assert config.identity == IdentityPolicy("X-Me-", headers, 4096, enrich=True, assertion_header="X-Me-Assertion")


@pytest.mark.parametrize(
    ("blocks", "enrich"),
    [
        pytest.param({}, True, id="by-default"),
        pytest.param({"identity": "{enrich: false}"}, False, id="off"),
        pytest.param({"store": "{url: null}"}, False, id="without-a-store"),
        pytest.param({"routes": "[{path: /*, upstream: api, auth: public}]"}, False, id="nobody-is-identified"),
    ],
)
def test_who_is_known_is_said_where_there_is_a_directory(blocks, enrich):
    config = loaded(written(**({"identity": "{}"} | blocks)))
    assert (config.identity.enrich, config.needs_store) == (enrich, enrich)


def test_enrichment_that_is_asked_for_needs_a_store():
    assert "store.url is null" in str(loaded(written(identity="{enrich: true}", store="{url: null}")).warnings)
    assert not loaded(written(store="{url: null}")).warnings


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        pytest.param("{prefix: ''}", "identity.prefix", "never be empty", id="no-prefix"),
        pytest.param("{prefix: -User-}", "identity.prefix", "begin with a letter", id="dash-first"),
        pytest.param("{prefix: 'X User'}", "identity.prefix", "letters, digits and dashes", id="blank"),
        pytest.param("{prefix: X-User_}", "identity.prefix", "letters, digits and dashes", id="underscore"),
        pytest.param("{prefix: X-}", "identity.prefix", "would take X-Requested-With away", id="takes-others"),
        pytest.param("{prefix: Content-}", "identity.prefix", "would take", id="takes-content-type"),
        pytest.param("{prefix: A}", "identity.prefix", "would take Accept away", id="takes-accept"),
        pytest.param("{headers: {'a b': x}}", "identity.headers.a b", "is not a header name", id="no-header-name"),
        pytest.param("{headers: {Host: x}}", "identity.headers.Host", "meaning of its own", id="host"),
        pytest.param(
            "{headers: {content_length: x}}", "identity.headers.content_length", "meaning of its own", id="length"
        ),
        pytest.param(
            "{headers: {Connection: x}}", "identity.headers.Connection", "meaning of its own", id="hop-by-hop"
        ),
        pytest.param(
            "{headers: {Authorization: x}}", "identity.headers.Authorization", "meaning of", id="authorization"
        ),
        pytest.param("{headers: {Cookie: x}}", "identity.headers.Cookie", "meaning of", id="cookie"),
        pytest.param(
            "{headers: {X-Forwarded-User: x}}", "identity.headers.X-Forwarded-User", "meaning of", id="forwarded"
        ),
        pytest.param("{headers: {Remote-User: x}}", "identity.headers.Remote-User", "meaning of", id="remote-user"),
        pytest.param("{headers: {X-User-Id: x}}", "identity.headers.X-User-Id", "its own meaning", id="own-name"),
        pytest.param(
            "{headers: {x_user_org_role: x}}", "identity.headers.x_user_org_role", "its own meaning", id="own-spelt"
        ),
        pytest.param("{headers: {X-A: x, x_a: y}}", "identity.headers.x_a", "is given twice", id="twice"),
        pytest.param("{headers: {X-A: ''}}", "identity.headers.X-A", "names no claim", id="no-claim"),
        pytest.param("{headers: {X-A: a..b}}", "identity.headers.X-A", "names no claim", id="no-step"),
        pytest.param(
            "{headers: {X-A: unsafe_metadata.a}}", "identity.headers.X-A", "users say of themselves", id="unsafe"
        ),
        pytest.param("{max_bytes: 100}", "identity.max_bytes", "greater than or equal to 1024", id="small"),
    ],
)
def test_a_wrong_section_is_refused(text, key, fragment):
    finding = only(written(identity=text))
    assert (finding.key, finding.level) == (key, "error")
    assert fragment in finding.message


def test_a_prefix_without_dash_is_noticed():
    finding = only(written(identity="{prefix: X-User}"))
    assert (finding.key, finding.level) == ("identity.prefix", "warning")


def test_unsafe_metadata_is_insecure():
    text = "{allow_unsafe_metadata: true, headers: {X-A: unsafe_metadata.a}}"
    assert [finding.level for finding in findings(written(identity=text))] == ["insecure"]


def test_every_name_the_gateway_gives_is_known_here():
    principal = Principal(
        "user_1", "session", {"email": "a@b.c", "email_verified": True} | dict.fromkeys(NAMES, "x"), frozenset(), 0, 1,
        user_id="u", machine_id="m", session_id="s", org_id="o", org_slug="o", org_role="r", org_permissions=("p",),
        actor="a", scopes=("s",),
    )  # fmt: skip
    given = {name.decode() for name, _ in identity_fields(principal, IdentityPolicy(prefix=""))}
    assert len(given) > 15
    assert given <= set(FIXED)


NAMES = ("name", "given_name", "family_name", "nickname", "picture")


def test_private_metadata_gives_a_header_that_is_always_empty():
    finding = only(written(identity="{headers: {X-Foo: private_metadata.x}}"))
    assert (finding.key, finding.level) == ("identity.headers.X-Foo", "warning")
    assert "always empty" in finding.message
    assert findings(written(identity="{headers: {X-Foo: public_metadata.private_metadata}}")) == ()
