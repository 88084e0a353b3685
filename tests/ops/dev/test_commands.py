"""The commands of `gateway dev` are in the command line, and say what is wrong without one running."""

import pytest
from click.testing import CliRunner

from gateway.cli import main


@pytest.mark.parametrize("command", ["dev", "dev event", "dev users", "dev revoke", "token"])
def test_each_has_its_help(command: str) -> None:
    shown = CliRunner().invoke(main, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "--port" in shown.output


@pytest.mark.parametrize("command", ["dev users", "dev revoke ak_1", "token"])
def test_nothing_runs_there(command: str, unused_tcp_port: int) -> None:
    told = CliRunner().invoke(main, [*command.split(), "--port", str(unused_tcp_port)])
    assert told.exit_code == 1
    assert "gateway dev" in told.output
