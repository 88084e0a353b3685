"""A PostgreSQL of our own on loopback, from Debian's package.

Without durability, which no test can take away anyway, unless it is asked for: then its files are on a disk, too.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg

DISK = "/var/tmp"  # what is there outlives a reboot (FHS 3.0 §5.15): it is no memory
_NUMBERS = count(1)


def binaries() -> Path | None:
    """Give the folder of the newest installed server; None where there is none."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


@dataclass
class Postgres:
    """A server that can be stopped and started again."""

    folder: Path
    port: int
    durable: bool = False

    def database(self) -> str:
        """Make an empty database and give its URL."""
        name = f"test_{next(_NUMBERS)}"
        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c max_connections=200"
        options += "" if self.durable else " -c fsync=off"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-o", options, "-l", f"{self.folder}/log", "-w", "start")

    def stop(self) -> None:
        """Stop it; its clients see their connections end."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "fast", "-w", "stop")

    def create(self) -> None:
        """Make its files."""
        self._run("initdb", "-D", f"{self.folder}/data", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")

    def _run(self, program: str, *arguments: str) -> None:
        folder = binaries()
        assert folder is not None
        # It refuses to run as root.
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        subprocess.run(
            [folder / program, *arguments], check=True, cwd=self.folder, stdout=subprocess.DEVNULL, **as_user
        )  # type: ignore[call-overload]


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """Start a server, stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-", dir=DISK if durable else None))
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Postgres(folder, port, durable)
    try:
        server.create()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
