"""A story as lines for a terminal, and as JSON. Whatever is written has its secrets masked here, once more."""

import json
from collections.abc import Iterator
from typing import Any, Final

from gateway.ops.explain.onward import Onward
from gateway.ops.explain.shown import masked_field, plain, without_secrets
from gateway.ops.explain.step import BAD, GOOD, Step
from gateway.ops.explain.story import Story, Verdict

MARKS: Final = {GOOD: "ok", BAD: "NO"}
STAGE_WIDTH: Final = 24


def as_lines(story: Story) -> Iterator[str]:
    """Write it for people."""
    asked = story.course.asked
    yield _clean(story, f"{asked.method} {asked.target}")
    yield ""
    for step in story.steps:
        yield _clean(story, _line(step))
    yield ""
    for line in _verdict(story.verdict):
        yield _clean(story, line)
    if story.onward is not None:
        for line in _onward(story.onward):
            yield _clean(story, line)


def _line(step: Step) -> str:
    return f"  {MARKS.get(step.outcome, '--'):4}{step.stage:{STAGE_WIDTH}} {step.text}"


def _verdict(verdict: Verdict) -> Iterator[str]:
    if verdict.code is None:
        reason = f", reason {verdict.reason}" if verdict.reason else ""
        yield f"=> {'' if verdict.status is None else f'{verdict.status}: '}{verdict.words}{reason}"
        for name, value in verdict.fields:
            yield f"   {name}: {masked_field(name, value)}"
        return
    reason = f", reason {verdict.reason}" if verdict.reason else ""
    yield f"=> {verdict.status} {verdict.code}{reason}"
    if verdict.detail:
        yield f"   Seen: {verdict.detail}"
    if verdict.remedy:
        yield f"   To change that: {verdict.remedy}"
    for name, value in verdict.fields:
        yield f"   {name}: {masked_field(name, value)}"


def _onward(onward: Onward) -> Iterator[str]:
    one_of = "" if len(onward.endpoints) == 1 else "one of "
    yield f"   To upstream {onward.upstream}: {one_of}{', '.join(onward.endpoints)}"
    yield ""
    yield f"  {onward.method} {onward.target} HTTP/1.1"
    for name, value in onward.fields:
        yield f"  {name}: {masked_field(name, value)}"
    if onward.dropped:
        yield ""
        yield "  Not sent on, or not as it came:"
    for name, why in onward.dropped:
        yield f"  {name}: {why}"


def as_json(story: Story) -> str:
    """Write it for programs."""
    verdict = {name: value for name, value in story.verdict._asdict().items() if value not in (None, "", ())}
    told: dict[str, Any] = {
        "request": {"method": story.course.asked.method, "target": story.course.asked.target},
        "steps": [step._asdict() for step in story.steps],
        "verdict": verdict,
    }
    if story.onward is not None:
        fields = [[name, masked_field(name, value)] for name, value in story.onward.fields]
        told["onward"] = story.onward._asdict() | {"fields": fields}
    return json.dumps(_all_clean(story, told), ensure_ascii=False, indent=2)


def _all_clean(story: Story, value: Any) -> Any:
    if isinstance(value, str):
        return _clean(story, value)
    if isinstance(value, dict):
        return {name: _all_clean(story, each) for name, each in value.items()}
    return [_all_clean(story, each) for each in value] if isinstance(value, (list, tuple)) else value


def _clean(story: Story, text: str) -> str:
    token = story.course.asked.token
    return plain(without_secrets(text, *([token] if token else ())))
