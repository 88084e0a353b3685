"""The command: what it reads, what it writes, how it ends."""

import json

import pytest
import yaml

from gateway.ops.explain import explain
from gateway.ops.explain.request import Asked
from tests.fakes.gateway import settings


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings(3000)))
    return str(path)


def told(path, asked, *, as_json=False, environ=None):
    lines: list[str] = []
    code = explain(path, environ or {}, asked, as_json=as_json, write=lines.append)
    return code, lines


def test_a_refusal_is_an_answer_and_no_failure(written):
    code, lines = told(written, Asked("GET", "/x"))
    assert code == 0
    assert "=> 401 missing_credential, reason session-token-and-uat-missing" in lines


def test_json_is_one_document(written):
    code, (document,) = told(written, Asked("GET", "/public/x"), as_json=True)
    assert code == 0
    assert json.loads(document)["onward"]["upstream"] == "api"


def test_the_environment_alone_will_do():
    environ = {"CLERK_JWT_ISSUER_DOMAIN": "http://127.0.0.1:9", "GATEWAY_UPSTREAM": "http://127.0.0.1:3000",
               "GATEWAY_STORE_URL": ""}  # fmt: skip
    code, lines = told(None, Asked("GET", "/x"), environ=environ)
    assert code == 0
    assert any(line.startswith("=> 401") for line in lines)


@pytest.mark.parametrize("text", ["a: [", "listn: {}"])
def test_without_a_good_configuration_there_is_nothing_to_explain_by(tmp_path, text):
    (tmp_path / "gateway.yaml").write_text(text)
    code, lines = told(str(tmp_path / "gateway.yaml"), Asked("GET", "/x"))
    assert code == 2
    assert "gateway.yaml" in lines[0]
    assert lines[-1] == "gateway: nothing to explain by. `gateway check` explains every problem."


def test_a_file_that_is_not_there_is_said():
    assert told("missing.yaml", Asked("GET", "/x"))[0] == 2
