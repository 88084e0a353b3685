"""The edge gateway for Clerk: verifies tokens, strips what clients claim, adds trusted X-User-* headers, forwards.

The house, from the top; imports point down only:

    cli         the commands
    ops         what commands do beside serving; `ops/doctor`, `ops/explain` and `ops/dev` have maps of their own
    web         client connections, the order of stages, answers, own addresses, the composition root (`web/app`)
    net         key sets, and the upstream side: connections, pools, one exchange; tunnels of upgraded connections
    store       webhooks and the users, organisations and memberships they speak of, in SQLite or PostgreSQL
    core        every decision, as plain functions: routes, CORS, credentials, tokens, rules, rates, headers
    errors      what can be refused, and how that is answered

    config      YAML and environment to one frozen `Config`; read by `web/app`, `ops` and `cli`
    telemetry   the log

The way of a request:

    bytes -> RawRequestMessage -> Inbound -> Route -> Principal -> Outbound -> endpoint -> answer -> bytes
             web/connection       web/read   core/routing          core/headers           net/wire
                                             core/cors             core/identity          web/respond
                                             web/identify: core/credentials, verify, claims, policy

Where several Clerk instances count, `web/issuers` chooses by whose keys and rules a token is verified. An opaque
machine token (`core/machine`) is Clerk's to judge, whom `net/machine_tokens` asks; `web/renewals` asks again
while what was opened with it is open.

`web/connection` carries it, `web/pipeline` says in which order, `net/exchange` talks to the upstream. A WebSocket takes
the same way; its 101 comes back to `web/sockets`, which opens a `net/tunnel`. What outlives its token, a socket or an
answer still on its way, is in `web/streams`, which ends it with its session. Convex's clients are read in one:
`net/convex`, `core/messages`, `core/convex`, `web/convex`.

What Clerk's own clients ask for under `clerk.proxy_path` leaves that way behind its path, for Clerk's Frontend API:
`web/frontend_api`, with what may go there in `core/frontend_api`.

A document whose cookies do not say who asks is `web/documents`': `web/page` reads it by `core/session`'s table, then
`web/returning` (back from Clerk's handshake) or `web/refreshing`, which ask Clerk by `net/handshakes`; whither it is
sent says `core/handshake`, which cookies its answer brings `core/directives`.

The way of a webhook:

    bytes -> Signed -> Event -> Arrival -> inbox row and directory row, in one transaction of many webhooks -> 200
             web/webhooks      store/sql   store/group, database, directory
                      core/events          core/directory

then, without waiting, what the next request of that user is told: `web/records`, `web/people`. The first request of a
user asks the store there too; what other processes wrote comes by `web/feed`. And on to the upstreams that asked:

    delivery row, in that same transaction -> Claimed -> signed and sent -> Answer -> Verdict -> Settled
    store/deliveries, core/delivery           net/delivery  net/sender      core/delivery        store/deliveries

What webhooks did not tell comes from Clerk's lists: `net/sync` reads them by `net/clerk_api`, `core/reconcile`
compares, `store/syncing` keeps. `ops/sync` starts it, or `web/reconciling` every so many hours.

What upstreams can verify for themselves is signed by `web/assertions`, once for a token and an upstream. What it says
is `core/assertion`'s business, which key signs `core/rotation`'s; the keys are files (`store/signing_keys`) that every
process looks after (`store/keyring`).

What ends before its token does (`core/revocation`) is stored with the webhook that says so, and kept in mind by
`web/revocations`: asked where a token is verified and where a stream opens, so that nothing is added to a request.
"""

__version__ = "0.1.0"
