import pytest

from gateway.ops.explain.shown import masked, masked_field, plain, without_secrets
from tests.fakes.clerk import FakeClerk

TOKEN = FakeClerk().session_token(0)


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("", "… (0 characters)"),
        ("short", "… (5 characters)"),
        ("twelve_chars", "… (12 characters)"),
        ("ak_0123456789abcdef", "ak_012… (19 characters)"),
        (TOKEN, f"eyJhbG… ({len(TOKEN)} characters)"),
    ],
)
def test_a_secret_is_a_stump(secret, shown):
    assert masked(secret) == shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", f"Bearer {TOKEN}", f"Bearer eyJhbG… ({len(TOKEN)} characters)"),
        ("authorization", TOKEN, f"eyJhbG… ({len(TOKEN)} characters)"),
        ("Authorization", "Basic dXNlcjpwYXNz", "Basic … (12 characters)"),
        ("Proxy-Authorization", "Digest 0123456789abcdef", "Digest 012345… (16 characters)"),
        ("Cookie", "theme=dark; __session=abc; flag", "theme=…; __session=…; …"),
        ("X-Api-Key", "0123456789abcdef", "012345… (16 characters)"),
        ("X-Auth-Token", "secret", "… (6 characters)"),
        ("X-User-Assertion", TOKEN, "eyJhbG…"),
        ("X-User-Email", "ada@example.com", "ada@example.com"),
        ("X-User-Token-Type", "session", "session"),
        ("Location", f"https://x.example/?__session={TOKEN}&a=b", "https://x.example/?__session=…&a=b"),
    ],
)
def test_a_field_is_shown_without_its_secret(name, value, shown):
    assert masked_field(name, value) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a {TOKEN} b", "a eyJhbG… b"),
        (f"a {TOKEN.rpartition('.')[0]}. b", "a eyJhbG… b"),
        (f"cut {TOKEN[:40]}", "cut eyJhbG…"),
        ("sk_live_0123456789 whsec_0123456789=", "sk_liv… whsec_…"),
        ("/x?adminKey=prod:a|b&q=1&my_token=xyz", "/x?adminKey=…&q=1&my_token=…"),
        ("pk_live_Y2xlcmsuZXhhbXBsZS5jb20k is public", "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k is public"),
        ("org:admin, user_1, sess_1, api.example.com", "org:admin, user_1, sess_1, api.example.com"),
    ],
)
def test_what_looks_like_a_secret_is_masked_anywhere(text, shown):
    assert without_secrets(text) == shown


def test_what_is_known_to_be_a_secret_is_masked_whatever_it_looks_like():
    assert without_secrets("a correct-horse-battery b", "correct-horse-battery") == "a correc… b"
    assert without_secrets("a hunter22 b", "hunter22") == "a … b"


def test_no_text_reaches_the_terminal_as_a_command():
    assert plain("a\x1b[2Jb\r\nc\u202ed") == "a?[2Jb??c?d"
