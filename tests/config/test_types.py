import pytest
from pydantic import ValidationError

from gateway.config.types import (
    Flag,
    MaxAge,
    Minutes,
    Org,
    Port,
    Seconds,
    Section,
    Skew,
    Strings,
    Timeout,
    Whole,
    Workers,
    setting,
)


class Sample(Section):
    flag: Flag = setting(True, "")
    whole: Whole = setting(7, "")
    seconds: Seconds = setting(7, "")
    timeout: Timeout = setting(7, "")
    skew: Skew = setting(5, "")
    minutes: Minutes | None = setting(None, "")
    port: Port = setting(7, "")
    strings: Strings = setting(("x",), "")
    org: Org = setting((), "")
    workers: Workers = setting(1, "")
    age: MaxAge | None = setting(None, "")


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        pytest.param("flag", "FALSE", False, id="flag-as-text"),
        pytest.param("whole", "12", 12, id="number-as-text"),
        pytest.param("seconds", "1.5", 1.5, id="seconds-as-text"),
        pytest.param("seconds", 0, 0, id="no-seconds"),
        pytest.param("port", 0, 0, id="any-port"),
        pytest.param("strings", "a, b ,,c", ("a", "b", "c"), id="comma-text"),
        pytest.param("strings", ["a,b"], ("a,b",), id="an-item-is-not-split"),
        pytest.param("strings", "", (), id="no-text-is-no-item"),
        pytest.param("org", True, True, id="any-org"),
        pytest.param("org", "true", True, id="any-org-as-text"),
        pytest.param("org", "acme, org_1", ("acme", "org_1"), id="orgs"),
        pytest.param("workers", "4", 4, id="workers-as-text"),
        pytest.param("workers", "auto", "auto", id="workers-auto"),
    ],
)
def test_a_value_is_read(key, given, value):
    assert getattr(Sample.model_validate({key: given}), key) == value


@pytest.mark.parametrize(
    ("key", "given"),
    [
        pytest.param("flag", 0, id="zero-as-flag"),
        pytest.param("flag", "no", id="no-as-flag"),
        pytest.param("whole", True, id="flag-as-number"),
        pytest.param("whole", -1, id="negative"),
        pytest.param("whole", 2**60, id="huge"),
        pytest.param("seconds", True, id="flag-as-seconds"),
        pytest.param("seconds", "inf", id="endless"),
        pytest.param("seconds", 10**9, id="milliseconds"),
        pytest.param("timeout", 0, id="no-time"),
        pytest.param("skew", 61, id="skew"),
        pytest.param("minutes", 0, id="no-minutes"),
        pytest.param("port", 65536, id="port"),
        pytest.param("port", -1, id="negative-port"),
        pytest.param("org", 5, id="number-as-org"),
        pytest.param("workers", 5000, id="many-workers"),
        pytest.param("workers", "1.5", id="half-a-worker"),
        pytest.param("age", -1, id="negative-age"),
        pytest.param("strings", 5, id="number-as-list"),
    ],
)
def test_a_value_is_refused(key, given):
    with pytest.raises(ValidationError):
        Sample.model_validate({key: given})


def test_null_is_the_default_where_null_means_nothing_else():
    sample = Sample.model_validate({"flag": None, "strings": None, "minutes": None, "age": None})
    assert (sample.flag, sample.strings, sample.minutes, sample.age) == (True, ("x",), None, None)
    assert sample.model_fields_set == {"minutes", "age"}


def test_one_age_is_the_first_factors():
    age = Sample.model_validate({"age": 10}).age
    assert (age.first, age.second) == (10, None)


def test_a_section_does_not_change():
    with pytest.raises(ValidationError):
        Sample().whole = 5
