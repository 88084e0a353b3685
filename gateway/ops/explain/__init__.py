"""`gateway explain`: what the gateway would make of a request, check by check, without one running and without sending.

    request   what was typed, as bytes, read by the gateway's own parser
    run       those through the gateway's own stages (`web/pipeline`), which decide; nothing is forwarded
    story     the checks in order, each with what it looked at: `matching`, `credential`, `token`, `rules`, `onward`
    remedy    what to change where it was refused
    written   all that as text or JSON, with secrets masked (`shown`)

What decides is never here: the verdict is the pipeline's, and each check is told by asking the function that the
pipeline asks. A stage that nobody tells of yet still shows: by its refusal, or by what it added to the head.
"""

from gateway.ops.explain.command import explain

__all__ = ["explain"]
