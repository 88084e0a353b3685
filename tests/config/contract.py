"""Every key of CONTRACT §2: with a value this version takes, and with one that asks for what is not built yet."""

# Each key once, at its default where the default asks for nothing, else at the value that turns it off.
EVERY_KEY = """
public_url: null
listen: {host: 0.0.0.0, port: 8080, tls: null}
admin: {host: 127.0.0.1, port: 9901, token: null}
workers: 1
trusted_proxies: []
clerk:
  publishable_key: pk_live_Y2xlcmsuZXhhbXBsZS5jb20k
  issuer: null
  jwks_url: null
  jwt_key: null
  secret_key: null
  machine_secret_key: null
  api_url: https://api.clerk.com
  frontend_api_url: https://frontend-api.clerk.dev
  authorized_parties: [https://app.example.com]
  azp_missing: reject
  audience: []
  clock_skew_s: 5
  proxy_path: null
  proxy_url: null
  satellite: false
  domain: null
  handshake: false
  sign_in_url: null
  instance_id: null
  machine_verify_per_s: 20
  webhook_signing_secrets: []
issuers: []
upstreams:
  api:
    url: http://127.0.0.1:3000
    targets: []
    kind: http
    host_header: preserve
    identity: true
    forward_token: false
    timeouts: {connect_s: 5, response_s: 30, idle_s: 300}
    retries: {attempts: 0, budget_percent: 20}
    health: {path: null, interval_s: 5, timeout_s: 2, unhealthy_after: 3, healthy_after: 1}
    breaker: {failures: 0, open_s: 10}
    max_connections: 0
    max_pending: 0
    tls: {verify: true, ca: null, client_cert: null, client_key: null, server_name: null}
    allow_convex_admin: false
    webhooks: null
routes:
  - name: rest
    path: /*
    host: null
    methods: []
    upstream: api
    auth: required
    token: session
    audience: []
    issuer: null
    require: {role: [], permission: [], org: [], plan: [], feature: [], scope: [], claims: {}, max_age_min: null}
    strip_prefix: null
    add_prefix: null
    timeouts: {connect_s: null, response_s: null, idle_s: null}
    max_body_bytes: null
    cors: null
    rate_limit: null
    stream_max_age_s: null
    allow_encoded: []
    allow_pending: false
    allow_impersonation: true
    forward_token: null
cors:
  origins: [https://app.example.com, "https://*.preview.example.com"]
  methods: [GET, HEAD, POST, PUT, PATCH, DELETE]
  headers: [Authorization, Content-Type]
  expose: []
  credentials: true
  max_age_s: 600
  private_network: false
identity:
  prefix: X-User-
  headers: {}
  enrich: false
  allow_unsafe_metadata: false
  assertion: {enabled: false, header: X-User-Assertion, algorithm: ES256, issuer: null, ttl_s: 60, keys_dir: null, rotate_after_h: 720}
  max_bytes: 8192
rate_limits: {by_ip: null, by_user: null, by_org: null, by_machine: null}
limits: {header_bytes: 32768, headers: 128, body_bytes: 10485760, header_read_s: 10, body_idle_s: 30, keepalive_s: 75, connections: 10000, connections_per_ip: 0}
store: {url: null}
cache: {url: "memory://"}
sync: {every_h: 0}
webhooks: {path: null, aliases: [], max_body_bytes: 1048576, private_metadata: false, retention_days: 30}
logs: {format: json, level: info, access: true}
metrics: {enabled: false}
tracing: {endpoint: null}
drain_s: 30
drain_delay_s: 0
"""

# Dotted key, and a value for it in YAML that asks for something.
ASKING = (
    ("workers", "2"),
    ("workers", "auto"),
    ("cache.url", "redis://cache.internal"),
    ("metrics.enabled", "true"),
    ("tracing.endpoint", "http://127.0.0.1:4318"),
)
