"""What stands behind every proxy, on the loader's core: one nginx, a sink for large bodies, and `live` for what stays open.

`/` answers a small JSON and throws bodies away, `/whoami` says what identity arrived, `/bytes/down/*` are large files
and `/bytes/up` reads large bodies to their end. On `port` a request without `X-User-Id` is answered 500, so that a
proxy that forgets it has no figures; `plain_port` is for those that only forward.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from tests.bench.process import Process, find_program, free_port

SIZES = {"8m": 8 << 20, "1g": 1 << 30}
ANSWER = '{"id":"ord_2f6Vw0kQx1","status":"paid","total":4200,"currency":"EUR","items":3,"note":"one small answer","next":null}'
WHOAMI = '{"user":"$http_x_user_id","session":"$http_x_user_session_id","authorization":"$http_authorization"}'

# Names of temporary folders that nginx would otherwise look for where only root may write.
TEMPORARY = "\n".join(
    f"    {what}_temp_path {{folder}}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)

_LOCATIONS = f"""
        default_type application/json;
        client_max_body_size 0;
        location / {{ return 200 '{ANSWER}'; }}
        location = /whoami {{ return 200 '{WHOAMI}'; }}
        location /bytes/down/ {{ alias {{folder}}/files/; }}
        location = /bytes/up {{
            proxy_pass http://127.0.0.1:{{sink}};
            proxy_http_version 1.1;
            proxy_request_buffering off;
            client_body_buffer_size 256k;
        }}"""

_CONFIG = f"""
daemon off; master_process off; worker_processes 1;
pid {{folder}}/upstream.pid;
error_log {{folder}}/upstream.error warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
{TEMPORARY}
    server {{
        listen 127.0.0.1:{{plain_port}} backlog=4096;
{_LOCATIONS}
    }}
    server {{
        listen 127.0.0.1:{{port}} backlog=4096;
        if ($http_x_user_id = "") {{ return 500; }}
{_LOCATIONS}
    }}
}}
"""


class Upstream:
    """All three servers, running until the stack is closed."""

    def __init__(self, stack: ExitStack, folder: Path, core: int) -> None:
        self.port, self.plain_port = free_port(), free_port()
        self.live_port, sink = free_port(), free_port()
        files = folder / "files"
        files.mkdir()
        for name, size in SIZES.items():
            with (files / name).open("wb") as sparse:
                sparse.truncate(size)
        config = folder / "upstream.conf"
        text = _CONFIG
        for name, value in (("folder", folder), ("plain_port", self.plain_port), ("port", self.port), ("sink", sink)):
            text = text.replace(f"{{{name}}}", str(value))
        config.write_text(text)
        nginx = find_program("nginx") or "nginx"
        for name, command, port in (
            ("the sink", [sys.executable, "-m", "tests.bench.sink", str(sink)], sink),
            ("the live", [sys.executable, "-m", "tests.bench.live", str(self.live_port)], self.live_port),
            ("the upstream", [nginx, "-p", str(folder), "-e", str(folder / "upstream.error"), "-c", str(config)], self.plain_port),
        ):  # fmt: skip
            log = folder / f"{name.split()[1]}.log"
            stack.callback(Process(name, command, port=port, core=core, folder=folder, log=log).stop)
