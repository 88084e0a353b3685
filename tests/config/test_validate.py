import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Config, Unreadable, load_text
from gateway.errors import ConfigError
from tests.config.contract import EVERY_KEY
from tests.config.files import findings, only, shown, written

SECRET = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("sections", "key", "message", "remedy"),
    [
        pytest.param({"listn": "{}"}, "listn", "unknown key", 'Did you mean "listen"?', id="section"),
        pytest.param(
            {"clerk": "{issuer: a.example, authorised_parties: [x]}"},
            "clerk.authorised_parties",
            "unknown key",
            'Did you mean "authorized_parties"?',
            id="in-section",
        ),
        pytest.param(
            {"routes": "[{path: /*, upstream: api, requier: {}}]"},
            "routes[0].requier",
            "unknown key",
            'Did you mean "require"?',
            id="in-list",
        ),
        pytest.param(
            {"routes": "[{path: /*, upstream: api, require: {rol: x}}]"},
            "routes[0].require.rol",
            "unknown key",
            'Did you mean "role"?',
            id="in-section-of-list",
        ),
        pytest.param(
            {"upstreams": "{api: {url: http://a, timeouts: {conect_s: 1}}}"},
            "upstreams.api.timeouts.conect_s",
            "unknown key",
            'Did you mean "connect_s"?',
            id="in-mapping",
        ),
        pytest.param(
            {"routes": "[{path: /*, upstream: api, cors: {origin: [https://a.example]}}]"},
            "routes[0].cors.origin",
            "unknown key",
            'Did you mean "origins"?',
            id="in-nullable-section",
        ),
        pytest.param(
            {"routes": "[{path: /*, upstream: api, require: {max_age_min: {frist: 1}}}]"},
            "routes[0].require.max_age_min.frist",
            "unknown key",
            'Did you mean "first"?',
            id="in-key-of-two-forms",
        ),
        pytest.param({"zzz": "1"}, "zzz", "unknown key", None, id="like-nothing"),
        pytest.param({"listen": "{port: fast}"}, "listen.port", "must be a whole number", None, id="number"),
        pytest.param({"listen": "{port: 80.5}"}, "listen.port", "must be a whole number", None, id="fraction"),
        pytest.param({"listen": "{port: true}"}, "listen.port", "must be a number", None, id="flag-as-number"),
        pytest.param({"listen": "{port: [1]}"}, "listen.port", "must be a whole number", None, id="list-as-number"),
        pytest.param(
            {"listen": "{port: 70000}"}, "listen.port", "must be less than or equal to 65535", None, id="port"
        ),
        pytest.param({"drain_s": "soon"}, "drain_s", "must be a number", None, id="seconds"),
        pytest.param({"drain_s": "nan"}, "drain_s", "must be a number", None, id="not-a-number"),
        pytest.param({"drain_s": "-1"}, "drain_s", "must be greater than or equal to 0", None, id="negative"),
        pytest.param({"logs": "{access: yes}"}, "logs.access", "must be true or false", None, id="yes"),
        pytest.param({"logs": "{access: 1}"}, "logs.access", "must be true or false", None, id="one"),
        pytest.param({"logs": "{format: xml}"}, "logs.format", "must be 'json' or 'console'", None, id="choice"),
        pytest.param({"public_url": "5"}, "public_url", "must be text", "Put it in quotes", id="number-as-text"),
        pytest.param({"trusted_proxies": "{}"}, "trusted_proxies", "must be a list", None, id="mapping-as-list"),
        pytest.param({"trusted_proxies": "[5]"}, "trusted_proxies[0]", "must be text", "Put it in quotes", id="item"),
        pytest.param(
            {"listen": "[]"}, "listen", "must be a mapping", "Its keys: host, port, tls", id="list-as-section"
        ),
        pytest.param({"upstreams": "[]"}, "upstreams", "must be a mapping", None, id="list-as-upstreams"),
        pytest.param({"upstreams": "{api: 5}"}, "upstreams.api", "must be a mapping", None, id="number-as-upstream"),
        pytest.param(
            {"upstreams": "{api: {targets: [http://127.0.0.1:3000]}}"},
            "upstreams.api.targets[0]",
            "must be a mapping",
            "Its keys: url, weight",
            id="text-as-target",
        ),
        pytest.param(
            {"rate_limits": "{per_address: 1/s}"},
            "rate_limits.per_address",
            "unknown key",
            "Its keys: by_ip, by_user, by_org, by_machine",
            id="like-no-key-of-a-section",
        ),
        pytest.param({"routes": "[5]"}, "routes[0]", "must be a mapping", None, id="number-as-route"),
        pytest.param({"routes": "{}"}, "routes", "must be a list", None, id="mapping-as-routes"),
        pytest.param({"workers": "many"}, "workers", 'must be a number from 1 to 1024, or "auto"', None, id="workers"),
        pytest.param({"workers": "0"}, "workers", 'must be a number from 1 to 1024, or "auto"', None, id="no-workers"),
        pytest.param(
            {"workers": "true"}, "workers", 'must be a number from 1 to 1024, or "auto"', None, id="true-workers"
        ),
        pytest.param(
            {"rate_limits": "{by_ip: fast}"},
            "rate_limits.by_ip",
            'must be a rate per s, min or h: "100/s", or "1000/min burst 200"',
            None,
            id="rate",
        ),
        pytest.param(
            {"routes": "[{path: /*, upstream: api, require: {claims: {a: [1]}}}]"},
            "routes[0].require.claims.a",
            "must be text, a number, true or false",
            None,
            id="list-as-claim",
        ),
        pytest.param(
            {"routes": "[{path: /*, upstream: api, require: {org: false}}]"},
            "routes[0].require.org",
            "must be true (any organisation), an id or slug, or a list of them",
            None,
            id="org-false",
        ),
        pytest.param(
            {"clerk": "{publishable_key: sk_live_abc, issuer: a.example, authorized_parties: [https://a.example]}"},
            "clerk.publishable_key",
            "this is a secret key, which belongs in secret_key: a publishable key begins with pk_",
            None,
            id="secret-key-as-publishable",
        ),
        pytest.param(
            {"clerk": "{secret_key: pk_live_abc, issuer: a.example, authorized_parties: [https://a.example]}"},
            "clerk.secret_key",
            "this is a publishable key, which belongs in publishable_key: a secret key begins with sk_",
            None,
            id="publishable-key-as-secret",
        ),
    ],
)
def test_a_wrong_value_is_one_finding(sections, key, message, remedy):
    finding = [found for found in findings(written(**sections)) if found.level == "error"]
    assert [(f.key, f.message, f.remedy) for f in finding] == [(key, message, remedy)]


@pytest.mark.parametrize("text", ["5", "[]", "just text"])
def test_a_file_that_is_no_mapping_says_so(text):
    assert [finding.message for finding in findings(text)] == ["the file must be a mapping of keys"]


def test_a_misspelt_key_is_found_with_line_and_remedy():
    text = "routes:\n  - path: /*\n    upstream: api\n    requier: {role: admin}\n"
    found = findings(text + written(routes="").replace("routes: \n", ""))
    assert str(found[0]) == 'gateway.yaml:4: routes[0].requier: unknown key. Did you mean "require"?'


def test_everything_is_found_at_once():
    text = """\
listen: {port: 80a0}
clerk:
  publishable_key: nonsense
  authorized_partys: [https://app.example.com]
  authorized_parties: [https://app.example.com]
upstreams:
  api:
    url: ftp://example.com
    timeouts: {connect_s: fast}
routes:
  - {name: a, path: /a, upstreem: api}
  - {name: a, path: b, upstream: apo, auth: public, require: {role: x}}
trusted_proxies: ["*"]
identity: {prefix: ""}
cors: {origins: ["null"]}
"""
    assert [shown(finding) for finding in findings(text)] == [
        ("error", "listen.port", 1),
        ("error", "clerk.publishable_key", 3),
        ("error", "clerk.authorized_partys", 4),
        ("error", "upstreams.api.url", 8),
        ("error", "upstreams.api.timeouts.connect_s", 9),
        ("error", "routes[0].upstreem", 11),
        ("error", "routes[1].name", 12),
        ("error", "routes[1].upstream", 12),
        ("error", "routes[1].path", 12),
        ("error", "routes[1].require", 12),
        ("error", "trusted_proxies", 13),
        ("error", "identity.prefix", 14),
        ("error", "cors.origins", 15),
    ]


def test_several_wrong_items_keep_their_indexes():
    found = findings(written(clerk="{issuer: a.example, authorized_parties: [1, https://a.example, 2]}"))
    assert [finding.key for finding in found] == ["clerk.authorized_parties[0]", "clerk.authorized_parties[2]"]


def test_routes_after_a_wrong_one_keep_their_indexes():
    found = findings(written(routes="[5, {path: /a, upstream: api}, {path: /b, upstream: no}]"))
    assert [finding.key for finding in found] == ["routes[0]", "routes[2].upstream"]


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({"clerk": "{issuer: 5}"}, id="no-missing-issuer-after-a-wrong-one"),
        pytest.param({"routes": "[{path: /*, upstreem: api}]"}, id="no-missing-upstream-after-a-misspelt-one"),
        pytest.param({"clerk": "{issuer: a.example, authorized_partys: [x]}"}, id="no-advice-after-a-misspelt-key"),
        pytest.param({"upstreams": "{api: 5}"}, id="no-unknown-upstream-after-a-wrong-one"),
        pytest.param({"routes": "5"}, id="no-missing-routes-after-wrong-ones"),
        pytest.param({"routes": "[{path: 5, upstream: api}]"}, id="no-missing-path-after-a-wrong-one"),
        pytest.param({"routes": "[{path: /*, upstream: 5}]"}, id="no-missing-upstream-after-a-wrong-one"),
        pytest.param({"upstreams": "{api: {targets: 5}}"}, id="no-missing-url-after-wrong-targets"),
        pytest.param({"issuers": "[{name: a}]", "clerk": "{}"}, id="no-missing-issuer-after-issuers"),
        pytest.param(
            {"routes": "[{path: /*, upstream: api, token: template, audience: [5]}]"},
            id="no-missing-audience-after-a-wrong-one",
        ),
    ],
)
def test_what_follows_from_an_error_is_not_said_too(sections):
    assert only(written(**sections)).level == "error"


SECRET_KEYS = (
    "clerk.secret_key", "clerk.machine_secret_key", "clerk.webhook_signing_secrets", "clerk.jwt_key",
    "clerk.publishable_key", "admin.token", "store.url", "cache.url", "upstreams.api.webhooks.secret", "unknown",
)  # fmt: skip


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize(
    "value", [SECRET, [SECRET], {SECRET: 1}, [[SECRET]], {"a": SECRET}], ids=lambda v: type(v).__name__
)
def test_a_secret_is_in_no_finding(key, value):
    if value == {SECRET: 1}:
        value = {"b": {"c": SECRET}}
    found = "\n".join(map(str, findings(_with(key, value))))
    assert found or (key, value) == ("admin.token", SECRET)  # which is good
    assert SECRET not in found


def _with(key, value):
    tree = yaml.safe_load(EVERY_KEY)
    *above, last = key.split(".")
    section = tree
    for part in above:
        section[part] = section = section[part] if section.get(part) else {}
    section[last] = value
    return yaml.safe_dump(tree)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["", "*", "/*", "//", "${A}", "${A:-}", "http://", "https://[::1", "pk_live_", "a,b", "1e999", "null"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths(tree, at=()):
    yield at
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for part, child in children:
        yield from paths(child, (*at, part))


PATHS = [path for path in paths(yaml.safe_load(EVERY_KEY)) if path]


def judge(text, environ):
    try:
        config = load_text(text, environ, name="f.yaml")
    except ConfigError as error:
        assert error.findings
        assert "\n" not in "".join(map(str, error.findings))
    else:
        assert isinstance(config, Config)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=3), SCALARS)
def test_any_value_anywhere_is_a_config_or_findings(changes, variable):
    tree = yaml.safe_load(EVERY_KEY)
    for path, value in changes:
        section = tree
        for part in path[:-1]:
            section = section[part] if isinstance(section, dict | list) and _has(section, part) else None
        if section is not None and _has(section, path[-1]):
            section[path[-1]] = value
    judge(yaml.safe_dump(tree, allow_unicode=True), {"A": str(variable)})


def _has(section, part):
    if isinstance(section, dict):
        return part in section
    return isinstance(section, list) and isinstance(part, int) and part < len(section)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("abr:-[]{}#&*!|>'\"%@`, \n\t$0.\\Uu~?=<\x00\ufeff"), max_size=60))
def test_any_text_is_a_config_or_findings(text):
    judge(text, {})


def test_unreadable_is_a_config_error():
    with pytest.raises(Unreadable):
        load_text("a: [", {}, name="f.yaml")
    assert issubclass(Unreadable, ConfigError)
