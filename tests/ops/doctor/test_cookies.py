import pytest

from gateway.ops.doctor.cookies import cookies
from gateway.ops.doctor.evidence import read_evidence
from gateway.ops.doctor.instances import instances_of
from tests.ops.doctor.world import CLERK, KEYED, NOW, configured, levels, said

SUFFIX = "naoXFJnI"  # of pk_live_ for clerk.example.com
TOKEN = CLERK.session_token(NOW)
UAT = f"__client_uat={int(NOW) - 100}"
GOOD = f"theme=dark; __session={TOKEN}; {UAT}"
DEVELOPMENT = "{issuer: happy-cat-1.clerk.accounts.dev}"
PUBLIC = "[{path: /*, upstream: api, auth: public}]"


def judged(cookie, *, clerk=KEYED, origin=None, url=None, headers=()):
    evidence = read_evidence(cookie=cookie, origin=origin, url=url, headers=headers)
    return cookies(evidence, instances_of(configured(clerk=clerk)), now=NOW)


@pytest.mark.parametrize(
    "cookie",
    [
        GOOD,
        f"Cookie: {GOOD}",
        f"__session_{SUFFIX}={TOKEN}; __client_uat_{SUFFIX}=5; __session={TOKEN}; __client_uat=5",
        f"__session_{SUFFIX}={TOKEN}; __client_uat_{SUFFIX}=5; __session_otherapp=x; __client_uat_otherapp=5",
    ],
    ids=["plain", "copied", "suffixed", "beside-another-applications"],
)
def test_good_cookies_give_their_token(cookie):
    assert judged(cookie) == ([], TOKEN)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({}, ["the page's host alone", "Authorization: Bearer"], id="no-more-known"),
        pytest.param({"origin": "https://app.example.com", "url": "https://api.example.com/x"}, ["__session is for app.example.com alone, and never goes to api.example.com"], id="another-host"),
        pytest.param({"origin": "https://app.example.com", "headers": ("Host: api.example.com:8080",)}, ["never goes to api.example.com"], id="by-host-field"),
        pytest.param({"origin": "https://app.example.com", "url": "https://app.example.com/api"}, ['credentials: "omit"'], id="same-host"),
        pytest.param({"origin": "https://[bad", "url": "/x"}, ["the page's host alone"], id="nonsense"),
    ],
)  # fmt: skip
def test_cookies_that_do_not_come_are_explained(options, words):
    found = judged("theme=dark", **options)
    assert levels(found.diagnoses) == ["error"]
    assert found.token is None
    for word in words:
        assert word in said(found.diagnoses)


def test_another_applications_cookies_are_told_by_their_suffix():
    found = said(judged(f"__session_Ab-_1234={TOKEN}; __client_uat_Ab-_1234=5").diagnoses)
    assert f"their suffix is Ab-_1234, here it is {SUFFIX}" in found
    assert "publishable key" in found


@pytest.mark.parametrize(
    ("cookie", "clerk", "reason"),
    [
        pytest.param(f"__session={TOKEN}", KEYED, "session-token-but-no-client-uat", id="no-uat"),
        pytest.param(f"__session={TOKEN}; __client_uat=0", KEYED, "session-token-but-no-client-uat", id="signed-out"),
        pytest.param("__client_uat=5", KEYED, "client-uat-but-no-session-token", id="no-session"),
        pytest.param("__client_uat=0", KEYED, "session-token-and-uat-missing", id="nobody"),
        pytest.param(GOOD, DEVELOPMENT, "dev-browser-missing", id="no-dev-browser"),
        pytest.param(f"__session={TOKEN}; __client_uat={int(NOW) + 9}", KEYED, "session-token-iat-before-client-uat", id="older"),
    ],
)  # fmt: skip
def test_each_state_of_the_cookies_has_its_words(cookie, clerk, reason):
    (found,) = judged(cookie, clerk=clerk).diagnoses
    assert found.level == "error"
    assert f"(401 {reason})" in found.found
    assert found.remedy


def test_cookies_of_this_host_do_not_help_a_page_of_another():
    found = judged(GOOD, origin="https://app.example.com", url="https://api.example.com/x")
    assert levels(found.diagnoses) == ["warning"]
    assert '"api.example.com"' in said(found.diagnoses)
    assert found.token == TOKEN


def test_what_cannot_be_read_is_left_to_the_token_to_say():
    assert judged(f"__session=nonsense; {UAT}") == ([], "nonsense")


def test_without_an_instance_no_cookie_is_read():
    evidence = read_evidence(cookie=GOOD)
    found = cookies(evidence, instances_of(configured(clerk="{}", routes=PUBLIC)), now=NOW)
    assert levels(found.diagnoses) == ["skipped"]


def test_no_cookies_value_is_shown():
    found = said(judged(f"__session_other={TOKEN}").diagnoses + judged(f"__session={TOKEN}").diagnoses)
    assert not any(part in found for part in TOKEN.split("."))
