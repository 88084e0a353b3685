import os
from pathlib import Path

import pytest

from gateway.core.assertion import AssertionPolicy
from tests.config.files import findings, loaded, only, written

ON = "enabled: true, issuer: https://gw.example.com, keys_dir: /no/such/keys"


def assertion(text: str = ON, **sections: str) -> str:
    return written(identity=f"{{assertion: {{{text}}}}}", store="{url: null}", **sections)


def test_off_is_nothing():
    assert loaded(written()).assertion is None
    assert loaded(assertion("enabled: false, ttl_s: 30, keys_dir: /no/such/keys")).assertion is None


def test_a_policy_is_as_written():
    text = f"{ON}, header: X-Me, algorithm: EdDSA, ttl_s: 30, rotate_after_h: 48"
    config = loaded(assertion(text))
    policy = AssertionPolicy("https://gw.example.com", "/no/such/keys", "X-Me", "EdDSA", 30.0, 172_800.0)
    assert config.assertion == policy
    assert config.identity.assertion_header == "X-Me"
    assert loaded(assertion()).assertion == AssertionPolicy("https://gw.example.com", "/no/such/keys")


def test_the_issuer_is_where_the_gateway_is():
    text = "enabled: true, keys_dir: /no/such/keys"
    policy = loaded(assertion(text, public_url="https://API.example.com/")).assertion
    assert policy is not None
    assert policy.issuer == "https://api.example.com"
    policy = loaded(assertion(f"{text}, issuer: other", public_url="https://api.example.com")).assertion
    assert policy is not None
    assert policy.issuer == "other"


def test_the_prefix_renames_it_unless_it_is_named():
    for text, name in (("prefix: X-Me-", "X-Me-Assertion"), ("prefix: X-Me-, assertion: {header: X-It}", "X-It")):
        assert loaded(written(identity=f"{{{text}}}")).identity.assertion_header == name


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        pytest.param("enabled: true, keys_dir: /no/such/keys", "issuer", "is missing", id="no-issuer"),
        pytest.param("enabled: true, issuer: x", "keys_dir", "outlive a restart", id="no-directory"),
        pytest.param(f"{ON}, ttl_s: 4", "ttl_s", "from 5 to 3600", id="short"),
        pytest.param(f"{ON}, ttl_s: 3601", "ttl_s", "from 5 to 3600", id="long"),
        pytest.param("ttl_s: 86400", "ttl_s", "from 5 to 3600", id="long-though-off"),
        pytest.param(f"{ON}, rotate_after_h: 23", "rotate_after_h", "24 or more", id="every-hour"),
        pytest.param(f"{ON}, algorithm: RS256", "algorithm", "must be", id="algorithm"),
        pytest.param("header: 'a b'", "header", "is not a header name", id="no-name"),
        pytest.param("header: Authorization", "header", "meaning of its own", id="authorization"),
        pytest.param("header: content_type", "header", "meaning of its own", id="content-type"),
        pytest.param("header: Transfer-Encoding", "header", "meaning of its own", id="hop-by-hop"),
        pytest.param("header: X-Forwarded-Jwt", "header", "meaning of its own", id="forwarded"),
        pytest.param("header: x_user_id", "header", "its own meaning", id="own"),
        pytest.param(f"{ON[:-13]}/dev/null", "keys_dir", "/dev/null is not a directory", id="file"),
        pytest.param('enabled: true, issuer: x, keys_dir: "a\\0b"', "keys_dir", "cannot be looked at", id="nul"),
    ],
)
def test_what_is_wrong_is_refused(text, key, fragment):
    finding = only(assertion(text))
    assert (finding.key, finding.level) == (f"identity.assertion.{key}", "error")
    assert fragment in finding.message
    assert finding.line is not None


def test_extra_headers_cannot_take_its_name():
    text = "{headers: {x_it: pla}, assertion: {header: X-It}}"
    assert only(written(identity=text)).message.startswith("is given twice")


def test_never_by_age_is_a_choice():
    policy = loaded(assertion(f"{ON}, rotate_after_h: 0")).assertion
    assert policy is not None
    assert policy.rotate_after_s == 0


def test_a_directory_that_others_can_read_is_refused(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    text = assertion(f"enabled: true, issuer: x, keys_dir: {keys}")
    assert findings(text) == ()
    os.chmod(keys, 0o750)
    finding = only(text)
    assert "mode 0750" in finding.message
    assert finding.remedy == f"Do: chmod 700 {keys}"


def test_a_directory_for_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for whoever is not root
    assert "is not for this user" in only(assertion(f"enabled: true, issuer: x, keys_dir: {keys}")).message


def test_a_path_below_a_file_is_left_to_the_start():
    assert findings(assertion("enabled: true, issuer: x, keys_dir: /dev/null/keys")) == ()


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({"routes": "[{path: /*, upstream: api, auth: public}]"}, id="public"),
        pytest.param({"upstreams": "{api: {url: http://127.0.0.1:3000, identity: false}}"}, id="no-identity"),
    ],
)
def test_nobody_to_tell_is_noticed(sections):
    finding = only(assertion(**sections))
    assert (finding.key, finding.level) == ("identity.assertion.enabled", "warning")


def test_broken_routes_are_not_said_twice():
    assert only(assertion(routes="[{path: /*, upstream: nobody}]")).key == "routes[0].upstream"


def test_its_address_is_not_for_webhooks():
    text = written(webhooks="{path: /.well-known/gateway/jwks.json}")
    assert "another of the gateway's own addresses" in only(text).message
