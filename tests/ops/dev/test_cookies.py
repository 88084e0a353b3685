"""The directives that tell an application who is signed in."""

from http.cookies import SimpleCookie

import pytest

from gateway.ops.dev.cookies import CLIENT, SignedIn, carrying, client, client_uat, directives
from gateway.ops.dev.instance import Instance

DEV, LIVE = Instance("http://127.0.0.1:8081"), Instance("http://127.0.0.1:8081", development=False)
SIGNED_IN = SignedIn("a.b.c", 1_800_000_000, "rt_1")


def read(fields):
    """Give each cookie by name; a name that came twice is no good."""
    jar = {}
    for field in fields:
        ((name, morsel),) = SimpleCookie(field).items()
        assert name not in jar
        assert (morsel["path"], morsel["samesite"], morsel["domain"]) == ("/", "Lax", "")
        jar[name] = morsel
    return jar


def is_gone(morsel):
    return morsel.value == "" and morsel["max-age"] == "0" and morsel["expires"].startswith("Thu, 01 Jan 1970")


@pytest.mark.parametrize("played", [DEV, LIVE], ids=["development", "production"])
def test_signed_in_sets_both_spellings(played):
    jar = read(directives(played, SIGNED_IN, browser="dvb_1"))
    values = {name: morsel.value for name, morsel in jar.items() if not is_gone(morsel)}
    browser = {"__clerk_db_jwt": "dvb_1", f"__clerk_db_jwt_{played.suffix}": "dvb_1"} if played is DEV else {}
    assert values == {
        "__session": "a.b.c", f"__session_{played.suffix}": "a.b.c",
        "__client_uat": "1800000000", f"__client_uat_{played.suffix}": "1800000000",
        f"__refresh_{played.suffix}": "rt_1",
    } | browser  # fmt: skip
    assert [name for name, morsel in jar.items() if morsel["httponly"]] == [f"__refresh_{played.suffix}"]


@pytest.mark.parametrize("played", [DEV, LIVE], ids=["development", "production"])
def test_signed_out_takes_everything_away_and_says_so(played):
    jar = read(directives(played, None, browser="dvb_1"))
    gone = {name for name, morsel in jar.items() if is_gone(morsel)}
    assert {"__session", f"__session_{played.suffix}", f"__refresh_{played.suffix}"} <= gone
    assert {jar[name].value for name in ("__client_uat", f"__client_uat_{played.suffix}")} == {"0"}


def test_what_carried_the_handshake_goes_with_it():
    jar = read(directives(LIVE, SIGNED_IN, browser=""))
    assert is_gone(jar["__clerk_handshake"])
    assert is_gone(jar["__clerk_handshake_nonce"])


def test_only_scripts_own_cookies_are_open_to_scripts():
    for field in (carrying("__clerk_handshake_nonce", "n"), client("client_1")):
        ((_, morsel),) = SimpleCookie(field).items()
        assert morsel["httponly"]
    assert client("client_1").startswith(f"{CLIENT}=client_1;")
    assert not any("HttpOnly" in field for field in client_uat(LIVE, SIGNED_IN))
