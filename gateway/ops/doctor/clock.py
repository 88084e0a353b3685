"""Clocks: this machine's against Clerk's, by which tokens are dated, and against the upstreams'."""

from collections.abc import Mapping

from gateway.ops.doctor.diagnosis import Diagnosis, error, lasting, ok, skipped, warning

SUBJECT = "clock"
EXACT_S = 2.0  # what dates in whole seconds and the way there and back can say
APART_S = 30.0  # from which on an upstream's own checks of time would fail
SET_IT = "Set this machine's clock: timedatectl set-ntp true, or chronyc makestep; Docker Desktop: restart it"


def clerk_clock(offsets: Mapping[str, float], leeway_s: float) -> list[Diagnosis]:
    """Judge how far Clerk's clocks, by who was asked, are ahead of ours; `leeway_s` is what `clock_skew_s` allows."""
    if not offsets:
        return [skipped(SUBJECT, "nobody at Clerk could be asked for the time")]
    # Whoever agrees best is believed: a server in between may have a wrong clock, two of them not the same one.
    who, offset_s = min(offsets.items(), key=lambda each: abs(each[1]))
    apart = abs(offset_s)
    direction = "behind" if offset_s > 0 else "ahead of"
    if apart <= EXACT_S:
        return [ok(SUBJECT, f"agrees with Clerk's, within {EXACT_S:g} s")]
    found = f"this machine's clock is {lasting(offset_s)} {direction} Clerk's ({who})"
    if apart <= leeway_s:
        return [warning(SUBJECT, f"{found}; clock_skew_s: {leeway_s:g} still covers it", SET_IT)]
    effect = (
        "new tokens are refused as token-iat-in-the-future or token-not-active-yet"
        if offset_s > 0
        else "tokens, which live for a minute, are refused as token-expired before their time"
    )
    more = "" if apart > 60 else f". Until then clock_skew_s: {min(60, int(apart) + 3)} covers it"
    return [error(SUBJECT, f"{found}, more than clock_skew_s: {leeway_s:g} allows: {effect}", SET_IT + more)]


def upstream_clocks(offsets: Mapping[str, float], clerk: Mapping[str, float]) -> list[Diagnosis]:
    """Find upstreams whose clocks differ from everybody's: where only ours does, that is said already."""
    ours = min(clerk.values(), key=abs, default=0.0)
    return [
        warning(
            who, f"its clock is {lasting(offset_s - ours)} {'ahead' if offset_s > ours else 'behind'}",
            "Set that machine's clock: whatever it checks by time itself, such as a token that is forwarded, fails",
        )
        for who, offset_s in offsets.items()
        if abs(offset_s - ours) > APART_S
    ]  # fmt: skip
