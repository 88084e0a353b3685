"""YAML and environment to one frozen `Config`; every problem at once, with file, line, key and remedy.

`source` reads, `validate` checks the shape (`schema`, `parties`, `types`), `availability` refuses what is not built
yet, `build` makes the types the code uses. Nobody else knows pydantic or YAML, or looks at the environment.
"""

from gateway.config.findings import Finding, Unreadable
from gateway.config.load import builtin, load, load_admin, load_located, load_text, locate, reload
from gateway.config.model import Config, IssuerConfig, LogPolicy
from gateway.config.schema import json_schema

__all__ = [
    "Config",
    "Finding",
    "IssuerConfig",
    "LogPolicy",
    "Unreadable",
    "builtin",
    "json_schema",
    "load",
    "load_admin",
    "load_located",
    "load_text",
    "locate",
    "reload",
]
