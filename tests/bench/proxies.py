"""How each proxy is configured and started: one process on one core, the same work as far as it can do it.

All log the same facts as JSON into a file, but for `nginx`, which only forwards: that is the floor. `nginx` and
`nginx-log` know nothing of tokens. HAProxy verifies every token every time: it has no memory for them. CORS is answered
by the gateway and Envoy only.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.bench import envoy
from tests.bench.process import Process, find_program, free_port
from tests.bench.tokens import APP, Tokens
from tests.bench.upstream import TEMPORARY, Upstream

CONNECTIONS = 20_000


@dataclass(frozen=True)
class Surroundings:
    """What every proxy is started in."""

    folder: Path
    core: int
    upstream: Upstream
    tokens: Tokens


def _start(around: Surroundings, name: str, command: list[str], port: int, log: Path) -> Process:
    return Process(name, command, port=port, core=around.core, folder=around.folder, log=log)


def start_gateway(around: Surroundings, label: str, **changed: Any) -> Process:
    """Start `gateway run`: defaults, with CORS and identity headers; large bodies are allowed where they are sent.

    `changed` are settings that replace these, or are added to a block of them.
    """
    port, config = free_port(), around.folder / f"{label}.yaml"
    settings: dict[str, Any] = {
        "listen": {"host": "127.0.0.1", "port": port},
        "admin": {"port": None},
        "clerk": {
            "issuer": around.tokens.clerk.issuer, "jwt_key": around.tokens.clerk.pem(), "authorized_parties": [APP],
        },
        "upstreams": {
            "api": {"url": f"http://127.0.0.1:{around.upstream.port}"},
            "live": {"url": f"http://127.0.0.1:{around.upstream.live_port}"},
        },
        "routes": [
            {"name": "live", "path": "/live/*", "upstream": "live"},
            {"name": "bytes", "path": "/bytes/*", "upstream": "api", "max_body_bytes": 0},
            {"name": "rest", "path": "/*", "upstream": "api"},
        ],
        "cors": {"origins": [APP]},
        "store": {"url": f"sqlite:///{around.folder / label}.db"},  # identity is enriched from it, as by default
    }  # fmt: skip
    for name, block in changed.items():
        settings[name] = settings.get(name, {}) | block
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "gateway", "run", "-c", str(config)]
    return _start(around, "gateway", command, port, around.folder / f"{label}.log")


_NGINX_LOG = (
    """
    log_format json escape=json '{"ts":"$time_iso8601","event":"request","request_id":"$request_id",'
        '"client":"$remote_addr","method":"$request_method","host":"$host","path":"$uri","status":$status,'
        '"upstream":"$upstream_addr","duration_s":$request_time,"upstream_s":"$upstream_response_time",'
        '"bytes_in":$request_length,"bytes_out":$bytes_sent,"ua":"$http_user_agent"}';
"""
    # Written in batches, as the gateway and Envoy write theirs.
    "    access_log {log} json buffer=64k flush=1s;"
)

_NGINX = f"""
daemon off; master_process off; worker_processes 1;
pid {{folder}}/{{label}}.pid;
error_log {{folder}}/{{label}}.error warn;
events {{ worker_connections {CONNECTIONS}; }}
http {{
    {{access}}
    sendfile on;
    keepalive_requests 1000000000;
{TEMPORARY}
    upstream api {{
        server 127.0.0.1:{{upstream}};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{{port}} backlog=4096;
        client_max_body_size 0;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr;
        location / {{ proxy_pass http://api; }}
        location /bytes/ {{
            proxy_pass http://api;
            client_body_buffer_size 64k;
            proxy_buffer_size 64k;
            proxy_buffers 8 64k;
            proxy_busy_buffers_size 128k;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
        }}
        location /live/ {{
            proxy_pass http://127.0.0.1:{{live}};
            proxy_buffering off;
        }}
        location /live/echo {{
            proxy_pass http://127.0.0.1:{{live}};
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
}}
"""


def _start_nginx(around: Surroundings, label: str, access: str) -> Process:
    port, config, log = free_port(), around.folder / f"{label}.conf", around.folder / f"{label}.log"
    text = _NGINX.replace("{access}", access)
    upstream = around.upstream
    values = {
        "folder": around.folder, "label": label, "log": log, "port": port, "upstream": upstream.plain_port,
        "live": upstream.live_port,
    }  # fmt: skip
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    config.write_text(text)
    errors = str(around.folder / f"{label}.error")
    command = [find_program("nginx") or "nginx", "-p", str(around.folder), "-e", errors, "-c", str(config)]
    return _start(around, "nginx", command, port, log)


def start_nginx(around: Surroundings, label: str) -> Process:
    """Start nginx forwarding only: no token, no log."""
    return _start_nginx(around, label, "access_log off;")


def start_nginx_log(around: Surroundings, label: str) -> Process:
    """Start nginx forwarding, with a JSON access log."""
    return _start_nginx(around, label, _NGINX_LOG)


# A token is good if algorithm, signature, issuer and end are; jwt_verify alone looks at the signature only.
_HAPROXY = """
global
    nbthread 1
    maxconn {connections}
    no strict-limits
    log stdout len 4096 format raw local0
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout http-keep-alive 75s
    option forwardfor
frontend edge
    bind 127.0.0.1:{port} backlog 4096
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    http-request del-header X-User- -m beg
    http-request set-var(txn.host) req.hdr(host)
    http-request set-var(txn.path) path
    http-request set-var(txn.ua) req.hdr(user-agent)
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }
    http-request deny deny_status 401 unless { var(txn.iss) -m str {issuer} }
    http-request deny deny_status 401 if { var(txn.exp),sub(txn.now) -m int lt 0 }
    http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify(txn.alg,"{pem}") 1 }
    http-request set-var(txn.user) var(txn.bearer),jwt_payload_query('$.sub')
    http-request set-var(txn.session) var(txn.bearer),jwt_payload_query('$.sid')
    http-request set-header X-User-Id %[var(txn.user)]
    http-request set-header X-User-Session-Id %[var(txn.session)]
    http-request del-header Authorization
    log-format '{log_format}'
    use_backend live if { path_beg /live/ }
    default_backend api
backend live
    option http-no-delay
    server live 127.0.0.1:{live}
backend api
    http-reuse always
    server api 127.0.0.1:{upstream}
"""
_HAPROXY_LOG = (
    '{"ts":"%Ts","event":"request","request_id":"%ID","client":"%ci","method":"%HM","host":"%[var(txn.host),json(utf8s)]",'
    '"path":"%[var(txn.path),json(utf8s)]","status":%ST,"user":"%[var(txn.user),json(utf8s)]",'
    '"session":"%[var(txn.session),json(utf8s)]","upstream":"%b","duration_ms":%Ta,"upstream_ms":%Tr,'
    '"bytes_in":%U,"bytes_out":%B,"ua":"%[var(txn.ua),json(utf8s)]"}'
)


def start_haproxy(around: Surroundings, label: str) -> Process:
    """Start HAProxy with `jwt_verify`."""
    port, config, pem = free_port(), around.folder / f"{label}.cfg", around.folder / f"{label}.pem"
    pem.write_text(around.tokens.clerk.pem())
    text = _HAPROXY.replace("{log_format}", _HAPROXY_LOG)
    values = {
        "connections": CONNECTIONS, "port": port, "pem": pem, "issuer": around.tokens.clerk.issuer,
        "upstream": around.upstream.port, "live": around.upstream.live_port,
    }  # fmt: skip
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    config.write_text(text)
    command = [find_program("haproxy") or "haproxy", "-db", "-f", str(config)]
    return _start(around, "haproxy", command, port, around.folder / f"{label}.log")


def start_envoy(around: Surroundings, label: str) -> Process:
    """Start Envoy with `jwt_authn`, its cache of verified tokens large enough for every row, and CORS."""
    port, config, log = free_port(), around.folder / f"{label}.json", around.folder / f"{label}.log"
    clerk, upstreams = around.tokens.clerk, {"api": around.upstream.port, "live": around.upstream.live_port}
    text = envoy.configuration(port, upstreams, issuer=clerk.issuer, jwks=clerk.jwks(), origin=APP, log=log)
    config.write_text(json.dumps(text))
    return _start(around, "envoy", [*envoy.command(), "-c", str(config)], port, log)


@dataclass(frozen=True)
class Proxy:
    """A column of the table."""

    name: str
    title: str
    start: Callable[..., Process]  # (Surroundings, label); the gateway's takes changed settings, too
    verifies: bool = True
    logs: bool = True


PROXIES = {
    proxy.name: proxy
    for proxy in (
        Proxy("gateway", "gateway", start_gateway),
        Proxy("nginx", "nginx, forwarding only", start_nginx, verifies=False, logs=False),
        Proxy("nginx-log", "nginx, JSON log", start_nginx_log, verifies=False),
        Proxy("haproxy", "HAProxy jwt_verify", start_haproxy),
        Proxy("envoy", "Envoy jwt_authn", start_envoy),
    )
}
