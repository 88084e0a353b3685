import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from gateway.config import json_schema
from gateway.config.schema import Settings
from tests.config.contract import EVERY_KEY

CONFIG = Path(__file__).parents[2] / "config"


def keys(model: Any, at: str = "") -> set[str]:
    """Every key of the schema, dotted, with * for names and indexes."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(f"{at}{name}")
        for inner, star in sections(field.annotation):
            found |= keys(inner, f"{at}{name}.{star}")
    return found


def sections(annotation: Any, star: str = "") -> list[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, star)]
    star = "*." if getattr(annotation, "__origin__", None) in (tuple, dict) else star
    return [pair for part in getattr(annotation, "__args__", ()) for pair in sections(part, star)]


def written_keys(
    tree: Any, at: str = "", stars: frozenset[str] = frozenset({"upstreams", "routes", "issuers"})
) -> set[str]:
    found = set()
    for name, value in tree.items():
        found.add(f"{at}{name}")
        inner = list(value.values() if isinstance(value, dict) else value or ()) if name in stars else [value]
        star = "*." if name in stars else ""
        for each in inner:
            if isinstance(each, dict):
                found |= written_keys(each, f"{at}{name}.{star}")
    return found


def test_the_contract_and_the_schema_have_the_same_keys():
    own = {key for key in keys(Settings) if not key.startswith("issuers.")}
    # Sections that the contract's off values leave empty.
    empty = (
        "listen.tls.",
        "upstreams.*.targets.",
        "upstreams.*.webhooks.",
        "routes.*.cors.",
        "routes.*.require.max_age_min.",
        "routes.*.rate_limit.",
    )
    assert {key for key in own if not key.startswith(empty)} == written_keys(yaml.safe_load(EVERY_KEY))


def test_the_built_in_file_names_every_key():
    words = set(re.findall(r"[a-z_]+", (CONFIG / "gateway.yaml").read_text()))
    assert {key for key in keys(Settings) if key.rpartition(".")[2] not in words} == set()


def test_the_generated_file_is_current():
    """Else: python -m gateway.config > config/schema.json."""
    assert json.loads((CONFIG / "schema.json").read_text()) == json_schema()


def described(node):
    for section in node["$defs"].values():
        yield from section.get("properties", {}).items()
    yield from node["properties"].items()


def test_every_key_says_what_it_is_for():
    assert [name for name, key in described(json_schema()) if not key.get("description")] == []


@pytest.mark.parametrize(
    ("section", "name"),
    [
        pytest.param("Listen", "port", id="number"),
        pytest.param("CorsSection", "credentials", id="flag"),
        pytest.param("Logs", "format", id="choice"),
        pytest.param("LimitsSection", "header_read_s", id="seconds"),
    ],
)
def test_editors_allow_a_variable_wherever_a_value_may_stand(section, name):
    forms = json_schema()["$defs"][section]["properties"][name]["anyOf"]
    assert {"type": "string", "pattern": r"\$\{"} in forms


def test_editors_allow_comma_text_wherever_a_list_may_stand():
    assert {"type": "string"} in json_schema()["$defs"]["CorsSection"]["properties"]["origins"]["anyOf"]


def test_editors_know_bounds_and_misspelt_keys():
    listen = json_schema()["$defs"]["Listen"]
    assert listen["additionalProperties"] is False
    assert {"type": "integer", "minimum": 0, "maximum": 65535} in listen["properties"]["port"]["anyOf"]
