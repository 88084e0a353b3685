import pytest

from gateway.core.admin import AdminPolicy, check_site, check_token
from gateway.errors import Forbidden, InvalidToken, MissingCredential

TOKEN = "correct-horse-battery"
NEAR = AdminPolicy("127.0.0.1", 9901, loopback=True, token=TOKEN.encode())
FAR = AdminPolicy("0.0.0.0", 9901, loopback=False, token=TOKEN.encode())
OFF = AdminPolicy("127.0.0.1", 9901, loopback=True)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:9901", "127.0.0.1", "127.0.0.1:1", "127.9.9.9:9901", "[::1]", "[::1]:9901"]
)
def test_loopback_names_are_answered_on_any_port(host):
    check_site(NEAR, host=host, origins=[])


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:9901", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:",
        "localhost:9901:", "evil.localhost", "localhost.", "[::1].evil.example", "[::1]evil", "[::2]", "0.0.0.0", "127.1",
        "2130706433", "10.0.0.1", "localhost,evil.example", "localhost\n", "localhost:٣", "127.٠.0.1", "user@localhost",
    ],
)  # fmt: skip
def test_another_name_is_not_answered_on_loopback(host):
    with pytest.raises(Forbidden) as refused:
        check_site(NEAR, host=host, origins=[])
    assert refused.value.reason == "host"
    check_site(FAR, host=host, origins=[])  # where it may have any


@pytest.mark.parametrize("policy", [NEAR, FAR], ids=["near", "far"])
@pytest.mark.parametrize("origin", ["http://localhost:9901", "https://LOCALHOST:9901"])
def test_a_page_of_its_own_may_call(policy, origin):
    check_site(policy, host="localhost:9901", origins=[origin])


@pytest.mark.parametrize("policy", [NEAR, FAR], ids=["near", "far"])
@pytest.mark.parametrize(
    "origins",
    [
        ["https://evil.example"], ["http://localhost:3000"], ["http://localhost"], ["null"], [""], ["localhost:9901"],
        ["ftp://localhost:9901"], ["http://localhost:9901/"], ["http://localhost:9901", "https://evil.example"],
        ["http://127.0.0.1:9901"],
    ],
)  # fmt: skip
def test_another_sites_page_may_not(policy, origins):
    with pytest.raises(Forbidden) as refused:
        check_site(policy, host="localhost:9901", origins=origins)
    assert refused.value.reason == "origin"


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN}\t"])
def test_the_configured_token_passes(value):
    check_token(NEAR, [value])


@pytest.mark.parametrize(
    "values",
    [
        [], [""], ["Basic dXNlcjpwYXNz"], [TOKEN], [f"Bearer {TOKEN}", f"Bearer {TOKEN}"], [f"Bearer\t{TOKEN}"],
        [f"Béarer {TOKEN}"], ["\udcff\udcfe"],
    ],
)  # fmt: skip
def test_no_one_bearer_token_is_a_missing_one(values):
    with pytest.raises(MissingCredential):
        check_token(NEAR, values)


@pytest.mark.parametrize(
    "sent", ["", " ", "wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "ключ", "\udcff\udc80", "\0", "x" * 9000]
)
def test_any_other_token_is_refused(sent):
    with pytest.raises(InvalidToken):
        check_token(NEAR, [f"Bearer {sent}"])


@pytest.mark.parametrize("value", ["Bearer ", "Bearer", "Bearer None", f"Bearer {TOKEN}"])
def test_without_a_configured_token_nobody_gets_in(value):
    with pytest.raises(InvalidToken):
        check_token(OFF, [value])


def test_the_token_is_in_no_repr():
    assert TOKEN not in repr(NEAR)
