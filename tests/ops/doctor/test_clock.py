import pytest

from gateway.ops.doctor.clock import clerk_clock, upstream_clocks
from tests.ops.doctor.world import levels, said


@pytest.mark.parametrize(
    ("offset_s", "level", "words"),
    [
        pytest.param(0.4, "ok", "agrees", id="same"),
        pytest.param(-1.9, "ok", "agrees", id="within-what-dates-can-say"),
        pytest.param(4.0, "warning", "clock_skew_s: 5 still covers it", id="covered"),
        pytest.param(20.0, "error", "20 s behind Clerk's (its keys)", id="behind"),
        pytest.param(20.0, "error", "token-iat-in-the-future", id="behind-effect"),
        pytest.param(20.0, "error", "Until then clock_skew_s: 23 covers it", id="behind-stopgap"),
        pytest.param(-50.0, "error", "50 s ahead of Clerk's", id="ahead"),
        pytest.param(-50.0, "error", "token-expired before their time", id="ahead-effect"),
        pytest.param(58.5, "error", "clock_skew_s: 60", id="never-more-than-may-be-written"),
        pytest.param(240.0, "error", "timedatectl", id="minutes"),
    ],
)
def test_our_clock_is_judged_by_clerks(offset_s, level, words):
    found = clerk_clock({"its keys": offset_s}, 5.0)
    assert levels(found) == [level]
    assert words in said(found)


def test_no_stopgap_is_offered_that_could_not_be_written():
    assert "covers it" not in said(clerk_clock({"its keys": 240.0}, 5.0))


def test_whoever_agrees_best_is_believed():
    assert levels(clerk_clock({"its keys": 3600.0, "its Backend API": 0.2}, 5.0)) == ["ok"]


def test_without_anybody_to_ask_nothing_is_said():
    assert levels(clerk_clock({}, 5.0)) == ["skipped"]


def test_an_upstreams_clock_is_judged_by_everybodys():
    clerk = {"its keys": 120.0}
    assert upstream_clocks({"upstream api": 119.0}, clerk) == []  # it is ours that is wrong
    (found,) = upstream_clocks({"upstream api": 0.0}, clerk)
    assert (found.level, found.subject) == ("warning", "upstream api")
    assert "2 min behind" in found.found
    assert "ahead" in said(upstream_clocks({"upstream api": 300.0}, clerk))
