from dataclasses import fields

import pytest
from sqlalchemy.dialects import sqlite

from gateway.core.directory import Row
from gateway.store.base import Stored
from gateway.store.tables import INBOX, METADATA, TABLES, Json


@pytest.mark.parametrize("kind", TABLES)
def test_a_row_s_fields_are_its_table_s_columns(kind: type[Row]) -> None:
    assert {column.name for column in TABLES[kind].columns} == {field.name for field in fields(kind)} | {
        "changed_at",
        "change",
    }


def test_a_stored_webhook_is_its_table_s_row() -> None:
    assert {column.name for column in INBOX.columns} == {field.name for field in fields(Stored)}


def test_nothing_can_be_mistaken_for_an_application_s_own() -> None:
    assert all(name.startswith("gateway_") for name in METADATA.tables)


def test_json_is_text() -> None:
    kind, dialect = Json(), sqlite.dialect()
    assert kind.process_bind_param({"a": "ü"}, dialect) == '{"a":"ü"}'
    assert kind.process_result_value('{"a":"ü"}', dialect) == {"a": "ü"}
    assert kind.process_bind_param(None, dialect) is None
    assert kind.process_result_value(None, dialect) is None
