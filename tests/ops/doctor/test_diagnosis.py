import pytest

from gateway.ops.doctor.diagnosis import Diagnosis, clean, error, lasting, listed, ok, quoted, skipped, warning
from tests.ops.doctor.world import CLERK, NOW


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("Clerk said sk_live_abcdefgh12 is wrong", "Clerk said … is wrong", id="secret-key"),
        pytest.param("whsec_c2VjcmV0c2VjcmV0", "…", id="webhook-secret"),
        pytest.param("postgresql://gateway:pass@db/x", "postgresql://…db/x", id="password"),
        pytest.param("ak_1234 mt_1234 m2m_12 oat_123", "… … … …", id="machine-tokens"),
        pytest.param("a\r\nb\x1b[31m", "a??b?[31m", id="control-characters"),
        pytest.param("x" * 600, "x" * 500 + "…", id="long"),
        pytest.param("plain", "plain", id="plain"),
    ],
)
def test_clean_hides_secrets_and_keeps_to_one_line(text, shown):
    assert clean(text) == shown


def test_clean_hides_every_part_of_a_token():
    token = CLERK.session_token(NOW)
    shown = clean(f"got {token} and {token.split('.')[0]} and {'.'.join(token.split('.')[:2])}")
    assert shown == "got … and … and …"


def test_makers_say_how_bad_it_is():
    assert [each.level for each in (ok("a", "b"), skipped("a", "b"), warning("a", "b", "c"), error("a", "b", "c"))] == [
        "ok", "skipped", "warning", "error"
    ]  # fmt: skip
    assert error("a", "b", "c") == Diagnosis("error", "a", "b", "c")


def test_quoted_is_cut():
    assert quoted("x" * 200) == '"' + "x" * 100 + '…"'
    assert quoted(["a"]) == "\"['a']\""


def test_listed_counts_what_it_leaves_out():
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert listed(["a"]) == "a"


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 s"), (-90, "90 s"), (600, "10 min"), (10_800, "3 h"), (200_000, "2 d")]
)
def test_lasting_is_said_as_people_do(seconds, said):
    assert lasting(seconds) == said
