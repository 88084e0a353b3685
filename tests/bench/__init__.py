"""What one proxied request costs: the gateway beside nginx, HAProxy and Envoy, all in one run (`make bench`).

    rows          what is measured, and what the gateway is held to
    measures      how each row is measured; `lasting` has those of what stays open: WebSockets, server-sent events
    webhooks      how those of accepted webhooks are; `directory` has those of very many users
    stores        their databases, on a disk
    loads         how a row is put on a proxy: wrk, byte pumps, idle connections
    proxies       how each proxy is configured and started, alone on one core
    upstream      what stands behind them, on the other core; `sink` reads its large bodies, `live` holds what stays open
    tokens        keys and tokens of a made-up Clerk instance
    accounting    CPU time and memory as the kernel accounts them to a process
    report        table, JSON, README

    resilience    something else: endpoints that die, reloads, restarts, a crowd (`make resilience`)
    scenes        each of them, but for `killed`: webhooks while the gateway is killed;
                  `ground` is where they are played, `steady` the clients, `ledger` their upstream

    soak          and another: minutes of mixed load, watching memory and open files (`make soak`)
    crowd, rude   its clients, good and bad
    moody         its upstream, of all moods; `props` starts and kills it

The figure is CPU time of the proxy's own process per answered request: it moves far less with a busy machine than
requests per second do. Absolute values still drift by a third between machines and minutes: compare within one run.
"""


class BenchError(Exception):
    """Why no figure can be given, in words for the person who asked for it."""
