"""In a process of its own: what was lowered cannot be raised again."""

import json
import subprocess
import sys

import pytest

PROBE = """
import json, resource, sys
from gateway.ops.descriptors import make_room
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
told = []
make_room(connections, lambda event, **fields: told.append({"event": event, **fields}))
print(json.dumps([resource.getrlimit(resource.RLIMIT_NOFILE)[0], told]))
"""


def made(soft, hard, connections):
    arguments = [sys.executable, "-c", PROBE, *map(str, (soft, hard, connections))]
    limit, told = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    return limit, told


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "limit"),
    [
        pytest.param(300, 3000, 100, 456, id="raised-as-far-as-needed"),
        pytest.param(1000, 3000, 100, 1000, id="never-lowered"),
    ],
)
def test_the_limit_is_raised_to_what_is_needed(soft, hard, connections, limit):
    assert made(soft, hard, connections) == (limit, [])


def test_where_the_hard_limit_is_too_low_it_says_what_that_is_enough_for():
    limit, (told,) = made(300, 456, 1000)
    assert limit == 456
    assert (told["event"], told["level"], told["enough_for"], told["asked_for"]) == (
        "few_open_files",
        "warning",
        100,
        1000,
    )
    assert "2256" in told["remedy"]
    assert "limits.connections" in told["remedy"]


def test_less_than_nothing_is_enough_for_nobody():
    _, (told,) = made(100, 100, 10)
    assert told["enough_for"] == 0
