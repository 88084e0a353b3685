"""The house keeps its shape: imports point down, core stays pure, every module has its tests."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gateway"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_files" not in path.parts)

# From the top of the house to its ground; an import may only point down (or stay in its own layer).
LAYERS = ("cli", "ops", "web", "net", "store", "core", "errors")
PURE = {"aiohttp", "asyncio", "time", "random", "os", "pydantic"}
CRYPTO = {"jwt", "cryptography"}
MAY_USE_CRYPTO = {"verify", "identity"}
CONFIG_READERS = {"web.app", "web.generation", "cli", "config"}  # and all of ops
# Covered by the tests of what they belong to, as each says in its docstring or name.
WITHOUT_OWN_TEST = {"__init__", "__main__", "errors", "core.model", "web.deps", "web.access", "store.base"}


def name_of(path: Path) -> str:
    dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return dotted.removesuffix(".__init__") or "__init__"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    names = {name.removeprefix("gateway.") for name in imports(path) if name.startswith("gateway.")}
    return names - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    layer = name_of(path).split(".")[0]
    for imported in own_imports(path):
        target = imported.split(".")[0]
        if layer in LAYERS and target in LAYERS:
            assert LAYERS.index(target) >= LAYERS.index(layer), f"{name_of(path)} imports {imported}"
        elif target == "telemetry":
            assert layer not in ("core", "errors", "config"), f"{name_of(path)} imports {imported}"
        elif target == "config":
            assert name_of(path) in CONFIG_READERS or layer in ("ops", "config"), f"{name_of(path)} imports {imported}"
        elif layer in ("config", "telemetry"):
            assert target in ("core", "errors"), f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", [path for path in MODULES if "core" in path.parts], ids=name_of)
def test_core_has_no_io_clock_or_chance(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    assert not used & PURE
    if path.stem not in MAY_USE_CRYPTO:
        assert not used & CRYPTO


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_config_knows_pydantic_and_only_the_command_line_the_environment(path: Path) -> None:
    used = set(imports(path))
    if "config" not in path.parts:
        assert not {name for name in used if name.split(".")[0] == "pydantic"}
    if name_of(path) not in ("cli", "ops.dev.commands", "ops.dev.run"):
        assert "os.environ" not in path.read_text()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_connection_touches_private_names_of_aiohttp(path: Path) -> None:
    private = [name for name in imports(path) if name.startswith("aiohttp") and "._" in name]
    assert not private or name_of(path) == "web.connection"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_has_its_tests(path: Path) -> None:
    name = name_of(path)
    if name in WITHOUT_OWN_TEST or path.stem in ("__init__", "__main__"):
        return
    folder, _, stem = name.rpartition(".")
    own = ROOT / "tests" / folder.replace(".", "/") / f"test_{stem}.py"
    assert own.exists(), f"{own.relative_to(ROOT)} is missing"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_past_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("module", ["sqlalchemy", "svix", "alembic", "opentelemetry", "aiohttp", "pydantic"])
def test_heavy_imports_wait_until_a_command_needs_them(module: str) -> None:
    code = f"import sys, gateway.cli; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", ["sqlalchemy", "svix", "psycopg", "sqlite3"])
def test_a_gateway_without_webhooks_imports_no_database(module: str) -> None:
    code = f"import sys, gateway.web.app; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
