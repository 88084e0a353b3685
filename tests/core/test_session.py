import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.handshake import PageQuery
from gateway.core.model import Principal
from gateway.core.session import (
    ChosenCookies,
    Credential,
    CredentialPolicy,
    Handshake,
    SignedOut,
    auth_message,
    check_cookie,
    choose_cookies,
    cookie_reason,
    cookie_state,
    handshake_reason,
    is_meant_for,
    page_state,
    parse_client_uat,
    session_id_of,
    suffixed_names,
    uses_suffixed_cookies,
)
from gateway.errors import InvalidToken

NOW = 1_700_000_000.5
PRODUCTION = CredentialPolicy("https://clerk.example.com", "naoXFJnI")
DEVELOPMENT = CredentialPolicy("https://clerk.example.com", "naoXFJnI", development=True)


def part(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def token(iss: object = "https://clerk.example.com", iat: object = 1_699_999_990, exp: object = 1_700_000_050) -> bytes:
    claims = {"iss": iss, "iat": iat, "exp": exp}
    return part({"alg": "RS256"}) + b"." + part({k: v for k, v in claims.items() if v is not None}) + b".c2ln"


OWN = token()
NEWER = token(iat=1_699_999_995)
EXPIRED = token(exp=1_700_000_000)
FOREIGN = token("https://clerk.other.example")


def jar(
    plain: bytes = b"",
    plain_uat: bytes = b"",
    own: bytes = b"",
    own_uat: bytes = b"",
    **more: bytes,
) -> dict[bytes, bytes]:
    named = {
        b"__session": plain,
        b"__client_uat": plain_uat,
        b"__session_naoXFJnI": own,
        b"__client_uat_naoXFJnI": own_uat,
    }
    return {name: value for name, value in named.items() if value} | {k.encode(): v for k, v in more.items()}


@pytest.mark.parametrize(
    ("cookies", "policy", "suffixed"),
    [
        pytest.param(jar(plain=b"garbage", own=OWN, own_uat=b"5"), PRODUCTION, False, id="1-plain-not-a-token"),
        pytest.param(jar(plain=token(iss=None), own=OWN, own_uat=b"5"), PRODUCTION, False, id="1-plain-without-issuer"),
        pytest.param(jar(plain=token(iss=""), own=OWN, own_uat=b"5"), PRODUCTION, False, id="1-plain-empty-issuer"),
        pytest.param(jar(plain=b"W10.W10.x", own=OWN, own_uat=b"5"), PRODUCTION, False, id="1-plain-holds-arrays"),
        pytest.param(jar(plain=b"%.W10.x", own=OWN, own_uat=b"5"), PRODUCTION, False, id="1-plain-not-json"),
        pytest.param(
            jar(plain=b"W10." + OWN.split(b".")[1] + b".x", plain_uat=b"0", own=OWN, own_uat=b"5"),
            PRODUCTION,
            False,
            id="1-plain-header-not-an-object",
        ),
        pytest.param(jar(plain=OWN + b".x", plain_uat=b"0", own=OWN, own_uat=b"5"), PRODUCTION, False, id="1-4-parts"),
        pytest.param(jar(plain=FOREIGN, plain_uat=b"5"), PRODUCTION, True, id="2-foreign-and-nothing-of-ours"),
        pytest.param(jar(plain=FOREIGN, own=OWN, own_uat=b"0"), PRODUCTION, True, id="2-foreign-beats-rule-5"),
        pytest.param(jar(plain=token(iss=["a"]), own=OWN, own_uat=b"5"), PRODUCTION, True, id="2-issuer-not-text"),
        pytest.param(jar(plain=OWN, plain_uat=b"5"), PRODUCTION, False, id="3-nothing-suffixed"),
        pytest.param(jar(plain_uat=b"5"), PRODUCTION, False, id="3-nothing-suffixed-no-session"),
        pytest.param(jar(plain=NEWER, plain_uat=b"5", own=OWN, own_uat=b"5"), PRODUCTION, False, id="4-plain-newer"),
        pytest.param(jar(plain=OWN, own_uat=b"5"), PRODUCTION, False, id="4-missing-plain-uat-is-not-0"),
        pytest.param(
            jar(plain=token(iat=True), plain_uat=b"5", own=token(iat=None), own_uat=b"5"),
            PRODUCTION,
            True,
            id="4-iat-is-bool",
        ),
        pytest.param(
            jar(plain=token(iat="9999999999"), plain_uat=b"5", own=OWN, own_uat=b"5"),
            PRODUCTION,
            True,
            id="4-iat-is-text",
        ),
        pytest.param(
            jar(plain=NEWER, plain_uat=b"0", own=OWN, own_uat=b"5"), PRODUCTION, True, id="4-plain-signed-out"
        ),
        pytest.param(jar(plain=OWN, plain_uat=b"5", own=OWN, own_uat=b"0"), PRODUCTION, False, id="5-suffixed-out"),
        pytest.param(jar(own=OWN, own_uat=b"0"), PRODUCTION, False, id="5-missing-plain-uat-is-not-0"),
        pytest.param(jar(plain_uat=b"0", own=OWN, own_uat=b"0"), PRODUCTION, True, id="5-both-out"),
        pytest.param(jar(plain_uat=b"0", own=EXPIRED, own_uat=b"5"), DEVELOPMENT, False, id="6-development-expired"),
        pytest.param(jar(plain_uat=b"0", own=EXPIRED, own_uat=b"5"), PRODUCTION, True, id="6-not-in-production"),
        pytest.param(jar(plain_uat=b"0", own=OWN, own_uat=b"5"), DEVELOPMENT, True, id="6-development-not-expired"),
        pytest.param(jar(plain_uat=b"5", own=EXPIRED, own_uat=b"5"), DEVELOPMENT, True, id="6-plain-not-out"),
        pytest.param(jar(plain_uat=b"0", own=EXPIRED, own_uat=b"0"), DEVELOPMENT, True, id="6-suffixed-out"),
        pytest.param(jar(plain_uat=b"0", own=token(exp=None), own_uat=b"5"), DEVELOPMENT, True, id="6-without-exp"),
        pytest.param(jar(plain_uat=b"5", own=OWN), PRODUCTION, False, id="7-suffixed-session-without-uat"),
        pytest.param(jar(plain_uat=b"5", own=OWN, own_uat=b"5"), PRODUCTION, True, id="8-suffixed"),
        pytest.param(jar(plain=OWN, plain_uat=b"5", own=NEWER, own_uat=b"6"), PRODUCTION, True, id="8-suffixed-newer"),
        pytest.param(jar(plain_uat=b"0", own_uat=b"5"), PRODUCTION, True, id="8-suffixed-without-session"),
        pytest.param(
            jar(plain=b"other", own=OWN, own_uat=b"5"),
            CredentialPolicy("https://clerk.example.com"),
            False,
            id="no-publishable-key",
        ),
        pytest.param(
            jar(plain=token("http://clerk.example.com"), own=OWN, own_uat=b"0"),
            PRODUCTION,
            False,
            id="issuer-compares-without-scheme",
        ),
    ],
)
def test_choose_cookies_follows_clerks_rules(cookies, policy, suffixed):
    marked = cookies | {b"__clerk_db_jwt": b"plain", b"__clerk_db_jwt_naoXFJnI": b"suffixed"}
    assert choose_cookies(marked, policy, now=NOW).dev_browser == (b"suffixed" if suffixed else b"plain")


@given(cookies=st.dictionaries(st.sampled_from(sorted(jar(b"x", b"x", b"x", b"x"))), st.binary(max_size=40)))
def test_choose_cookies_takes_one_spelling_for_all(cookies):
    chosen = choose_cookies(cookies, PRODUCTION, now=NOW)
    suffixed = (cookies.get(b"__session_naoXFJnI", b""), cookies.get(b"__client_uat_naoXFJnI", b""))
    plain = (cookies.get(b"__session", b""), cookies.get(b"__client_uat", b""))
    assert chosen[:2] in (suffixed, plain)


def test_choose_cookies_does_not_decode_what_is_the_same():
    garbage = jar(b"garbage", b"5", b"garbage", b"5")
    assert choose_cookies(garbage, PRODUCTION, now=NOW) == ChosenCookies(b"garbage", b"5", b"", b"")


@pytest.mark.parametrize("cookies", [jar(OWN, b"5"), jar(own=OWN, own_uat=b"5")], ids=["plain", "suffixed"])
def test_refresh_cookie_is_read_suffixed_only(cookies):
    both = cookies | {b"__refresh": b"plain", b"__refresh_naoXFJnI": b"suffixed"}
    assert choose_cookies(both, PRODUCTION, now=NOW).refresh == b"suffixed"
    assert choose_cookies(cookies | {b"__refresh": b"plain"}, PRODUCTION, now=NOW).refresh == b""
    assert choose_cookies(both, CredentialPolicy(PRODUCTION.issuer), now=NOW).refresh == b""


def test_suffixed_names_are_clerks():
    assert suffixed_names("naoXFJnI")[:2] == (b"__session_naoXFJnI", b"__client_uat_naoXFJnI")


def chosen(session: bytes = b"", client_uat: bytes = b"", dev_browser: bytes = b"", refresh: bytes = b""):
    return ChosenCookies(session, client_uat, dev_browser, refresh)


@pytest.mark.parametrize(
    ("cookies", "development", "state"),
    [
        pytest.param(chosen(), False, SignedOut("session-token-and-uat-missing", sent=False), id="nothing"),
        pytest.param(
            chosen(client_uat=b"0"), False, SignedOut("session-token-and-uat-missing", sent=False), id="signed-out"
        ),
        pytest.param(chosen(b"t"), False, SignedOut("session-token-but-no-client-uat", sent=True), id="no-uat"),
        pytest.param(chosen(b"t", b"0"), False, SignedOut("session-token-but-no-client-uat", sent=True), id="uat-0"),
        pytest.param(
            chosen(client_uat=b"5"), False, SignedOut("client-uat-but-no-session-token", sent=True), id="no-session"
        ),
        pytest.param(chosen(), True, SignedOut("dev-browser-missing", sent=False), id="development-nothing"),
        pytest.param(chosen(b"t", b"5"), True, SignedOut("dev-browser-missing", sent=True), id="no-dev-browser"),
        pytest.param(
            chosen(b"t", b"5", b"d"),
            True,
            Credential(b"t", "cookie", 5, "non-eligible-no-refresh-cookie"),
            id="development",
        ),
        pytest.param(
            chosen(b"t", b"5"), False, Credential(b"t", "cookie", 5, "non-eligible-no-refresh-cookie"), id="production"
        ),
    ],
)
def test_cookie_state(cookies, development, state):
    assert cookie_state(cookies, development=development, method="GET") == state


@pytest.mark.parametrize(
    ("cookie", "value"),
    [
        (b"1700000000", 1_700_000_000),
        (b"", 0),
        (b"0", 0),
        (b"000", 0),
        (b"007", 7),
        (b" \t12", 12),
        (b"12abc", 12),
        (b"12.9", 12),
        (b"+5", 5),
        (b"-5", -5),
        (b"- 5", 0),
        (b"abc", 0),
        (b"0x10", 0),
        (b"1" * 5_000, 111_111_111_111_111_111),
        (b"0" * 5_000 + b"7", 7),
        ("١٢".encode(), 0),
    ],
)
def test_client_uat_is_parsed_as_javascript_does(cookie, value):
    assert parse_client_uat(cookie) == value


def issued(at, *, issuer="one"):
    return Principal("user_1", "session", {}, frozenset(), at, at + 60, issuer=issuer)


def cookie_of(client_uat, *, issuer="one"):
    return Credential(b"token", "cookie", client_uat, issuer=issuer)


def test_check_cookie_refuses_a_token_older_than_the_sign_out():
    with pytest.raises(InvalidToken) as refused:
        check_cookie(issued(1_699_999_999), cookie_of(1_700_000_000))
    assert refused.value.reason == "session-token-iat-before-client-uat"


@pytest.mark.parametrize("client_uat", [0, -5, 1_699_999_999, 1_700_000_000])
def test_check_cookie_takes_a_token_as_new_or_newer(client_uat):
    check_cookie(issued(1_700_000_000), cookie_of(client_uat))


def test_check_cookie_refuses_another_instances_token():
    with pytest.raises(InvalidToken) as refused:
        check_cookie(issued(1_700_000_000), cookie_of(1_600_000_000, issuer="other"))
    assert refused.value.reason == "token-invalid-issuer"


@pytest.mark.parametrize(
    ("reason", "method", "refresh", "spelt"),
    [
        ("token-expired", "GET", b"", "session-token-expired-refresh-non-eligible-no-refresh-cookie"),
        ("token-expired", "GET", b"r", "session-token-expired-refresh-missing-api-client"),
        ("token-expired", "POST", b"r", "session-token-expired-refresh-non-eligible-non-get"),
        ("token-expired", "HEAD", b"", "session-token-expired-refresh-non-eligible-non-get"),
        ("token-not-active-yet", "GET", b"", "session-token-nbf"),
        ("token-iat-in-the-future", "GET", b"", "session-token-iat-in-the-future"),
        ("token-invalid-signature", "GET", b"", "token-invalid-signature"),
    ],
)
def test_cookie_reason_is_spelt_as_clerk_does(reason, method, refresh, spelt):
    credential = cookie_state(chosen(b"t", b"5", refresh=refresh), development=False, method=method)
    assert isinstance(credential, Credential)
    assert cookie_reason(reason, credential) == spelt


@pytest.mark.parametrize("reason", ["token-expired", "token-not-active-yet", "token-invalid"])
def test_cookie_reason_leaves_a_header_tokens_reason(reason):
    assert cookie_reason(reason, Credential(b"t", "header")) == reason


@pytest.mark.parametrize("reason", ["token-expired", "token-not-active-yet", "token-invalid-signature"])
def test_a_token_from_before_the_sign_out_is_that_first(reason):
    older = Credential(token(iat=1_699_999_990), "cookie", 1_699_999_991, "missing-api-client")
    assert cookie_reason(reason, older) == "session-token-iat-before-client-uat"
    assert cookie_reason("token-invalid", older) == "token-invalid"
    assert cookie_reason("token-type-mismatch", older) == "token-type-mismatch"


@pytest.mark.parametrize(
    ("cookies", "suffixed"),
    [
        pytest.param(jar(plain=OWN, plain_uat=b"5", own=OWN, own_uat=b"5"), True, id="the-everyday-case"),
        pytest.param(jar(plain=OWN, plain_uat=b"5"), False, id="nothing-suffixed"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_clerk_is_told_which_cookies_count_even_where_both_say_the_same(cookies, suffixed):
    assert uses_suffixed_cookies(cookies, PRODUCTION, now=NOW) is suffixed
    assert not uses_suffixed_cookies(cookies, CredentialPolicy(PRODUCTION.issuer), now=NOW)


def state_of(cookies, query=None, *, development=False, satellite=False, navigates=True):
    query = query or PageQuery()
    return page_state(cookies, query, development=development, satellite=satellite, navigates=navigates)


def classed(category):
    claims = {"iss": "https://clerk.example.com", "iat": 5, "exp": 65}
    return part({"alg": "RS256", "cat": category}) + b"." + part(claims) + b".c2ln"


IN = chosen(OWN, b"1699999990", b"dvb")
NOBODY = SignedOut("session-token-and-uat-missing", sent=False)
SIGNED_IN = Credential(OWN, "cookie", 1_699_999_990, "non-eligible-no-refresh-cookie")


@pytest.mark.parametrize(
    ("cookies", "more", "state"),
    [
        pytest.param(chosen(), {}, NOBODY, id="nothing"),
        pytest.param(chosen(client_uat=b"0"), {}, NOBODY, id="signed-out"),
        pytest.param(chosen(OWN), {}, "session-token-but-no-client-uat", id="no-uat"),
        pytest.param(chosen(client_uat=b"5"), {}, "client-uat-but-no-session-token", id="no-session"),
        pytest.param(IN, {}, SIGNED_IN, id="signed-in"),
        pytest.param(chosen(OWN, b"1699999991"), {}, "session-token-iat-before-client-uat", id="older"),
        pytest.param(chosen(EXPIRED, b"1699999991"), {}, "session-token-iat-before-client-uat", id="older-and-expired"),
        pytest.param(chosen(b"t", b"5"), {}, Credential(b"t", "cookie", 5, SIGNED_IN.refresh), id="not-a-token"),
        pytest.param(
            chosen(token(iat="1"), b"5"), {}, Credential(token(iat="1"), "cookie", 5, SIGNED_IN.refresh), id="iat-is-text"
        ),
        pytest.param(
            chosen(token(iat=True), b"5"), {}, Credential(token(iat=True), "cookie", 5, SIGNED_IN.refresh), id="iat-is-bool"
        ),
        pytest.param(
            chosen(classed("cl_B7d4PD222AAA"), b"9"),
            {},
            Credential(classed("cl_B7d4PD222AAA"), "cookie", 9, SIGNED_IN.refresh),
            id="a-template-is-verified-and-refused",
        ),
        pytest.param(
            chosen(classed("cl_I7d4PD111III"), b"9"), {}, "session-token-iat-before-client-uat", id="silent-category"
        ),
        # --- development
        pytest.param(chosen(OWN, b"5"), {"development": True}, "dev-browser-missing", id="no-dev-browser"),
        pytest.param(chosen(), {"development": True}, "dev-browser-missing", id="development-nothing"),
        pytest.param(chosen(b"", b"", b"dvb"), {"development": True}, NOBODY, id="development-signed-out"),
        pytest.param(IN, {"development": True}, SIGNED_IN, id="development-signed-in"),
        pytest.param(
            IN, {"development": True, "query": PageQuery(dev_browser="x")}, "dev-browser-sync", id="dev-browser-sync"
        ),
        pytest.param(
            IN, {"development": True, "query": PageQuery(dev_browser="")}, "dev-browser-sync", id="dev-browser-sync-empty"
        ),
        pytest.param(IN, {"query": PageQuery(dev_browser="x")}, SIGNED_IN, id="no-dev-browser-in-production"),
        pytest.param(
            IN,
            {"development": True, "query": PageQuery(redirect_url="https://sat.example", dev_browser="x")},
            "primary-responds-to-syncing",
            id="primary-answers-first",
        ),
        pytest.param(IN, {"query": PageQuery(redirect_url="https://sat.example")}, SIGNED_IN, id="not-in-production"),
        pytest.param(
            IN,
            {"development": True, "satellite": True, "query": PageQuery(redirect_url="https://sat.example")},
            SIGNED_IN,
            id="a-satellite-answers-nobody",
        ),
        # --- satellites
        pytest.param(chosen(), {"satellite": True}, NOBODY, id="satellite-first-visit"),
        pytest.param(
            chosen(), {"satellite": True, "query": PageQuery("false")}, "satellite-needs-syncing", id="satellite-asked"
        ),
        pytest.param(
            IN, {"satellite": True, "query": PageQuery("false")}, "satellite-needs-syncing", id="satellite-asked-again"
        ),
        pytest.param(chosen(), {"satellite": True, "query": PageQuery("true")}, NOBODY, id="satellite-synced"),
        pytest.param(IN, {"satellite": True}, SIGNED_IN, id="satellite-signed-in"),
        pytest.param(
            chosen(),
            {"satellite": True, "query": PageQuery("false"), "navigates": False},
            NOBODY,
            id="satellite-in-a-frame",
        ),
        pytest.param(chosen(), {"satellite": True, "development": True}, NOBODY, id="satellite-in-development"),
        pytest.param(
            chosen(),
            {"satellite": True, "development": True, "query": PageQuery("true")},
            "dev-browser-missing",
            id="satellite-in-development-synced",
        ),
        pytest.param(IN, {"query": PageQuery("false")}, SIGNED_IN, id="a-primary-is-not-synced"),
    ],
)  # fmt: skip
def test_page_state(cookies, more, state):
    assert state_of(cookies, **more) == (Handshake(state) if isinstance(state, str) else state)


def test_a_handshakes_reason_is_spelt_as_clerk_does():
    assert handshake_reason("token-expired", refresh="fetch-error") == "session-token-expired-refresh-fetch-error"
    assert handshake_reason("token-not-active-yet", refresh="") == "session-token-nbf"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("token-expired", "JWT is expired. (reason=token-expired, token-carrier=cookie)"),
        ("session-token-expired-refresh-fetch-error", "JWT is expired. (reason=token-expired, token-carrier=cookie)"),
        ("token-invalid-signature", "JWT signature is invalid. (reason=token-invalid-signature, token-carrier=cookie)"),
        ("session-token-and-uat-missing", ""),
        (None, ""),
    ],
)
def test_a_message_says_in_clerks_words_what_is_wrong(reason, message):
    assert auth_message(reason, carrier="cookie") == message


@pytest.mark.parametrize(
    ("sid", "found"), [("sess_1", "sess_1"), ("../users", None), ("", None), (7, None), (None, None), ("a" * 129, None)]
)
def test_a_sessions_id_is_an_id(sid, found):
    raw = part({"alg": "RS256"}) + b"." + part({} if sid is None else {"sid": sid}) + b".c2ln"
    assert session_id_of(raw) == found


def test_what_is_no_token_is_of_no_session():
    assert session_id_of(b"garbage") is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        pytest.param("https://clerk.example.com", True, id="own"),
        pytest.param("http://clerk.example.com", True, id="whatever-the-scheme"),
        pytest.param("https://clerk.example.com/", False, id="slash"),
        pytest.param("https://clerk.example.com.evil.example", False, id="longer"),
        pytest.param("https://clerk.other.example", False, id="anothers"),
        pytest.param(["https://clerk.example.com"], False, id="list"),
        pytest.param(None, False, id="none"),
    ],
)
def test_whose_a_cookies_token_says_that_it_is(said, meant):
    assert is_meant_for(Credential(token(said), "cookie"), PRODUCTION) is meant


def test_what_does_not_decode_is_nobodys():
    assert not is_meant_for(Credential(b"a.b.c", "cookie"), PRODUCTION)
