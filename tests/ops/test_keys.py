"""`gateway keys rotate`: what it does, what it says, and how it exits."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.core.rotation import AHEAD_S
from gateway.ops.keys import DONE, FAILED, rotate
from gateway.store.signing_keys import KeyDirectory
from tests.fakes.gateway import settings
from tests.fakes.keys import asserted, no_space

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


class Place:
    """A configuration and its directory of keys."""

    def __init__(self, folder: Path) -> None:
        self.keys_dir, self.file = str(folder / "keys"), folder / "gateway.yaml"
        self.configure(asserted(keys_dir=self.keys_dir))

    def configure(self, identity: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(settings(3000, identity=identity)))

    def rotate(self, now: float = NOW, *, at_once: bool = False) -> tuple[int, str]:
        lines: list[str] = []
        return rotate(str(self.file), {}, at_once=at_once, now=now, write=lines.append), "\n".join(lines)

    def kids(self) -> list[str]:
        return [key.life.kid for key in KeyDirectory(self.keys_dir).read().keys]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_first_signs_at_once_and_the_next_in_a_day(place: Place) -> None:
    code, said = place.rotate()
    (first,) = place.kids()
    assert code == DONE
    assert first in said
    assert "signs at once" in said
    code, said = place.rotate(NOW + 60)
    assert code == DONE
    assert len(place.kids()) == 2
    assert place.kids()[1] in said
    assert "signs from 2023-11-15 22:14 UTC on" in said


def test_one_that_waits_is_enough(place: Place) -> None:
    place.rotate()
    place.rotate()
    before = place.kids()
    code, said = place.rotate(NOW + 60)
    assert code == DONE
    assert said == f"nothing to do: the next key, {before[1]}, is there and signs from 2023-11-15 22:13 UTC on"
    assert place.kids() == before
    assert place.rotate(NOW + AHEAD_S)[0] == DONE
    assert len(place.kids()) == 3


def test_a_leaked_key_is_withdrawn_with_all_others(place: Place) -> None:
    place.rotate()
    place.rotate()
    old = place.kids()
    code, said = place.rotate(at_once=True)
    (made,) = place.kids()
    assert code == DONE
    assert made not in old
    assert all(f"withdrew {kid}" in said for kid in old)
    assert f"made {made}" in said
    assert "/.well-known/gateway/jwks.json" in said


def test_a_file_that_cannot_be_read_stops_it_unless_all_are_withdrawn(place: Place) -> None:
    place.rotate()
    Path(place.keys_dir, "signing-key-000002.json").write_text("{")
    code, said = place.rotate()
    assert code == FAILED
    assert "signing-key-000002.json" in said
    assert place.rotate(at_once=True)[0] == DONE
    assert os.listdir(place.keys_dir) == ["signing-key-000003.json"]


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        pytest.param({}, "identity.assertion.enabled is false", id="off"),
        pytest.param({"assertion": {"enabled": True}}, "identity.assertion.keys_dir: is missing", id="no-directory"),
        pytest.param(asserted(keys_dir="/dev/null/keys"), "/dev/null/keys cannot be made", id="no-place"),
    ],
)
def test_what_cannot_be_done_is_said(place: Place, identity: dict[str, Any], said: str) -> None:
    place.configure(identity)
    code, lines = place.rotate()
    assert code == FAILED
    assert said in lines


@pytest.mark.parametrize("at_once", [False, True])
def test_on_a_full_disk_the_old_keys_stay(place: Place, at_once: bool) -> None:
    place.rotate()
    before = place.kids()
    with no_space():
        code, said = place.rotate(at_once=at_once)
    assert code == FAILED
    assert "not rotated" in said
    assert "File too large" in said
    assert place.kids() == before


def test_the_command(place: Place) -> None:
    command = ["keys", "rotate", "-c", str(place.file)]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, "the first key" in done.output) == (0, True)
    assert "it signs within" in CliRunner().invoke(main, [*command, "--now"]).output
    place.configure({})
    assert CliRunner().invoke(main, command).exit_code == 1
