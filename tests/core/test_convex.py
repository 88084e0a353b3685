import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.convex import MOST_READ, Authenticate, check_request, forwarding_lines, read_message
from gateway.core.forwarding import forwarding
from gateway.core.model import Endpoint, Header, Inbound, Peer, Upstream
from gateway.errors import Forbidden, SocketRefused

CONVEX = Upstream("convex", (Endpoint("127.0.0.1", 3210),), convex=True)
OPEN = Upstream("convex", (Endpoint("127.0.0.1", 3210),), convex=True, allow_convex_admin=True)
PEER = Peer("192.0.2.1", trusted=False, scheme="https", port=443)


def inbound(target=b"/api/query", authorization=None, *, method="POST"):
    seen = {} if authorization is None else {"authorization": authorization}
    header = Header([], seen, frozenset(), PEER, b"gw.example.com")
    return Inbound(method, target, target.partition(b"?")[0].decode(), header)


@pytest.mark.parametrize("value", [
    b"Convex prod:otter|key", b"convex key", b"CONVEX key", b"cOnVeX key", b"Convex  key", b"Convex\tkey", b" Convex key",
    b"\tConvex key", b"Convex", b"Convex ", b"Convex\x0bkey", b"\x0bConvex key", b"\x0cConvex key", b"Convex:key",
    b"Convex\xa0key", b"Convex\x00key", b'Convex"key"', b"Bearer a.b.c, Convex key", b"Bearer a.b.c,convex key",
    b",Convex key", b", , Convex key",
])  # fmt: skip
def test_admin_keys_in_authorization_are_refused(value):
    with pytest.raises(Forbidden) as refused:
        check_request(inbound(authorization=value), CONVEX)
    assert refused.value.reason == "convex_admin"
    check_request(inbound(authorization=value), OPEN)


@pytest.mark.parametrize("value", [
    b"Bearer a.b.c", b"Bearer Convex", b"Bearer convex key", b"Convexx key", b"Convex-Dev key", b"xConvex key",
    b"Basic Y29udmV4IA==", b"",
])  # fmt: skip
def test_other_authorization_passes(value):
    check_request(inbound(authorization=value), CONVEX)


@pytest.mark.parametrize("query", [
    b"adminKey=k", b"a=1&adminKey=k", b"adminKey", b"adminKey=", b"%61dminKey=k", b"admin%4bey=k", b"admin%4Bey=k",
    b"%61%64%6d%69%6e%4b%65%79=k", b"a&&adminKey=k", b"adminKey=k&adminKey=l", b"a=1;adminKey=k", b"adminKey=%00",
    b"=&adminKey=k", b"x=%26&adminKey=k",
])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_admin_keys_in_the_query_are_refused(query, method):
    with pytest.raises(Forbidden) as refused:
        check_request(inbound(b"/api/1.44.0/sync?" + query, method=method), CONVEX)
    assert refused.value.reason == "convex_admin"
    check_request(inbound(b"/api/1.44.0/sync?" + query), OPEN)


@pytest.mark.parametrize("query", [
    b"", b"adminkey=k", b"AdminKey=k", b"admin+Key=k", b"adminKey+=k", b"+adminKey=k", b"a=adminKey", b"a=adminKey=k",
    b"admin%254bey=k", b"xadminKey=k", b"admin_key=k", b"adminKey%00=k", b"a=1%26adminKey=k",
])  # fmt: skip
def test_other_queries_pass(query):
    check_request(inbound(b"/api/storage/upload?" + query), CONVEX)


def test_a_path_is_no_query():
    check_request(inbound(b"/http/%3FadminKey=k"), CONVEX)


@pytest.mark.parametrize(("peer", "seen", "expected"), [
    (PEER, {}, b"\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443"),
    (
        PEER._replace(trusted=True),
        {"x-forwarded-for": b"1.2.3.4", "x-forwarded-host": b"app.example.com", "x-forwarded-proto": b"http"},
        b"\r\nX-Forwarded-For: 1.2.3.4, 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 80",
    ),
])  # fmt: skip
def test_the_forwarding_fields_are_without_the_host(peer, seen, expected):
    assert forwarding_lines(forwarding(Header([], seen, frozenset(), peer, b"gw.example.com"))) == expected


def test_without_a_host_nothing_is_taken_away():
    forwarded = forwarding(Header([], {}, frozenset(), PEER, b""))
    assert forwarding_lines(forwarded) == forwarded.lines


# Messages

USER = {"type": "Authenticate", "tokenType": "User", "value": "a.b.c", "baseVersion": 0}
NONE = {"type": "Authenticate", "tokenType": "None", "baseVersion": 1}
ADMIN = USER | {"tokenType": "Admin", "value": "otter|key"}
ADMIN_TEXT = json.dumps(ADMIN)


def written(message):
    return json.dumps(message).encode()


@pytest.mark.parametrize(("content", "token"), [
    (written(USER), b"a.b.c"),
    (written(NONE), None),
    (b' \n{ "tokenType" :\t"User", "value": "a\\u002eb.c", "type": "Authenticate" }\r\n', b"a.b.c"),
    (rb'{"type":"\u0041uthenticate","tokenTyp\u0065":"Non\u0065"}', None),
    (written(USER | {"value": ""}), b""),
])  # fmt: skip
def test_users_and_nobody_are_read(content, token):
    assert read_message(content) == Authenticate(token)


@pytest.mark.parametrize("message", [
    {"type": "Connect", "sessionId": "x", "connectionCount": 0},
    {"type": "ModifyQuerySet", "modifications": [{"type": "Authenticate", "tokenType": "Admin"}]},
    {"type": "Mutation", "args": [ADMIN]},
    {"type": "Mutation", "args": [{"text": ADMIN_TEXT}]},
    {"type": "Event", "event": {"type": "Authenticate"}},
    {"type": "authenticate", "value": "k"},
    {"type": 4, "value": "k"},
    {"args": [{"a": 1, "b": ADMIN}], "type": "Action"},
])  # fmt: skip
def test_other_messages_pass(message):
    assert read_message(written(message)) is None
    assert read_message(written(message | {"padding": "é" * 10})) is None
    assert read_message(json.dumps(message | {"padding": "é\x1b"}, ensure_ascii=False).encode()) is None


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"[1, 2]", b"{", b'"x"', b'{"type":"Mutation","type":"Action"}', b"\xef\xbb\xbf{}"]
)
def test_what_is_no_authenticate_in_any_reading_is_convexs_business(content):
    assert read_message(content) is None


@pytest.mark.parametrize(("content", "code", "reason"), [
    (written(ADMIN), 4403, b"convex-admin"),
    (written(ADMIN | {"impersonating": {"subject": "x"}}), 4403, b"convex-admin"),
    (ADMIN_TEXT.replace("Admin", r"\u0041dmin").encode(), 4403, b"convex-admin"),
    (ADMIN_TEXT.replace("Authenticate", r"\u0041uthenticate").encode(), 4403, b"convex-admin"),
    (ADMIN_TEXT.replace("tokenType", r"\u0074oken\u0054ype").encode(), 4403, b"convex-admin"),
    (ADMIN_TEXT.replace('"type"', r'"typ\u0065"').encode(), 4403, b"convex-admin"),
    (rb'{"x":"\\","typ\u0065":"\u0041uthenticate","\u0074okenType":"\u0041dmin","value":"k"}', 4403, b"convex-admin"),
    (f" \r\n\t{ADMIN_TEXT}\n".encode(), 4403, b"convex-admin"),
    (written(ADMIN | {"type": "Mutation"}), 4403, b"convex-admin"),
    (b'{"type":4,"tokenType":0,"value":"otter|key","baseVersion":0}', 4403, b"convex-authenticate"),
    (b'{"type":4,"tokenType":"Admin","value":"otter|key","baseVersion":0}', 4403, b"convex-admin"),
    (b'{"type":"Authenticate","tokenType":0,"value":"otter|key"}', 4403, b"convex-authenticate"),
    (written(USER | {"tokenType": "admin"}), 4403, b"convex-authenticate"),
    (written(USER | {"tokenType": "user"}), 4403, b"convex-authenticate"),
    (written(USER | {"tokenType": ["Admin"]}), 4403, b"convex-authenticate"),
    (written(USER | {"tokenType": None}), 4403, b"convex-authenticate"),
    (written(USER | {"value": 1}), 4403, b"convex-authenticate"),
    (written(USER | {"value": "é"}), 4403, b"convex-authenticate"),
    (b'{"type":"Authenticate"}', 4403, b"convex-authenticate"),
    (b'{"type":"Mutation","tokenType":"User","type":"Authenticate"}', 4403, b"convex-json"),
    (b'{"type":"Authenticate","tokenType":"User","tokenType":"Admin","value":"k"}', 4403, b"convex-json"),
    (b'{"type":"Authenticate","tokenType":"Admin","tokenType":"User","value":"k"}', 4403, b"convex-json"),
    (rb'{"type":"Authenticate","tokenType":"User","tokenTyp\u0065":"Admin"}', 4403, b"convex-json"),
    (b'{"a":1,"a":2,"x":"Authenticate"}', 4403, b"convex-json"),
    (b'["Authenticate",{"tokenType":"Admin","value":"k"}]', 4403, b"convex-json"),
    (b'"Authenticate"', 4403, b"convex-json"),
    (ADMIN_TEXT.encode() + b"x", 4403, b"convex-json"),
    (b"\xef\xbb\xbf" + ADMIN_TEXT.encode(), 4403, b"convex-json"),
    (b"\x00" + ADMIN_TEXT.encode(), 4403, b"convex-json"),
    (ADMIN_TEXT.encode()[:-1], 4403, b"convex-json"),
    (b"//\n" + ADMIN_TEXT.encode(), 4403, b"convex-json"),
    (b'{"n":NaN,"tokenType":"None","type":"Authenticate"}', 4403, b"convex-json"),
    (b'{"n":-Infinity,"tokenType":"None","type":"Authenticate"}', 4403, b"convex-json"),
    (b'{"n":' + b"9" * 5000 + b',"tokenType":"None"}', 4403, b"convex-json"),
    (b'{"n":' + b"[" * 200_000 + b',"tokenType":"None"}', 4403, b"convex-json"),
    (b'{"type":"Authenticate","v":"\n"}', 4403, b"convex-json"),
    (ADMIN_TEXT.encode("utf-16-le"), None, b""),
    (ADMIN_TEXT.encode("utf-16"), 1007, b"not UTF-8"),
    (b'{"type":"Authenticate","x":"\xff"}', 1007, b"not UTF-8"),
    (b'{"\xc1\xb4okenType":0}', 1007, b"not UTF-8"),
    (b"\xff", 1007, b"not UTF-8"),
    (b'"\xed\xa0\x80"', 1007, b"not UTF-8"),
    (written(USER | {"value": "x" * MOST_READ}), 1009, b"message too large to be judged"),
    (written(ADMIN | {"value": "x" * MOST_READ}), 1009, b"message too large to be judged"),
])  # fmt: skip
def test_admins_and_what_is_not_plain_are_refused(content, code, reason):
    if code is None:
        assert read_message(content) is None  # zeros between the letters: no reader of UTF-8 finds JSON in it
        return
    with pytest.raises(SocketRefused) as refused:
        read_message(content)
    assert (refused.value.code, refused.value.reason) == (code, reason)


def test_a_large_message_without_a_suspect_string_is_not_read():
    source = 'Authenticate tokenType "Authenticate" "tokenType" é \x1b'
    message = {"type": "Mutation", "args": [{"text": source + "x" * MOST_READ}]}
    assert read_message(written(message)) is None


def test_no_reason_is_longer_than_a_close_frame_takes():
    for content in (written(USER | {"value": "x" * MOST_READ}), written(ADMIN), b"\xff"):
        with pytest.raises(SocketRefused) as refused:
            read_message(content)
        assert len(refused.value.reason) <= 123


LETTERS = st.sampled_from(["plain", "escaped"])


@given(st.lists(LETTERS, min_size=60, max_size=60), st.sampled_from([0, 1, 7]), st.randoms(use_true_random=False))
def test_an_admin_is_found_however_it_is_spelt(spelling, blanks, random):
    names = list(ADMIN)
    random.shuffle(names)
    how = iter(spelling)

    def spelt(text):
        return '"' + "".join(c if next(how) == "plain" else f"\\u{ord(c):04x}" for c in text) + '"'

    short = {"type": "Authenticate", "tokenType": "Admin"}
    space = " " * blanks
    members = [f"{spelt(name)}{space}:{space}{spelt(short[name])}" for name in names if name in short]
    members += [f'"{name}":{json.dumps(ADMIN[name])}' for name in names if name not in short]
    random.shuffle(members)
    with pytest.raises(SocketRefused) as refused:
        read_message(("{" + f"{space},{space}".join(members) + "}").encode())
    assert refused.value.code == 4403
