import pytest
import yaml

from gateway.config.availability import UNBUILT, Unbuilt, is_off
from tests.config.contract import ASKING, EVERY_KEY
from tests.config.files import findings, loaded, only, written

IDS = [f"{key}={value[:20]}" for key, value in ASKING]


def asking(key, value):
    """The whole file with one value in it changed."""
    tree = yaml.safe_load(EVERY_KEY)
    *above, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    section = tree
    for part in above:
        section = section[part]
    section[last] = yaml.safe_load(value)
    if last == "targets":
        del section["url"]
    return yaml.safe_dump(tree)


def test_every_key_of_the_contract_is_known_and_may_be_off():
    assert findings(EVERY_KEY) == ()


@pytest.mark.parametrize(("key", "value"), ASKING, ids=IDS)
def test_what_is_not_built_is_refused_in_plain_words(key, value):
    finding = only(asking(key, value))
    assert finding.key.replace("[", ".").replace("]", "").startswith(key)
    assert finding.message.endswith("not available yet")
    assert finding.level == "error"
    assert finding.line is not None


def test_every_line_of_the_table_is_asked_for():
    known = {tuple(key.split(".")) for key, _ in ASKING} | {("upstreams", "api", "targets", "0", "url")}
    for unbuilt in UNBUILT:
        pattern = tuple(unbuilt.pattern.split("."))
        assert any(_matches(pattern, key) for key in known), unbuilt.pattern


def _matches(pattern, key):
    return len(pattern) == len(key) and all(one in ("*", other) for one, other in zip(pattern, key, strict=True))


@pytest.mark.parametrize(
    ("sections", "environ", "message"),
    [
        pytest.param(
            {"tracing": "{endpoint: '${ENDPOINT:-}'}"},
            {"ENDPOINT": "http://127.0.0.1:4318"},
            "ENDPOINT is set, but tracing is not available yet: ignored",
            id="one-key",
        ),
        pytest.param(
            {"cache": "{url: 'redis://${USER_}@${HOST_}/0'}"},
            {"USER_": "u", "HOST_": "h"},
            "USER_, HOST_ are set, but a shared cache is not available yet: ignored",
            id="two-variables",
        ),
        pytest.param(
            {"workers": "${WORKERS:-1}"},
            {"WORKERS": "4"},
            "WORKERS is set, but more than one worker process is not available yet: ignored",
            id="workers",
        ),
    ],
)
def test_what_the_environment_asks_for_is_one_warning(sections, environ, message):
    finding = only(written(**sections), environ)
    assert (finding.message, finding.level) == (message, "warning")


@pytest.mark.parametrize("other", ["${A}", "${B:-}"])
def test_two_keys_of_one_capability_are_one_warning(monkeypatch, other):
    lines = [Unbuilt(name, "such a drain is", is_off) for name in ("drain_s", "drain_delay_s")]
    monkeypatch.setattr("gateway.config.availability.UNBUILT", lines)
    finding = only(written(drain_s="'${A}'", drain_delay_s=f"'{other}'"), {"A": "5"})
    assert finding.message == "A is set, but such a drain is not available yet: ignored"


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({"workers": "${WORKERS:-1}", "store": "{url: '${STORE:-}'}"}, id="unset"),
        pytest.param({"metrics": "{enabled: '${METRICS:-false}'}"}, id="default-that-is-off"),
    ],
)
def test_what_asks_for_nothing_is_silent(sections):
    assert findings(written(**sections)) == ()


def test_a_default_in_the_file_asks_as_the_file_does():
    assert only(written(cache="{url: '${CACHE:-redis://cache}'}")).level == "error"


def test_a_section_half_from_the_environment_is_refused():
    finding = only(written(tracing="{endpoint: {a: x, b: '${S}'}}"), {"S": "y"})
    assert (finding.key, finding.level) == ("tracing.endpoint", "error")


def test_one_target_is_as_good_as_a_url():
    config = loaded(written(upstreams="{api: {targets: [{url: http://10.0.0.1:81, weight: 1}]}}"))
    assert config.routes[0].upstream.endpoints[0].label == "10.0.0.1:81"
