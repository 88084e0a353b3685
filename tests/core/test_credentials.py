import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credentials import (
    Credential,
    CredentialPolicy,
    SignedOut,
    check_cookie_origin,
    find_credential,
    is_own_credential,
    may_forward_authorization,
    read_cookies,
    without_clerk_cookies,
)
from gateway.core.model import Header, Inbound, Peer
from gateway.errors import BadRequest, Forbidden

POLICY = CredentialPolicy("https://clerk.example.com", "naoXFJnI")
JWT = b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyXzEifQ.c2ln"
COOKIES = b"__session=" + JWT + b"; __client_uat=1700000000"
NOTHING = SignedOut("session-token-and-uat-missing", sent=False)
PEER = Peer("203.0.113.9", trusted=False, scheme="https", port=443)


def inbound(
    method: str = "GET",
    *,
    target: bytes = b"/",
    repeated: frozenset[str] = frozenset(),
    upgrade: bool = False,
    **seen: bytes,
) -> Inbound:
    named = {name.replace("_", "-"): value for name, value in seen.items()}
    path = target.decode().partition("?")[0]
    return Inbound(method, target, path, Header([], named, repeated, PEER, b"api.example.com"), upgrade)


def test_a_token_is_found_once_in_a_header_that_comes_again_and_cookies_are_read_each_time():
    said = inbound(authorization=b"Bearer " + JWT)
    assert find_credential(said, (POLICY,), now=0) is find_credential(said, (POLICY,), now=9)
    kept = inbound(cookie=COOKIES)
    assert find_credential(kept, (POLICY,), now=0).refresh == "non-eligible-no-refresh-cookie"
    assert find_credential(kept._replace(method="POST"), (POLICY,), now=0).refresh == "non-eligible-non-get"


@pytest.mark.parametrize(
    ("value", "token"),
    [
        pytest.param(b"Bearer " + JWT, JWT, id="bearer"),
        pytest.param(b"bearer " + JWT, JWT, id="lower-case"),
        pytest.param(b"BEARER " + JWT, JWT, id="upper-case"),
        pytest.param(b"Bearer   \t " + JWT + b" \t", JWT, id="blanks-around"),
        pytest.param(b"Bearer\t" + JWT, JWT, id="tab"),
        pytest.param(b"Bearer ak_123", b"ak_123", id="machine-token"),
        pytest.param(b"Bearer not a token", b"not a token", id="inner-blanks-stay"),
        pytest.param(b"Bearer " + JWT + b", Bearer " + JWT, JWT + b", Bearer " + JWT, id="joined-by-a-client"),
        pytest.param(b"Bearer", b"", id="scheme-alone"),
        pytest.param(b"Bearer  ", b"", id="scheme-and-blanks"),
        pytest.param(JWT, JWT, id="no-scheme"),
        pytest.param(b" " + JWT + b" ", JWT, id="no-scheme-blanks-around"),
        pytest.param(b"e30=.e30==.", b"e30=.e30==.", id="no-scheme-padded-unsigned"),
    ],
)
def test_header_token_is_the_credential_even_beside_good_cookies(value, token):
    found = find_credential(inbound(authorization=value, cookie=COOKIES), (POLICY,), now=0)
    assert found == Credential(token, "header")


@pytest.mark.parametrize(
    "value",
    [b"Basic dXNlcjpwYXNz", b"Bearerx " + JWT, b"Convex " + JWT, b"", b"token", b"a.b", b"a.b.c.d", b"a.b!.c", b"ak_1"],
)
def test_another_scheme_is_no_credential_so_cookies_are_looked_at(value):
    assert find_credential(inbound(authorization=value), (POLICY,), now=0) == NOTHING
    found = find_credential(inbound(authorization=value, cookie=COOKIES), (POLICY,), now=0)
    assert found == Credential(JWT, "cookie", 1_700_000_000, "non-eligible-no-refresh-cookie")


@pytest.mark.parametrize("value", [b"Bearer " + JWT, b"Basic dXNlcjpwYXNz"], ids=["bearer", "basic"])
def test_two_authorization_fields_are_refused(value):
    with pytest.raises(BadRequest) as refused:
        find_credential(inbound(authorization=value, repeated=frozenset({"authorization"})), (POLICY,), now=0)
    assert refused.value.reason == "two-credentials"


@pytest.mark.parametrize("name", [b"__session", b"token", b"__clerk_db_jwt", b"Authorization"])
def test_query_is_never_read(name):
    assert find_credential(inbound(target=b"/?" + name + b"=" + JWT), (POLICY,), now=0) == NOTHING


# --- several instances ---

A = CredentialPolicy("https://clerk.a.example", "aaaaaaaa", name="a")
B = CredentialPolicy("https://clerk.b.example", "bbbbbbbb", name="b")
DEV = CredentialPolicy("https://clerk.d.example", "dddddddd", development=True, name="d")


def signed_in(policy: CredentialPolicy, issuer: str | None = None, *, suffix: str | None = None) -> bytes:
    """Write the two cookies of a session; `issuer` is what its token says instead of the instance's own."""
    claims = base64.urlsafe_b64encode(json.dumps({"iss": issuer or policy.issuer}).encode()).rstrip(b"=")
    end = f"_{policy.cookie_suffix if suffix is None else suffix}".rstrip("_").encode()
    return b"__session%b=eyJhbGciOiJSUzI1NiJ9.%b.c2ln; __client_uat%b=7" % (end, claims, end)


def out_of(policy: CredentialPolicy) -> bytes:
    return f"__client_uat_{policy.cookie_suffix}=7".encode()


@pytest.mark.parametrize(
    ("policies", "cookies", "whose"),
    [
        pytest.param((A, B), [signed_in(A)], "a", id="the-first"),
        pytest.param((A, B), [signed_in(B)], "b", id="the-second"),
        pytest.param((A, B), [signed_in(B), signed_in(A)], "a", id="both-by-the-order-of-the-configuration"),
        pytest.param((B, A), [signed_in(B), signed_in(A)], "b", id="both-the-other-way-round"),
        pytest.param((B,), [signed_in(A), signed_in(B)], "b", id="both-but-one-is-asked-for"),
        pytest.param((A, B), [out_of(A), signed_in(B)], "b", id="signed-out-of-the-first"),
        pytest.param((DEV, B), [signed_in(DEV), signed_in(B)], "b", id="browser-unknown-to-the-first"),
        pytest.param((A, B), [signed_in(B, suffix="")], "b", id="unsuffixed-token-says-whose"),
        pytest.param((A, B), [signed_in(B, suffix=""), signed_in(A)], "a", id="unsuffixed-is-the-others"),
    ],
)
def test_of_several_instances_the_first_whose_session_it_is(policies, cookies, whose):
    found = find_credential(inbound(cookie=b"; ".join(cookies)), policies, now=0)
    assert isinstance(found, Credential)
    assert found.issuer == whose


@pytest.mark.parametrize("issuer", [B.issuer, "https://clerk.c.example"])
def test_a_token_in_anothers_cookie_is_better_than_nothing(issuer):
    found = find_credential(inbound(cookie=signed_in(A, issuer)), (B, A), now=0)
    assert (isinstance(found, Credential), found.issuer) == (True, "a")


def test_a_token_in_anothers_cookie_is_better_than_none_at_all():
    cookies = out_of(A) + b"; " + signed_in(B, "https://app.example.com/__clerk")  # which may be a proxy of its own
    found = find_credential(inbound(cookie=cookies), (A, B), now=0)
    assert (isinstance(found, Credential), found.issuer) == (True, "b")


def test_the_only_instance_is_whose_any_token_is():
    found = find_credential(inbound(cookie=signed_in(A, "https://clerk.c.example")), (A,), now=0)
    assert (isinstance(found, Credential), found.issuer) == (True, "a")


@pytest.mark.parametrize(
    ("policies", "cookies", "told"),
    [
        pytest.param((A, B), out_of(B), SignedOut("client-uat-but-no-session-token", True, "b"), id="one-sent"),
        pytest.param((A, B), b"__session_cccccccc=x", SignedOut(NOTHING.reason, False, "a"), id="a-third-ones"),
        pytest.param((DEV, A), b"", SignedOut("dev-browser-missing", False, "d"), id="none-but-development"),
    ],
)
def test_of_several_instances_the_one_that_was_sent_something_says_why(policies, cookies, told):
    assert find_credential(inbound(cookie=cookies), policies, now=0) == told


@pytest.mark.parametrize("cookie", [b"theme=dark; _ga=1", b"", b"__clerk_db_jwt=x", b"__Session=x; __CLIENT_UAT=5"])
def test_cookies_without_clerks_are_nothing(cookie):
    assert find_credential(inbound(cookie=cookie), (POLICY,), now=0) == NOTHING


def test_cookies_that_do_not_amount_to_signed_in_say_so():
    found = find_credential(inbound(cookie=b"__session=" + JWT), (POLICY,), now=0)
    assert found == SignedOut("session-token-but-no-client-uat", sent=True)


def test_development_instance_takes_no_cookies_without_dev_browser():
    policy = CredentialPolicy("https://clerk.example.com", development=True)
    assert find_credential(inbound(cookie=COOKIES), (policy,), now=0) == SignedOut("dev-browser-missing", sent=True)
    for request in (inbound(), inbound(cookie=b"theme=dark")):
        assert find_credential(request, (policy,), now=0) == SignedOut("dev-browser-missing", sent=False)
    known = SignedOut("session-token-and-uat-missing", sent=False)
    assert find_credential(inbound(cookie=b"__clerk_db_jwt=dvb_1"), (policy,), now=0) == known
    assert isinstance(find_credential(inbound(cookie=COOKIES + b"; __clerk_db_jwt=d"), (policy,), now=0), Credential)


def test_method_reaches_the_refresh_reason():
    found = find_credential(inbound("POST", cookie=COOKIES), (POLICY,), now=0)
    assert found == Credential(JWT, "cookie", 1_700_000_000, "non-eligible-non-get")


@pytest.mark.parametrize(
    ("cookie", "read"),
    [
        pytest.param(b"__session=a", {b"__session": b"a"}, id="one"),
        pytest.param(b"x=1;__session=a;y=2", {b"__session": b"a"}, id="without-blanks"),
        pytest.param(b" \t__session\t = a \t; x=1", {b"__session": b"a"}, id="blanks-are-trimmed"),
        pytest.param(b"__session=a; __session=b", {b"__session": b"a"}, id="first-wins"),
        pytest.param(b"__session=; __session=b", {b"__session": b""}, id="first-wins-even-empty"),
        pytest.param(b'__session="a"', {b"__session": b'"a"'}, id="quotes-stay"),
        pytest.param(b"__session=a=b==", {b"__session": b"a=b=="}, id="equals-in-value"),
        pytest.param(b"__session=a%2Eb", {b"__session": b"a.b"}, id="value-is-decoded"),
        pytest.param(b"x=1%3B__session=b", {}, id="encoded-semicolon-forges-nothing"),
        pytest.param(b"__session=a%3B __client_uat=5", {b"__session": b"a; __client_uat=5"}, id="decoded-after-split"),
        pytest.param(b"__session%5Fx=a", {b"__session%5Fx": b"a"}, id="names-are-not-decoded"),
        pytest.param(b"__session", {}, id="no-value"),
        pytest.param(b"__session; x=1", {}, id="no-value-of-its-own"),
        pytest.param(b"__session x=1", {}, id="blank-in-name"),
        pytest.param(b"a__session=x; x=__session=y", {}, id="only-whole-names"),
        pytest.param(b"theme=dark", {}, id="others-are-not-read"),
        pytest.param(
            b"__session_naoXFJnI=a; __client_uat_naoXFJnI=5; __refresh_naoXFJnI=r; __clerk_db_jwt_naoXFJnI=d",
            {
                b"__session_naoXFJnI": b"a",
                b"__client_uat_naoXFJnI": b"5",
                b"__refresh_naoXFJnI": b"r",
                b"__clerk_db_jwt_naoXFJnI": b"d",
            },
            id="suffixed",
        ),
    ],
)
def test_read_cookies(cookie, read):
    assert read_cookies(cookie) == read


def test_session_cookie_of_a_longer_name_is_not_taken():
    cookies = b"__session_hijack=" + JWT + b"; __client_uat=5"
    found = find_credential(inbound(cookie=cookies), (POLICY,), now=0)
    assert found == SignedOut("client-uat-but-no-session-token", sent=True)


def test_encoded_semicolon_does_not_begin_another_cookie():
    forged = b"__client_uat=5; theme=%3B%20__session=" + JWT
    found = find_credential(inbound(cookie=forged), (POLICY,), now=0)
    assert found == SignedOut("client-uat-but-no-session-token", sent=True)


@given(cookie=st.binary(max_size=200))
def test_find_credential_takes_any_cookie_bytes(cookie):
    assert isinstance(find_credential(inbound(cookie=b"__session" + cookie), (POLICY,), now=0), (Credential, SignedOut))


@pytest.mark.parametrize(
    ("value", "own"),
    [
        (b"Bearer " + JWT, True),
        (b"bearer\t" + JWT, True),
        (JWT, True),
        (b"Bearer ak_1", True),
        (b"Bearer mt_1", True),
        (b"Bearer m2m_1", True),
        (b"Bearer oat_1", True),
        (b"ak_1", True),
        (b" oat_1", True),
        (b"Bearer sk-upstream-key", False),
        (b"Bearer a.b.c/d", False),
        (b"Bearer", False),
        (b"Basic dXNlcjpwYXNz", False),
        (b"Basic ak_1", False),
        (b"Convex " + JWT, False),
        (b"", False),
    ],
)
def test_is_own_credential_goes_by_form(value, own):
    assert is_own_credential(value) is own


@pytest.mark.parametrize(
    ("value", "read", "unread"),
    [
        (b"Bearer " + JWT, False, False),
        (JWT, False, False),
        (b"ak_1", False, False),
        (b"Bearer sk-upstream-key", False, True),
        (b"Bearer", False, True),
        (b"Basic dXNlcjpwYXNz", True, True),
    ],
)
def test_bearer_goes_on_only_where_it_was_not_read(value, read, unread):
    assert may_forward_authorization(value, was_read=True) is read
    assert may_forward_authorization(value, was_read=False) is unread


@pytest.mark.parametrize(
    ("cookie", "kept"),
    [
        (b"a=1; __session=x; b=2", b"a=1; b=2"),
        (b"__session=x; a=1", b"a=1"),
        (b"__session=x;a=1;  b=2", b"a=1;  b=2"),
        (b"a=1; __session=x", b"a=1"),
        (b"__session=x", b""),
        (b"__session=x; __client_uat=5; ", b""),
        (b"__session_naoXFJnI=x; __client=c; __client_uat_naoXFJnI=5; __refresh_naoXFJnI=r; __clerk_db_jwt=d", b""),
        (b"__clerk_handshake=h; a=1; __clerk_redirect_count=1; a=2", b"a=1; a=2"),
        (b"__SESSION=x; __Client_Uat=5; a=1", b"a=1"),
        (b"a=1;\t __session =x; b=2", b"a=1; b=2"),
        (b"__session; a=1", b"a=1"),
        (b"a=1;;__session=x;; b", b"a=1;;; b"),
    ],
)
def test_clerks_cookies_are_dropped_and_others_kept(cookie, kept):
    assert without_clerk_cookies(cookie) == kept


@pytest.mark.parametrize(
    "cookie",
    [b"a=1; b=2", b" ;a=__1", b"__host=1; x__session=2", b"a=__session=1", b"__Host-__session=1", b"__clerk=1", b""],
)
def test_a_cookie_value_without_clerks_is_the_same_object(cookie):
    assert without_clerk_cookies(cookie) is cookie


OTHER = st.sampled_from([b"a=1", b'b="x y"', b"__host=%3B", b"c", b"_session=2", b"d=__client"])
CLERKS = st.sampled_from([b"__session=x", b"__client_uat=5", b"__Refresh_ab=r", b"__clerk_db_jwt=", b"__session"])


@given(pairs=st.lists(st.one_of(OTHER, CLERKS), max_size=12))
def test_other_cookies_are_kept_in_order(pairs):
    reserved = (b"__session", b"__client", b"__refresh", b"__clerk_")
    others = [pair for pair in pairs if not pair.lower().startswith(reserved)]
    assert without_clerk_cookies(b"; ".join(pairs)) == b"; ".join(others)


def check(request: Inbound, *, scheme: str | None = "https", host: bytes = b"api.example.com") -> None:
    check_cookie_origin(
        request,
        scheme=scheme,
        host=host,
        listed=lambda origin: origin in (b"https://app.example.com", b"null"),
        authorized_parties=frozenset({"https://party.example.com", "null"}),
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_with_a_cookie_needs_no_origin(method):
    check(inbound(method, origin=b"https://evil.example"))


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(inbound("POST", origin=b"https://evil.example"), id="post"),
        pytest.param(inbound("DELETE", origin=b"https://evil.example"), id="delete"),
        pytest.param(inbound("get", origin=b"https://evil.example"), id="another-method-get"),
        pytest.param(inbound("GET", upgrade=True, origin=b"https://evil.example"), id="upgrade"),
        pytest.param(inbound("GET", upgrade=True), id="upgrade-without-origin"),
        pytest.param(inbound("POST"), id="neither-field"),
        pytest.param(inbound("POST", sec_fetch_site=b"same-site"), id="same-site"),
        pytest.param(inbound("POST", sec_fetch_site=b"none"), id="fetch-site-none"),
        pytest.param(inbound("POST", origin=b"null", sec_fetch_site=b"same-origin"), id="null-though-listed"),
        pytest.param(inbound("POST", origin=b"https://evil.example", sec_fetch_site=b"same-origin"), id="origin-rules"),
        pytest.param(inbound("POST", origin=b"http://api.example.com"), id="other-scheme"),
        pytest.param(inbound("POST", origin=b"https://api.example.com:8443"), id="other-port"),
        pytest.param(inbound("POST", origin=b"https://api.example.com.evil.example"), id="longer-host"),
        pytest.param(inbound("POST", origin=b"chrome-extension://api.example.com"), id="another-kind-of-scheme"),
        pytest.param(inbound("POST", origin=b"api.example.com"), id="no-scheme"),
        pytest.param(
            inbound("POST", origin=b"https://api.example.com", repeated=frozenset({"origin"})), id="two-origins"
        ),
        pytest.param(
            inbound("POST", sec_fetch_site=b"same-origin", repeated=frozenset({"sec-fetch-site"})),
            id="two-fetch-sites",
        ),
    ],
)
def test_cookie_from_elsewhere_is_refused(request_):
    with pytest.raises(Forbidden) as refused:
        check(request_)
    assert refused.value.reason == "origin"


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param({"origin": b"https://api.example.com"}, id="own"),
        pytest.param({"origin": b"https://app.example.com"}, id="listed"),
        pytest.param({"origin": b"https://party.example.com"}, id="authorized-party"),
        pytest.param({"sec_fetch_site": b"same-origin"}, id="same-origin-by-fetch-metadata"),
    ],
)
@pytest.mark.parametrize("request_", [("POST", False), ("GET", True)], ids=["post", "upgrade"])
def test_cookie_from_a_page_that_may_is_taken(seen, request_):
    method, upgrade = request_
    check(inbound(method, upgrade=upgrade, **seen))


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "own"),
    [
        (b"https://h.example", "https", b"H.Example", True),
        (b"https://h.example", "https", b"h.example:443", True),
        (b"https://h.example", "https", b"h.example:80", False),
        (b"http://h.example", "http", b"h.example:80", True),
        (b"http://h.example", "http", b"h.example:443", False),
        (b"https://h.example:8443", "https", b"h.example:8443", True),
        (b"https://h.example", "http", b"h.example", False),
        (b"https://h.example", None, b"h.example", True),
        (b"http://h.example", None, b"h.example", True),
        (b"http://h.example:8080", None, b"h.example:8080", True),
        (b"http://h.example:8080", None, b"h.example", False),
        (b"https://[::1]", None, b"[::1]:443", True),
        (b"https://", "https", b"", False),
        (b"https://", None, b"", False),
        (b"capacitor://localhost", None, b"localhost", False),
    ],
)
def test_own_origin_is_scheme_host_and_port(origin, scheme, host, own):
    if own:
        check(inbound("POST", origin=origin), scheme=scheme, host=host)
    else:
        with pytest.raises(Forbidden):
            check(inbound("POST", origin=origin), scheme=scheme, host=host)


# A WebSocket's token


OFFERED = b"chat, gateway.auth, gateway.bearer." + JWT


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param({}, id="alone"),
        pytest.param({"cookie": COOKIES}, id="beside-cookies"),
        pytest.param({"authorization": b"Basic dXNlcjpwYXNz"}, id="beside-another-scheme"),
    ],
)
def test_a_websockets_token_stands_among_its_sub_protocols(seen):
    found = find_credential(inbound(upgrade=True, sec_websocket_protocol=OFFERED, **seen), (POLICY,), now=0)
    assert found == Credential(JWT, "header")


def test_an_empty_token_is_the_credential_all_the_same():
    offered = inbound(upgrade=True, sec_websocket_protocol=b"gateway.bearer.", cookie=COOKIES)
    assert find_credential(offered, (POLICY,), now=0) == Credential(b"", "header")


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param({"sec_websocket_protocol": OFFERED, "authorization": b"Bearer " + JWT}, id="in-authorization-too"),
        pytest.param({"sec_websocket_protocol": OFFERED, "authorization": JWT}, id="in-authorization-without-scheme"),
        pytest.param({"sec_websocket_protocol": b"gateway.bearer.a, gateway.bearer.b"}, id="two-in-the-list"),
        pytest.param({"sec_websocket_protocol": b"gateway.bearer.a, gateway.bearer.a"}, id="the-same-twice"),
    ],
)
def test_a_websocket_brings_one_token(seen):
    with pytest.raises(BadRequest) as refused:
        find_credential(inbound(upgrade=True, **seen), (POLICY,), now=0)
    assert refused.value.reason == "two-credentials"


def test_a_websocket_without_a_token_in_its_list_has_the_usual_credentials():
    plain = {"upgrade": True, "sec_websocket_protocol": b"chat, gateway.auth"}
    assert find_credential(inbound(authorization=b"Bearer x", **plain), (POLICY,), now=0) == Credential(b"x", "header")
    assert find_credential(inbound(cookie=COOKIES, **plain), (POLICY,), now=0).source == "cookie"
    assert find_credential(inbound(**plain), (POLICY,), now=0) == NOTHING


def test_sub_protocols_say_nothing_where_nothing_is_upgraded_and_nothing_is_remembered():
    said = inbound(sec_websocket_protocol=OFFERED, authorization=b"Bearer x")
    assert find_credential(said, (POLICY,), now=0) == Credential(b"x", "header")
    with pytest.raises(BadRequest):
        find_credential(said._replace(upgrade=True), (POLICY,), now=0)
