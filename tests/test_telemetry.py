"""Lines in order, nothing lost that can be kept, nothing waited for."""

import json
import os
from pathlib import Path

import orjson
import pytest

from gateway.telemetry import HELD_BYTES, LineWriter, Log

ACCESS = {
    "ts": "2026-01-01T12:00:00.000Z", "level": "info", "event": "request", "method": "GET", "path": "/a\x1b[31m",
    "status": 401, "route": "rest", "user": None, "code": "invalid_token", "reason": "token-expired", "duration_s": 0.0015,
}  # fmt: skip


def opened(path: Path) -> LineWriter:
    return LineWriter(os.open(path, os.O_CREAT | os.O_WRONLY))


def test_events_and_access_lines_keep_their_order(tmp_path: Path) -> None:
    log = Log(opened(tmp_path / "log"))
    log.event("first", number=1)
    log.access(orjson.dumps(ACCESS) + b"\n")
    log.event("last", level="error")
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["first", "request", "last"]
    assert [line["level"] for line in lines] == ["info", "info", "error"]
    assert lines[0]["number"] == 1


def test_a_level_that_is_not_wanted_is_not_written(tmp_path: Path) -> None:
    log = Log(opened(tmp_path / "log"), level="warning")
    log.event("quiet")
    log.event("loud", level="warning")
    log.close()
    assert [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()] == ["loud"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("control", ["\x1b", "\n", "\x7f", "\x9b", "\u202e"], ids=ascii)
def test_controls_are_escaped(tmp_path: Path, form: str, control: str) -> None:
    log = Log(opened(tmp_path / "log"), form=form)
    log.event("bad", said=f"a{control}b")
    if form == "console":  # a line of JSON comes as `web.access` has made it
        log.access(orjson.dumps(ACCESS | {"path": f"/a{control}b", "user": f"u{control}"}))
    log.close()
    text = (tmp_path / "log").read_text()
    assert text.count("\n") == (2 if form == "console" else 1)
    assert all(char.isprintable() for char in text if char != "\n")
    if form == "json":
        assert json.loads(text)["said"] == f"a{control}b"


def test_a_person_reads_status_path_and_reason(tmp_path: Path) -> None:
    log = Log(opened(tmp_path / "log"), form="console")
    log.access(orjson.dumps(ACCESS | {"path": "/a"}))
    log.close()
    assert (tmp_path / "log").read_text() == "12:00:00 401 GET /a rest - 1.5ms invalid_token token-expired\n"


def test_a_request_that_could_not_be_read_has_a_line_for_a_person(tmp_path: Path) -> None:
    log = Log(opened(tmp_path / "log"), form="console")
    log.access(
        orjson.dumps(ACCESS | {"method": None, "path": None, "route": None, "status": 400, "code": "bad_request"})
    )
    log.close()
    assert (tmp_path / "log").read_text() == "12:00:00 400 - - - - 1.5ms bad_request token-expired\n"


def test_a_reader_that_does_not_read_holds_up_nothing_and_what_is_dropped_is_counted() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    line = b"x" * 65_535 + b"\n"
    for _ in range(HELD_BYTES // 65_536 + 50):
        writer.line(line)
    writer.flush()
    assert writer.dropped > 0
    os.close(reading)  # nobody will ever read: the thread's write fails, and it ends
    writer.close(5)
    os.close(writing)


def test_a_descriptor_that_does_not_block_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = LineWriter(writing)
    for number in range(20_000):
        writer.line(b"%0100d\n" % number)
    writer.flush()
    with os.fdopen(reading, "rb") as log:
        lines = [log.readline() for _ in range(20_000)]
    assert lines == [b"%0100d\n" % number for number in range(20_000)]
    writer.close()
    os.close(writing)


def test_lines_that_were_lost_are_told_of_once(tmp_path: Path) -> None:
    writer = opened(tmp_path / "log")
    log = Log(writer)
    writer.dropped = 7
    log.flush()
    log.flush()
    log.close()
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["event"], line["in_all"]) for line in told] == [("log_lines_dropped", 7)]


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exception_is_written_with_its_trace_and_without_its_words(tmp_path: Path, form: str) -> None:
    log = Log(opened(tmp_path / "log"), form=form)
    try:
        int("secret")
    except ValueError as error:
        log.event("request_failed", level="error", exc_info=error)
    log.close()
    text = (tmp_path / "log").read_text()
    assert "ValueError" in text
    assert "test_telemetry.py" in text
    assert "invalid literal" not in text
    assert text.count("\n") == (1 if form == "json" else text.count("\n    ") + 1)


def test_a_log_goes_on_in_another_form(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(opened(path), form="json", level="info", access=True)
    log.event("one")
    log.event("unheard", level="debug")
    access, told = log.access, log.event
    log.configure(form="console", level="debug", access=False)
    assert log.wants_access is False
    assert log.access != access
    told("two", level="debug")  # whoever holds it need not know
    log.close()
    first, second = path.read_text().splitlines()
    assert json.loads(first)["event"] == "one"
    assert second.split()[1:] == ["debug", "two"]
