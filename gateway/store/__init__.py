"""Users and webhook events, kept in a database: what it can do in `base`, how in the rest. Nothing here is asked per
forwarded request.
"""
