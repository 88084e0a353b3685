import pytest

from gateway.core.verify import read_token
from gateway.errors import InvalidToken
from gateway.ops.doctor.peeked import formless, misshapen, peek
from tests.fakes.clerk import b64url
from tests.ops.doctor.world import CLERK, NOW, said


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("undefined", "is the word undefined", id="undefined"),
        pytest.param("null", "Write await before getToken()", id="null"),
        pytest.param("[object Promise]", "await", id="promise"),
        pytest.param("sk_live_abcdefgh", "roll it now", id="secret-key"),
        pytest.param("pk_live_abcdefgh", "publishable key", id="publishable-key"),
        pytest.param("abc", "has 1 part instead of three", id="one-part"),
        pytest.param("a.b", "has 2 parts", id="two-parts"),
        pytest.param("a.b.c", "cannot be read", id="no-json"),
        pytest.param("é.b.c", "cannot be read", id="not-ascii"),
        pytest.param("x" * 20_000, "longer than 16384 bytes", id="too-long"),
        pytest.param("W10.W10.c", "cannot be read", id="lists"),
        pytest.param(b64url(b"[" * 600) + ".e30.x", "cannot be read", id="deep"),
    ],
)
def test_what_is_no_token_is_told_from_others(raw, words):
    assert peek(raw) is None
    found = said(formless(raw))
    assert found.startswith("error")
    assert words in found


@pytest.mark.parametrize(
    ("header", "words"),
    [
        pytest.param({"alg": "HS256"}, ["signed with \"HS256\"", "custom signing key", "token-invalid-algorithm"], id="algorithm"),
        pytest.param({"crit": ["x"]}, ["crit", "token-invalid"], id="crit"),
        pytest.param({"typ": "JOSE"}, ["typ"], id="typ"),
    ],
)  # fmt: skip
def test_a_header_that_is_not_taken_is_named(header, words):
    raw = CLERK.mint(CLERK.session_claims(NOW), header=header)
    with pytest.raises(InvalidToken) as refused:
        read_token(raw.encode())
    found = said(misshapen(peek(raw), refused.value))
    for word in words:
        assert word in found


def test_a_user_is_asked_for_by_an_id_that_fits_alone():
    assert peek(CLERK.session_token(NOW)).user_id == "user_1"
    for odd in ("mch_1", "user_../../x", "user_é", "user_" + "x" * 200, 5):
        assert peek(CLERK.session_token(NOW, sub=odd)).user_id is None
