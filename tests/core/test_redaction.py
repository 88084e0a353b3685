import pytest

from gateway.core.redaction import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk_live_abcdef is wrong", "key … is wrong"),
        ("sk_test_ab$cd'ef", "…'ef"),
        ("whsec_MfKQ9r8GKYqrTwjU", "…"),
        ("ak_abcdef, mt_abcdef, m2m_abcdef, oat_abcdef", "… … … …"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyXzEifQ.c2ln!", "…!"),
        ("eyJhbGciOiJSUzI1NiJ9", "…"),
        ("postgresql://gw:hunter2@db/gateway", "postgresql://…db/gateway"),
        (
            "https://a.example/?redirect_url=%2Fx%3Fa%3DeyJhbGciOiJSUzI1NiJ9.e30.c2ln",
            "https://a.example/?redirect_url=%2Fx%3Fa%3D…",
        ),
        ("%3Fkey%3Dsk_live_abcdef", "%3Fkey%3D…"),
        ("m2m_token_abcdef", "…"),
        # what only names such things
        ("/m2m_tokens/verify: status 500; m2m_token", "/m2m_tokens/verify: status 500; m2m_token"),
        ("write sk_… or whsec_…", "write sk_… or whsec_…"),
        ("a token that begins with ak_ or mt_", "a token that begins with ak_ or mt_"),
        ("make_ak_abcdef and eyJx", "make_ak_abcdef and eyJx"),
        ("https://clerk.example.com/x@y", "https://clerk.example.com/x@y"),
    ],
)
def test_secrets_are_known_by_their_looks(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_the_first_characters_may_be_shown() -> None:
    assert without_secrets("is ak_abcdef good", shown=6) == "is ak_abc… good"
