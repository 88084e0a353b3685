import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.directives import MAX_BYTES, MOST, cookie_lines, followed, read_directives, session_of

GOOD = "__session=ey.J.x; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; SameSite=Lax"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param(GOOD, True, id="session"),
        pytest.param("__session_naoXFJnI=x", True, id="suffixed"),
        pytest.param("__client_uat=0; Domain=example.com", True, id="client-uat"),
        pytest.param("__refresh_naoXFJnI=; Max-Age=0", True, id="taken-away"),
        pytest.param("__clerk_db_jwt=dvb_1", True, id="dev-browser"),
        pytest.param("sid=1", False, id="anybody-elses"),
        pytest.param("__sessionx=1", False, id="resembles-clerks"),
        pytest.param(" __session=1", False, id="blank-in-front"),
        pytest.param("__session", False, id="no-value"),
        pytest.param("__session=a b", False, id="blank-in-value"),
        pytest.param('__session="a"', False, id="quotes"),
        pytest.param("__session=a\r\nX-User-Id: user_2", False, id="line-end"),
        pytest.param("__session=a\nX: y", False, id="bare-lf"),
        pytest.param("__session=a; Path=/\r\nX: y", False, id="line-end-in-attribute"),
        pytest.param("__session=a\0", False, id="nul"),
        pytest.param("__session=ä", False, id="not-ascii"),
        pytest.param("__session=" + "a" * MAX_BYTES, False, id="too-long"),
        pytest.param(7, False, id="a-number"),
        pytest.param(None, False, id="null"),
    ],
)
def test_only_what_a_cookie_of_clerks_may_be_is_passed_on(said, kept):
    assert read_directives([said]) == ((said,) if kept else ())


@pytest.mark.parametrize("said", [None, "__session=x", {"0": GOOD}, 7])
def test_what_is_no_list_holds_nothing(said):
    assert read_directives(said) == ()


def test_there_are_only_so_many():
    assert len(read_directives([GOOD] * 1000)) == MOST


@given(st.text())
def test_no_directive_ends_its_field(text):
    for kept in read_directives([f"__session={text}", f"__session=x; {text}", text]):
        line = cookie_lines((kept,))
        assert line.count(b"\r") == line.count(b"\n") == 1


def test_several_stay_several():
    assert (
        cookie_lines(("__session=a", "__client_uat=1")) == b"\r\nSet-Cookie: __session=a\r\nSet-Cookie: __client_uat=1"
    )
    assert cookie_lines(()) == b""


@pytest.mark.parametrize(
    ("directives", "session"),
    [
        pytest.param((), "", id="nothing"),
        pytest.param(("__client_uat=5",), "", id="none"),
        pytest.param((GOOD,), "ey.J.x", id="one"),
        pytest.param(("__session=a", "__client_uat=1", "__session_naoXFJnI=b; Path=/"), "b", id="the-last"),
        pytest.param(("__session=a", "__session_naoXFJnI=; Max-Age=0"), "", id="the-last-is-taken-away"),
    ],
)
def test_the_session_is_the_last_one(directives, session):
    assert session_of(directives) == session


@pytest.mark.parametrize(
    ("cookie", "directives", "after"),
    [
        pytest.param(b"", ("__session=n",), b"__session=n", id="none-before"),
        pytest.param(b"a=1; __session=o; b=2", ("__session=n; Path=/",), b"a=1; b=2; __session=n", id="replaced"),
        pytest.param(b"__session=o;__session=p; a=1", ("__session=n",), b"a=1; __session=n", id="every-copy"),
        pytest.param(b"__refresh_x=o; a=1", ("__refresh_x=; Max-Age=0",), b"a=1", id="taken-away"),
        pytest.param(b"__clerk_handshake_nonce=n; __clerk_redirect_count=2; a=1; ;", (), b"a=1", id="spent"),
        pytest.param(b"a=1", ("__clerk_handshake=x",), b"a=1", id="never-comes-back"),
        pytest.param(b"__session_other=x", ("__session=n",), b"__session_other=x; __session=n", id="anothers-stays"),
    ],
)
def test_an_upstream_gets_the_cookies_of_afterwards(cookie, directives, after):
    assert followed(cookie, directives) == after
