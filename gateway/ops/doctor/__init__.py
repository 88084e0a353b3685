"""`gateway doctor`: ask everything the gateway depends on, and say of each fault what it is and what to do about it.

`run` is the command. `facts` asks, all at once, with `asking`; nothing is decided there. From the facts and the
`evidence` of the command line `examine` makes diagnoses, by a file of functions for each subject: `keys`, `backend`,
`clock`, `token` (with `peeked` and `admission`), `cookies`, `origins`, `upstreams`, `store`, `surroundings`, `log`.
"""
