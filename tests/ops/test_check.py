import json

import pytest

from gateway.ops.check import check
from tests.config.files import written

UNSAFE = written(clerk="{issuer: clerk.example.com}")
ODD = written(upstreams="{api: {url: http://127.0.0.1:3000}, old: {url: http://127.0.0.1:3001}}")
BROKEN = written(listn="{}", routes="[{path: /*, upstream: apo}]", trusted_proxies="['::/0']")


def judged(tmp_path, text, *, strict=False, as_json=False, environ=None):
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    lines = []
    code = check(str(path), environ or {}, strict=strict, as_json=as_json, write=lines.append)
    return code, [line.replace(f"{tmp_path}/", "") for line in lines]


def test_a_good_file_is_summed_up(tmp_path):
    assert judged(tmp_path, written(), strict=True) == (
        0,
        ["gateway.yaml is good: 1 route, issuer https://clerk.example.com, 1 upstream"],
    )


def test_a_file_without_an_issuer_says_so(tmp_path):
    text = written(
        clerk="{}", routes="[{path: /a, upstream: api, auth: public}, {path: /b, upstream: api, auth: public}]"
    )
    assert judged(tmp_path, text)[1] == ["gateway.yaml is good: 2 routes, no issuer, 1 upstream"]


def test_every_problem_is_a_line_with_its_remedy(tmp_path):
    assert judged(tmp_path, BROKEN) == (
        1,
        [
            'gateway.yaml:3: routes[0].upstream: there is no upstream "apo". Did you mean "api"?',
            'gateway.yaml:4: listn: unknown key. Did you mean "listen"?',
            "gateway.yaml:5: insecure: trusted_proxies: ::/0: every client may say it is somebody else. "
            "Name your proxies' networks",
            "2 problems, 1 insecure choice",
        ],
    )


@pytest.mark.parametrize(
    ("text", "strict", "code"),
    [
        pytest.param(UNSAFE, False, 0, id="insecure"),
        pytest.param(UNSAFE, True, 1, id="insecure-strict"),
        pytest.param(ODD, True, 0, id="only-odd-strict"),
        pytest.param(BROKEN, True, 1, id="broken-strict"),
        pytest.param("a: [", False, 2, id="unreadable"),
        pytest.param("a: [", True, 2, id="unreadable-strict"),
    ],
)
def test_the_exit_code_says_how_bad_it_is(tmp_path, text, strict, code):
    assert judged(tmp_path, text, strict=strict)[0] == code
    (result,) = judged(tmp_path, text, strict=strict, as_json=True)[1]
    assert json.loads(result)["ok"] is (code == 0)


def test_a_good_file_with_warnings_is_good_and_says_them(tmp_path):
    code, lines = judged(tmp_path, ODD)
    assert code == 0
    assert lines[0] == "gateway.yaml:2: warning: upstreams.old: no route leads here"
    assert lines[1].endswith("1 upstream; 1 warning")


def test_a_strict_no_is_not_called_good(tmp_path):
    assert judged(tmp_path, UNSAFE, strict=True)[1][-1] == "1 insecure choice"


def test_a_missing_file_is_unreadable():
    lines = []
    assert check("missing.yaml", {}, strict=False, as_json=False, write=lines.append) == 2
    assert lines[0].startswith("missing.yaml: cannot be read: No such file")


def test_json_has_every_finding_whole(tmp_path):
    _, (result,) = judged(tmp_path, BROKEN, as_json=True)
    answer = json.loads(result)
    assert answer["ok"] is False
    assert answer["findings"][1] == {
        "file": "gateway.yaml",
        "line": 4,
        "key": "listn",
        "message": "unknown key",
        "remedy": 'Did you mean "listen"?',
        "level": "error",
    }


def test_json_of_a_good_file_is_empty(tmp_path):
    assert json.loads(judged(tmp_path, written(), as_json=True)[1][0]) == {"ok": True, "findings": []}


def test_an_upstream_that_is_only_told_of_events_counts(tmp_path):
    upstreams = (
        "{api: {url: http://127.0.0.1:3000}, mail: {url: http://127.0.0.1:3001,"
        " webhooks: {events: '*', secret: whsec_c2VjcmV0c2VjcmV0c2VjcmV0}}}"
    )
    (said,) = [line for line in judged(tmp_path, written(upstreams=upstreams))[1] if "is good" in line]
    assert "issuer https://clerk.example.com, 2 upstreams" in said
