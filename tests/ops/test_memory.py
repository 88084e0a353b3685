"""That the C library takes what it is told; what it is worth stands in `tests/bench`."""

import platform
import subprocess
import sys

import pytest

PROBE = """
import resource
from gateway.ops.memory import keep_buffers
assert keep_buffers()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytearray(300_000)
before = faults()
for _ in range(200):
    bytearray(300_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_buffer_that_was_let_go_is_used_again() -> None:
    found = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 200  # mapped anew, each would cost 73
