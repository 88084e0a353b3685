"""The benchmark's own shape: what it prints, and that one row can be measured. No figure is judged here."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from svix.webhooks import Webhook

from tests.bench import BenchError
from tests.bench.__main__ import EXIT_MISSING, arguments, missing_tools
from tests.bench.accounting import cpu_s, rss_mib
from tests.bench.loads import Request
from tests.bench.measures import Sample
from tests.bench.process import find_program
from tests.bench.proxies import PROXIES
from tests.bench.report import BEGIN, END, Figures, as_json, judge, markdown, replace_block, table
from tests.bench.rows import ROWS
from tests.bench.stores import count_users, count_webhooks, fill
from tests.bench.tokens import Tokens, claims_of
from tests.bench.webhooks import SECRET, check_kept, head_of
from tests.fakes.clerk_api import Crowd
from tests.fakes.clerk_events import body
from tests.fakes.postgres import binaries

ROOT = Path(__file__).parents[2]
ABSENT = [name for name in ("nginx", "wrk") if find_program(name) is None]


def figures(**changed: dict[str, list[Sample]]) -> Figures:
    """A run of three rows with three proxies."""
    samples = {
        "get": {"gateway": [Sample(30.0, 900.0), Sample(28.0, 990.0)], "nginx": [Sample(14.0), Sample(15.0)],
                "envoy": [Sample(56.0), Sample(70.0)]},
        "hostile": {"gateway": [Sample(90.0)], "envoy": [Sample(50.0)]},
        "down-8m": {"gateway": [Sample(1500.0, growth_mib=3.0), Sample(1400.0, growth_mib=5.0)],
                    "nginx": [Sample(1900.0), Sample(2000.0)], "envoy": [Sample(2100.0), Sample(2200.0)]},
    }  # fmt: skip
    return Figures(["gateway", "nginx", "envoy"], 2, 1.5, {"cpu": "a fast one"}, samples | changed)


def test_the_best_round_counts_and_growth_is_the_worst() -> None:
    assert figures().best("get", "gateway") == 28.0
    assert figures().best("down-8m", "gateway") == 1500.0
    assert figures().growth("down-8m", "gateway") == 5.0


def test_targets_are_ratios_of_the_best() -> None:
    verdicts = judge(figures(), ROWS["get"])
    assert [(v.target.proxy, v.value, v.met) for v in verdicts] == [
        ("nginx", 2.0, False), ("haproxy", None, None), ("envoy", 0.5, True),
    ]  # fmt: skip
    assert [v.met for v in judge(figures(), ROWS["down-8m"])] == [True, True]


def test_a_target_may_be_another_row_of_the_gateway() -> None:
    assert [v.met for v in judge(figures(), ROWS["hostile"])] == [None]
    assert [v.met for v in judge(figures(first={"gateway": [Sample(40.0)]}), ROWS["hostile"])] == [False]


def test_a_target_may_be_how_many_were_answered_in_a_second() -> None:
    accepted = figures(webhooks={"gateway": [Sample(1900.0, 450.0), Sample(2100.0, 510.0)]})
    assert [(v.value, v.met) for v in judge(accepted, ROWS["webhooks"])] == [(1900.0, True), (510.0, True)]
    assert "510 a second (≥ 500)" in table(accepted)
    assert as_json(accepted)["rows"][-1]["targets"][1]["of"] == "per_s"
    slow = figures(webhooks={"gateway": [Sample(1900.0, 450.0)]})
    assert [v.met for v in judge(slow, ROWS["webhooks"])] == [True, False]


def test_the_table_has_a_line_for_each_row_and_a_dash_for_what_cannot_be_done() -> None:
    head, get, hostile, down = table(figures()).splitlines()[:4]
    assert re.split(r"  +", head.strip()) == [*(PROXIES[n].title for n in figures().proxies), "the gateway's target"]
    assert "28.0" in get
    assert "2.00 × nginx (≤ 1.9, missed)" in get
    assert hostile.split("µs")[1].split()[:3] == ["90.0", "–", "50.0"]
    assert down.split("MB/s")[1].split()[:3] == ["1,500", "2,000", "2,200"]


def test_a_row_that_failed_has_no_figure_and_says_why() -> None:
    broken = figures(get={"nginx": [Sample(14.0)]})
    broken.failures["get", "gateway"] = "answered 502"
    text = table(broken)
    assert "failed" in text.splitlines()[1]
    assert "gateway: failed, answered 502" in text
    assert as_json(broken)["failures"] == [{"row": "get", "proxy": "gateway", "why": "answered 502"}]


def test_json_says_everything_that_was_measured() -> None:
    document = json.loads(json.dumps(as_json(figures())))
    assert set(document) == {"machine", "rounds", "seconds", "proxies", "rows", "failures", "notes"}
    get = document["rows"][0]
    assert set(get) == {"name", "title", "unit", "figures", "gateway_ratio", "targets"}
    assert get["figures"]["gateway"] == {"best": 28.0, "median": 29.0, "rounds": [30.0, 28.0], "per_s": 990.0}
    assert get["gateway_ratio"] == {"nginx": 2.0, "envoy": 0.5}
    assert get["targets"][0] == {"of": "ratio", "to": "nginx", "at_most": 1.9, "value": 2.0, "met": False}
    assert document["rows"][1]["figures"]["nginx"] is None


def test_the_readme_has_one_block_and_it_is_of_todays_form() -> None:
    readme = (ROOT / "README.md").read_text()
    block = readme.partition(BEGIN)[2].partition(END)[0]
    lines = [line[2:-2].split(" | ") for line in block.splitlines() if line.startswith("|")]
    assert lines[0][2:] == [*(proxy.title for proxy in PROXIES.values()), "the gateway's target"]
    # A row may be newer than the figures, which are a whole run's; none may have gone, changed its title or its place.
    written = [line[0] for line in lines[2:]]
    assert written == [row.title for row in ROWS.values() if row.title in written]
    rewritten = replace_block(readme, markdown(figures()))
    assert rewritten.count(BEGIN) == rewritten.count(END) == 1
    assert replace_block(rewritten, BEGIN + block + END) == readme


@pytest.mark.parametrize("readme", ["", f"{BEGIN}{END}{BEGIN}{END}"], ids=["none", "two"])
def test_a_readme_without_exactly_one_block_is_left_alone(readme: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        replace_block(readme, markdown(figures()))


def test_tokens_are_distinct_and_the_browsers_has_its_length() -> None:
    tokens = Tokens()
    assert abs(len(tokens.browser) - 800) <= 2
    made = tokens.many(3, "tokens")
    assert len({claims_of(token)["sub"] for token in [*made, tokens.mint()]}) == 4
    forged = tokens.hostile(2)
    assert len(set(forged)) == 2
    assert {len(token) for token in forged} == {len(tokens.good)}


def test_a_request_is_written_as_lua() -> None:
    script = Request({"X-Name": 'a "b"'}, method="POST", body_bytes=3).script()
    assert 'wrk.headers["X-Name"] = "a \\"b\\""' in script
    assert 'wrk.body = string.rep("x", 3)' in script
    assert "function request" not in script  # or wrk would call it for each


def test_accounting_knows_this_process() -> None:
    own = int(Path("/proc/self").readlink().name)
    assert cpu_s(own) > 0
    assert rss_mib(own) > 1


def test_rows_and_proxies_are_chosen_by_name() -> None:
    chosen = arguments(["--only", "idle,get", "--against", "envoy"])
    assert (chosen.only, chosen.against) == (["get", "idle"], ["envoy"])


@pytest.mark.parametrize(
    "given", [["--only", "nothing"], ["--rounds", "0"], ["--users", "1"]], ids=["no-such-row", "no-round", "nobody"]
)
def test_a_wrong_argument_is_told(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(given)
    assert ended.value.code == 2


def test_missing_tools_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.__main__.find_program", lambda _name: None)
    monkeypatch.setattr("tests.bench.__main__.postgres.binaries", lambda: None)
    said = missing_tools(["gateway", "haproxy"], ["get", "webhooks-pg"]) or ""
    assert "missing: nginx, wrk, haproxy, postgresql" in said
    assert "apt-get install --no-install-recommends nginx-light wrk haproxy postgresql" in said
    assert "or leave its row out: --only get" in said
    assert "postgresql" not in (missing_tools(["gateway"], ["get"]) or "")
    assert EXIT_MISSING == 2


def measured(*given: str, file: Path, seconds: float = 60) -> tuple[list[str], dict[str, Any]]:
    """Run it; give the table's first column, and everything as JSON."""
    command = [sys.executable, "-m", "tests.bench", "--rounds", "1", "--json", str(file), *given]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return [line.split("  ")[0] for line in ended.stdout.splitlines()[1:]], json.loads(file.read_text())


needs_tools = pytest.mark.skipif(
    bool(ABSENT), reason=f"{' and '.join(ABSENT)} not installed (apt-get install nginx-light wrk)"
)


@needs_tools
def test_rows_are_measured(tmp_path: Path) -> None:
    chosen = ["get", "websocket", "first-event"]
    given = ("--against", "nginx", "--seconds", "0.3", "--only", ",".join(chosen))
    titles, document = measured(*given, file=tmp_path / "figures.json")
    assert titles[:3] == [ROWS[name].title for name in chosen]
    for row in document["rows"]:
        assert set(row["figures"]) == {"gateway", "nginx"}
        assert all(len(figure["rounds"]) == 1 for figure in row["figures"].values())
        assert row["name"] == "first-event" or all(figure["best"] > 0 for figure in row["figures"].values())


@needs_tools
def test_rows_about_the_store_are_measured_of_the_gateway_alone(tmp_path: Path) -> None:
    chosen = ["rest", "rest-store", "known", "lookup", "backfill", "webhooks"]
    chosen += ["webhooks-pg"] if binaries() is not None else []
    given = ("--against", "nginx", "--seconds", "0.1", "--users", "400", "--only", ",".join(chosen))
    _, document = measured(*given, file=tmp_path / "figures.json", seconds=240)
    assert [row["name"] for row in document["rows"]] == chosen
    best = {row["name"]: row["figures"]["gateway"]["best"] for row in document["rows"]}
    assert all(figure > 0 for figure in best.values())
    assert best["rest-store"] > best["rest"]  # which has none
    assert all((row["figures"]["nginx"] is None) == (row["name"] != "rest") for row in document["rows"])
    assert "backfill: 400 users, extrapolated to 1,000,000 (--users 1000000)" in document["notes"]
    assert "known: 20 users made requests" in document["notes"]


def test_webhooks_that_are_not_in_the_store_give_no_figure(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    fill(url, 3)
    assert (count_users(url), count_webhooks(url)) == (3, 0)
    with pytest.raises(BenchError, match="0 webhooks and 3 users are in the store instead of 3"):
        check_kept(url, 3)


def test_webhooks_are_written_as_clerk_sends_them() -> None:
    data = body("user.created", Crowd(0).numbered(7))
    assert 2048 <= len(data) <= 3072
    head = head_of("msg_1", data).decode().split("\r\n")
    assert head[0] == "POST /webhooks/clerk HTTP/1.1"
    fields = dict(line.split(": ") for line in head[1:-2])
    assert fields["Content-Length"] == str(len(data))
    Webhook(SECRET).verify(data, fields)
    assert b"\0" not in data  # which stands between two of them in wrk's file
