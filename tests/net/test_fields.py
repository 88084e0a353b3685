"""What of an answer's head goes on, by name. How it arrives is in `test_wire` and `test_exchange`."""

import pytest

from gateway.net import fields
from gateway.net.fields import CODING, CONNECTION, CORS, DROP, LENGTH, UPGRADE, judge, judged


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        (b"Content-Type", b"\r\nContent-Type: "), (b"x-oDD", b"\r\nx-oDD: "), (b"CONTENT-LENGTH", LENGTH),
        (b"Transfer-encoding", CODING), (b"connection", CONNECTION), (b"Keep-Alive", DROP), (b"Upgrade", UPGRADE),
        (b"X-Request-Id", DROP), (b"Access-Control-Allow-Origin", CORS), (b"Set-Cookie", b"\r\nSet-Cookie: "),
    ],
)  # fmt: skip
def test_a_name_is_judged_whatever_its_case_and_goes_on_in_its_own(name: bytes, verdict: object) -> None:
    assert judge(name) == verdict
    assert judged[name] == verdict


def test_the_memory_of_names_is_bounded_and_takes_no_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "judged", {})
    for number in range(2 * fields.REMEMBERED_NAMES):
        assert judge(b"X-%d" % number) == b"\r\nX-%d: " % number
    assert len(fields.judged) == fields.REMEMBERED_NAMES
    fields.judged.clear()
    judge(b"x" * 65)
    assert not fields.judged
