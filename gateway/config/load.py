"""From a file name, or none, to a `Config`: finding the file, reading it, and refusing it with everything at once."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path as FilePath

from gateway.config.availability import withhold
from gateway.config.build import build
from gateway.config.findings import Report
from gateway.config.model import Config
from gateway.config.source import read, unreadable
from gateway.config.validate import validated
from gateway.errors import ConfigError

USUAL_FILE = "config/gateway.yaml"
BUILT_IN = "built-in"


def load(path: str | None, environ: Mapping[str, str]) -> Config:
    """Load a file; without one `$GATEWAY_CONFIG`, then `config/gateway.yaml`, then the built-in copy of that.

    Raises:
        ConfigError: every problem at once; `Unreadable` where there is nothing to judge.
    """
    name = path or environ.get("GATEWAY_CONFIG") or (USUAL_FILE if FilePath(USUAL_FILE).is_file() else None)
    text = builtin("gateway.yaml") if name is None else _read_file(name)
    return load_text(text, environ, name=name or BUILT_IN)


def load_text(text: str, environ: Mapping[str, str], *, name: str) -> Config:
    """Load YAML text; `name` is what findings call it.

    Raises:
        ConfigError: every problem at once; `Unreadable` where it is not YAML.
    """
    report = Report(name)
    tree = read(text, environ, report)
    if not isinstance(tree, dict):
        report.error((), "the file must be a mapping of keys")
        raise ConfigError(report.sorted())
    validated(tree, report)
    withhold(tree, report)
    config = build(validated(tree, report), report)
    if report.has_errors():
        raise ConfigError(report.sorted())
    return config


def _read_file(name: str) -> str:
    try:
        return FilePath(name).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise unreadable(name, "not YAML: the file is not UTF-8") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a file name"
        raise unreadable(name, f"cannot be read: {why}", remedy="Name an existing file with -c") from None


def builtin(name: str) -> str:
    """Read one of the files in `config/`: the copy that the wheel carries; in a checkout, the original."""
    packaged = resources.files("gateway") / "_files" / name
    if packaged.is_file():
        return packaged.read_text("utf-8")
    return (FilePath(__file__).parents[2] / "config" / name).read_text("utf-8")
