from gateway.errors import InvalidToken, NoRoute
from gateway.ops.explain.step import BAD, GOOD, NOTE, bad, good, judged, listed, note, refusal_of


def refuse() -> None:
    raise InvalidToken("token-invalid", detail="kid")


def test_a_check_is_told_by_how_it_went():
    assert good("a", "b") == ("a", GOOD, "b")
    assert bad("a", "b") == ("a", BAD, "b")
    assert note("a", "b") == ("a", NOTE, "b")
    assert judged("a", refusal_of(lambda: None), "b") == ("a", GOOD, "b")
    assert judged("a", refusal_of(refuse), "b") == ("a", BAD, "b (token-invalid: kid)")
    assert judged("a", InvalidToken("token-expired"), "b") == ("a", BAD, "b (token-expired)")
    assert judged("a", NoRoute(), "b") == ("a", BAD, "b (no_route)")


def test_nothing_is_listed_as_none():
    assert listed([]) == "none"
    assert listed(["a", 1]) == "a, 1"
