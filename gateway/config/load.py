"""From a file name, or none, to a `Config`: finding the file, reading it, and refusing it with everything at once."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path as FilePath

from gateway.config.admin import build_admin
from gateway.config.availability import withhold
from gateway.config.build import build
from gateway.config.findings import Finding, Report
from gateway.config.model import Config
from gateway.config.source import read, unreadable
from gateway.config.validate import validated
from gateway.core.admin import AdminPolicy
from gateway.errors import ConfigError

USUAL_FILE = "config/gateway.yaml"
BUILT_IN = "built-in"


def load(path: str | None, environ: Mapping[str, str]) -> Config:
    """Load a file; without one `$GATEWAY_CONFIG`, then `config/gateway.yaml`, then the built-in copy of that.

    Raises:
        ConfigError: every problem at once; `Unreadable` where there is nothing to judge.
    """
    return load_located(locate(path, environ), environ)


def locate(path: str | None, environ: Mapping[str, str]) -> str | None:
    """Name the file that `load` would read; None for the built-in one."""
    return path or environ.get("GATEWAY_CONFIG") or (USUAL_FILE if FilePath(USUAL_FILE).is_file() else None)


def load_located(name: str | None, environ: Mapping[str, str]) -> Config:
    """Load what `locate` has named. Raises ConfigError as `load` does."""
    return load_text(_text(name), environ, name=name or BUILT_IN)


def reload(name: str | None, environ: Mapping[str, str]) -> Config:
    """Load it once more. Raises ConfigError as `load` does."""
    if name is not None and FilePath(name).exists() and not FilePath(name).is_file():
        # A pipe gives its content once; opening it again would wait for ever.
        raise unreadable(name, "is no ordinary file, so it cannot be read again", remedy="Restart to change anything")
    return load_located(name, environ)


def load_admin(path: str | None, environ: Mapping[str, str]) -> AdminPolicy | None:
    """Load where the running gateway's admin listener is, whatever else is wrong; None where it is off.

    Raises:
        ConfigError: its own settings are wrong; `Unreadable` where there is nothing to judge.
    """
    name = locate(path, environ)
    report = Report(name or BUILT_IN)
    tree = read(_text(name), environ, report)
    section = tree.get("admin") if isinstance(tree, dict) else None
    settings = validated({"admin": section}, report)
    admin = build_admin(settings.admin, report, listen=settings.listen)
    wrong = tuple(finding for finding in report.sorted() if finding.level == "error" and _is_admins(finding))
    if wrong:
        raise ConfigError(wrong)
    return admin


def _is_admins(finding: Finding) -> bool:
    return finding.key.split(".")[0] == "admin"


def _text(name: str | None) -> str:
    return builtin("gateway.yaml") if name is None else _read_file(name)


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
