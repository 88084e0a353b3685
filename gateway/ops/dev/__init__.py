"""`gateway dev`: a local issuer shaped like Clerk, a sample upstream with a page, the gateway in front, on loopback.

Values: `people` to begin with, `shapes` of tokens, `objects` as Clerk's API has them. `world` is what becomes of them
by `happenings`, told by `outbox`; `clients`, `sessions`, `machines` are who is signed in, by what. Servers: `issuer`
with `console`, `frontend_api`, `backend_api`, and `sample`. `commands` are `asking`, `token_request`, `firing`; `run`
is the whole. Nothing here is used outside of development.
"""


class DevError(Exception):
    """`gateway dev` or `gateway token` cannot do what was asked; the text says why and what to do."""
