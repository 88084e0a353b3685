from pathlib import Path

import pytest
import yaml

from gateway.ops.migrate import DONE, FAILED, migrate
from gateway.store.migrations import LATEST
from tests.fakes.gateway import settings


def migrated(tmp_path: Path, url: str | None, **more: object) -> tuple[int, list[str]]:
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(settings(3000, store={"url": url}, **more)))
    lines: list[str] = []
    return migrate(str(file), {}, write=lines.append), lines


def test_a_new_store_is_made_and_then_left_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    assert migrated(tmp_path, url) == (DONE, [f"{url}: migrated from version 0 to {LATEST}"])
    assert migrated(tmp_path, url) == (DONE, [f"{url}: is up to date, at version {LATEST}"])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("sqlite:////no/such/folder/a.db", "No such file", id="no-folder"),
        pytest.param(
            "postgresql://gw:hunter2@127.0.0.1:1/d", "not migrated: postgresql://…@127.0.0.1:1/d", id="no-server"
        ),
        pytest.param(None, "there is no store", id="no-store"),
        pytest.param("mysql://h/d", "neither SQLite nor PostgreSQL", id="bad-configuration"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(tmp_path: Path, url: str | None, said: str) -> None:
    code, lines = migrated(tmp_path, url)
    assert code == FAILED
    assert said in lines[0]
    assert "hunter2" not in "".join(lines)
