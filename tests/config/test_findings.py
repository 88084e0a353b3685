import pytest

from gateway.config.findings import Finding, Place, Report, closest, did_you_mean, dotted


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        pytest.param(
            Finding("f.yaml", 12, "routes[2].requier", "unknown key", 'Did you mean "require"?'),
            'f.yaml:12: routes[2].requier: unknown key. Did you mean "require"?',
            id="error",
        ),
        pytest.param(Finding("f.yaml", 3, "a", "odd", None, "insecure"), "f.yaml:3: insecure: a: odd", id="insecure"),
        pytest.param(Finding("f.yaml", None, "", "not YAML", None), "f.yaml: not YAML", id="no-line-no-key"),
    ],
)
def test_a_finding_is_one_readable_line(finding, text):
    assert str(finding) == text


@pytest.mark.parametrize(
    "secret",
    [
        "sk_live_abcdefgh",
        "sk_test_abcdefgh",
        "whsec_abcdefgh",
        "ak_abcdefgh",
        "mt_abcdefgh",
        "m2m_abcdefgh",
        "oat_abcdefgh",
    ],
)
def test_no_secret_is_repeated(secret):
    report = Report("f.yaml")
    report.error((secret,), f'"{secret}" is odd', f"Not {secret}")
    assert "abcdefgh" not in str(report.findings[0])


def test_no_password_of_a_url_is_repeated():
    report = Report("f.yaml")
    report.warning(("a",), '"https://user:hunter2@host/x"')
    assert report.findings[0].message == '"https://…host/x"'


def test_control_characters_are_spelt_out():
    report = Report("f.yaml")
    report.error(("a\nb",), "line\x1b[31m")
    assert str(report.findings[0]) == "f.yaml: a\\nb: line\\x1b[31m"


def test_a_missing_value_stands_where_its_section_does():
    report = Report("f.yaml")
    report.places |= {("routes",): Place(4), ("routes", 0): Place(5)}
    report.error(("routes", 0, "path"), "is missing")
    report.error(("upstreams",), "is missing")
    assert [finding.line for finding in report.findings] == [5, None]


def test_what_is_said_twice_is_said_once():
    report = Report("f.yaml")
    report.warning(("a",), "odd")
    report.warning(("a",), "odd")
    assert len(report.findings) == 1


def test_findings_come_in_the_order_of_the_file():
    report = Report("f.yaml")
    report.places |= {("a",): Place(9), ("b",): Place(2)}
    for key in ("a", "b"):
        report.error((key,), "odd")
    assert [finding.key for finding in report.sorted()] == ["b", "a"]


def test_broken_is_what_has_an_error_at_or_below_it():
    report = Report("f.yaml")
    report.error(("a", "b"), "wrong")
    report.warning(("c",), "odd")
    assert report.is_broken(("a",))
    assert report.is_broken(("x",), ("a", "b"))
    assert not report.is_broken(("a", "b", "c"), ("c",))
    assert report.is_broken_itself(("a", "b"))
    assert not report.is_broken_itself(("a",))


def test_dotted_writes_indexes_in_brackets():
    assert dotted(("routes", 2, "require", "role")) == "routes[2].require.role"


def test_did_you_mean_says_nothing_about_another_word():
    assert did_you_mean(closest("requier", ["require", "route"])) == 'Did you mean "require"?'
    assert did_you_mean(closest("zebra", ["require", "route"])) is None


def test_a_question_ends_in_its_own_mark():
    assert str(Finding("f.yaml", 2, "a", "is it?", "If not, b")) == "f.yaml:2: a: is it? If not, b"
