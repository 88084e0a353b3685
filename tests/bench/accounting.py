"""CPU time, memory and cores of a process, as the kernel accounts them."""

import os
import resource
import time
from pathlib import Path

_CPUCLOCK_SCHED = 2


def cpu_s(pid: int) -> float:
    """Give utime + stime of a process with all its threads, those that have ended too.

    From its CPU clock and not from its stat file, which says the same in ticks of 10 ms.
    """
    # clock_getcpuclockid(3), which Python does not have: a process's clock is named by its complement (Linux's
    # include/linux/posix-timers_types.h), and 2 stands for the scheduler's own sum.
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def _status_mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no {name} for process {pid}")


def rss_mib(pid: int) -> float:
    """Give the resident memory of a process."""
    return _status_mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Give the most resident memory since `forget_peak`."""
    return _status_mib(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let the peak begin anew (proc_pid_clear_refs(5), 5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cores() -> tuple[int, int]:
    """Choose the proxies' core and the one for everything else; the same twice where there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1 % len(allowed)]


def raise_file_limit(wanted: int) -> int:
    """Allow this process and its children as many open files as they may have, up to `wanted`; give that number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((wanted, max(hard, wanted)), (min(wanted, hard), hard)):
        if soft >= wanted:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        except (ValueError, OSError):
            continue
        soft = limit[0]
    return soft
