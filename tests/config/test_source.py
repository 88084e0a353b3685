import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.findings import Report, Unreadable
from gateway.config.source import MAX_BYTES, read
from tests.config.files import findings, loaded, only, written


def tree(text, environ=None):
    report = Report("file.yaml")
    return read(text, environ or {}, report), report


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("no", "no", id="no-is-text"),
        pytest.param("on", "on", id="on-is-text"),
        pytest.param("22:22", "22:22", id="no-sexagesimal"),
        pytest.param("2026-01-01", "2026-01-01", id="no-date"),
        pytest.param("010", "010", id="no-octal"),
        pytest.param("0x1F", "0x1F", id="no-hexadecimal"),
        pytest.param("1_000", "1_000", id="no-underscores"),
        pytest.param("1e3", "1e3", id="no-float-without-a-dot"),
        pytest.param(".inf", ".inf", id="no-infinity"),
        pytest.param("=", "=", id="no-value-tag"),
        pytest.param("9" * 5000, "9" * 5000, id="no-number-without-end"),
        pytest.param("true", True, id="true"),
        pytest.param("False", False, id="false"),
        pytest.param("~", None, id="tilde-is-null"),
        pytest.param("", None, id="nothing-is-null"),
        pytest.param("-12", -12, id="whole-number"),
        pytest.param("1.5", 1.5, id="real-number"),
        pytest.param('"8080"', "8080", id="quoted-is-text"),
        pytest.param("'null'", "null", id="quoted-null-is-text"),
        pytest.param("|\n  5\n", "5\n", id="block-is-text"),
    ],
)
def test_scalars_are_what_they_look_like(text, value):
    got = tree(f"key: {text}")[0]["key"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        pytest.param("${A}", {"A": "x"}, "x", id="whole"),
        pytest.param("http://h:${A:-80}/p", {}, "http://h:80/p", id="inside-with-default"),
        pytest.param("${A:-80}", {"A": ""}, "80", id="empty-takes-the-default"),
        pytest.param("${A:-}", {}, None, id="empty-is-null"),
        pytest.param("${A}", {"A": ""}, None, id="set-but-empty-is-null"),
        pytest.param("${A}", {"A": "5"}, "5", id="text-until-the-schema-reads-it"),
        pytest.param("${A}", {"A": "[1, 2]"}, "[1, 2]", id="never-yaml"),
        pytest.param("${A}", {"A": "${B}"}, "${B}", id="never-replaced-twice"),
        pytest.param("'${A}'", {"A": "x"}, "x", id="quoted-too"),
        pytest.param("[a, '${A:-}']", {}, ["a"], id="empty-item-is-left-out"),
    ],
)
def test_variables_are_replaced_in_scalars(text, environ, value):
    got, report = tree(f"key: {text}", environ)
    assert got == {"key": value}
    assert not report.findings


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_variable_never_adds_keys(text):
    got, _ = tree("a: ${A:-}\nb: 1", {"A": text})
    assert got == {"a": text or None, "b": 1}


@pytest.mark.parametrize(
    ("text", "key", "line", "message"),
    [
        pytest.param("a: 1\n\nb: ${B}", "b", 3, "the environment variable B is not set", id="unset"),
        pytest.param("a: ${1B}", "a", 1, '"${" begins a variable that is not one', id="no-variable-name"),
        pytest.param("a: ${B:x}", "a", 1, '"${" begins a variable that is not one', id="no-default-sign"),
        pytest.param("a: 1\nb: 2\na: 3", "a", 3, "given twice, first in line 1", id="key-twice"),
        pytest.param("a: {b: 1,\n  b: 2}", "a.b", 2, "given twice, first in line 1", id="inner-key-twice"),
        pytest.param("a: &x 1\nb: *x", "b", 2, "YAML's aliases (*name) are not supported", id="alias"),
        pytest.param("a: &x {}\nb:\n  <<: *x", "b.<<", 3, "YAML's aliases (*name) are not supported", id="merge"),
        pytest.param("a: !!int 5", "a", 1, "YAML's tags (!name) are not supported", id="core-tag"),
        pytest.param("a: !!python/name:os.system ''", "a", 1, "YAML's tags (!name) are not supported", id="python-tag"),
        pytest.param("? [a, b]\n: 1", "", 1, "a key must be text", id="list-as-key"),
        pytest.param("&x a: 1\n*x : 2", "", 1, "a key must be text", id="alias-as-key"),
    ],
)
def test_read_finds(text, key, line, message):
    _, report = tree(text)
    (finding,) = report.findings
    assert (finding.key, finding.line, finding.message, finding.level) == (key, line, message, "error")


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        pytest.param("a: 1\nb: [1, 2", 2, "expected ',' or ']'", id="open-list"),
        pytest.param("a: b: c", 1, "mapping values are not allowed", id="two-colons"),
        pytest.param("a: 1\n\tb: 2", 2, "cannot start any token", id="tab"),
        pytest.param("a: 1\n---\nb: 2", 2, "but found another document", id="two-documents"),
        pytest.param("a: \x00", None, "a character that YAML does not take", id="null-byte"),
        pytest.param('a: "\\UFFFFFFFF"', None, "out of range", id="escape-beyond-unicode"),
        pytest.param("[" * 40 + "]" * 40, None, "nested more than 32 deep", id="nested"),
        pytest.param("#" * (MAX_BYTES + 1), None, "larger than", id="large"),
    ],
)
def test_read_refuses_what_is_not_a_configuration(text, line, fragment):
    with pytest.raises(Unreadable) as refused:
        tree(text)
    (finding,) = refused.value.findings
    assert fragment in str(finding)
    assert finding.line == line


def test_a_billion_laughs_stay_few():
    laughs = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    got, report = tree(laughs)
    assert got["i"] == [None, None]
    assert len(report.findings) == 16


def test_an_empty_file_is_an_empty_mapping():
    assert tree("# nothing\n")[0] == {}


def test_places_are_those_of_keys_and_items():
    _, report = tree("a:\n  - b: 1\n    c: 2\n  - d\n")
    lines = {path: place.line for path, place in report.places.items()}
    assert lines == {(): 1, ("a",): 1, ("a", 0): 2, ("a", 0, "b"): 2, ("a", 0, "c"): 3, ("a", 1): 4}


def test_values_from_variables_are_typed_by_the_schema():
    text = written(listen="{port: '${PORT}'}", logs="{access: '${ACCESS}'}", drain_s="${DRAIN}")
    config = loaded(text, {"PORT": "9000", "ACCESS": "false", "DRAIN": "1.5"})
    assert (config.port, config.logs.access, config.drain_s) == (9000, False, 1.5)


def test_a_finding_names_the_variable_a_value_came_from():
    finding = only(written(listen="{port: '${PORT}'}"), {"PORT": "80a0"})
    assert finding.message == "must be a whole number (it came from PORT)"


def test_an_unset_variable_is_one_finding_and_no_more():
    found = findings(written(upstreams="{api: {url: '${UPSTREAM}'}}"))
    assert [str(finding) for finding in found] == [
        "gateway.yaml:2: upstreams.api.url: the environment variable UPSTREAM is not set. "
        "Set UPSTREAM, or write ${UPSTREAM:-default}"
    ]
