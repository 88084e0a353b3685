"""`gateway dev`: a local issuer shaped like Clerk, a sample upstream with a page, the gateway in front, on loopback.

`people` and `shapes` are values and pure functions, `issuer` and `sample` the two servers, `token_request` what
`gateway token` asks, `guide` the text that is printed, `run` the whole. Nothing here is used outside of development.
"""


class DevError(Exception):
    """`gateway dev` or `gateway token` cannot do what was asked; the text says why and what to do."""
