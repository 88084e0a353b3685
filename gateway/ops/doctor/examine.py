"""From facts and evidence to diagnoses, in the order in which they are read: what others hang on comes first."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from gateway.config import Config
from gateway.core.routing import Route
from gateway.errors import StoreDown
from gateway.ops.doctor import backend, clock, cookies, keys, log, origins, store, surroundings, upstreams
from gateway.ops.doctor import token as tokens
from gateway.ops.doctor.asking import Answer
from gateway.ops.doctor.diagnosis import Diagnosis, error, ok
from gateway.ops.doctor.evidence import Evidence
from gateway.ops.doctor.facts import Facts
from gateway.ops.doctor.instances import Instance, Keys, Known
from gateway.ops.doctor.keys import read_key_set
from gateway.ops.doctor.peeked import peek


def examine(
    config: Config, instances: Sequence[Instance], facts: Facts, evidence: Evidence, *, now: float
) -> list[Diagnosis]:
    """Say everything that is found; `now` in Unix seconds."""
    known = {issuer.config.issuer: _known(issuer, facts) for issuer in instances}
    found = [
        *_of_clerk(config, instances, facts, known),
        *_of_clocks(instances, facts),
        *_of_upstreams(facts),
        store.store(config, facts.store),
        *store.webhooks(config, facts.store, now=now),
        *_of_surroundings(config, instances, facts, evidence),
        *(_late(label) for label in dict.fromkeys(facts.late)),
        *(_broken(label, what) for label, what in facts.broken.items()),
    ]
    found += _of_evidence(config, instances, facts, evidence, known=known, now=now)
    return list(dict.fromkeys(found))


def _late(label: str) -> Diagnosis:
    remedy = "Look at what hangs: the network, a DNS server that does not answer, or the other side"
    return error(label, "no answer in time", remedy)


def _broken(label: str, what: str) -> Diagnosis:
    return error(label, f"could not be looked at: {what}", "This is a fault of the doctor's own: please report it")


# --- Clerk ------------------------------------------------------------------------------------------------------------


def _known(instance: Instance, facts: Facts) -> Known:
    issuer = instance.config.issuer
    return Known(read_key_set(facts.key_sets.get(issuer)), read_key_set(facts.backends.get(issuer)))


def _of_clerk(config: Config, instances: Sequence[Instance], facts: Facts, known: Keys) -> Iterator[Diagnosis]:
    for instance in instances:
        issuer = instance.config.issuer
        if (asked := facts.key_sets.get(issuer)) is not None:
            yield keys.key_set(instance, asked)
        if instance.backend is None or issuer in facts.backends:
            yield backend.answered(instance, facts.backends.get(issuer))
        yield from keys.belonging(instance, known[issuer])
        if issuer in facts.proxies:
            yield keys.proxied(instance, facts.proxies[issuer], known[issuer].issuer)
        for sender in config.webhooks.senders if config.webhooks.paths else ():
            if sender.issuer == instance.config.name and sender.secrets:
                yield from keys.webhook_instance(instance, sender.instance, known[issuer])
        told = backend.read_templates(facts.templates.get(issuer))
        yield from backend.templates(instance, told, config.routes, enriched=_enriches(config))


def _enriches(config: Config) -> bool:
    return config.identity.enrich and config.store is not None


# --- clocks -----------------------------------------------------------------------------------------------------------


def _clerks_offsets(instances: Sequence[Instance], facts: Facts) -> dict[str, float]:
    """Say how far ahead Clerk's clocks are, by who was asked. What is on this machine has this machine's clock."""
    offsets = {}
    for asked in (facts.key_sets, facts.backends):
        for instance in instances:
            answer = asked.get(instance.config.issuer)
            if isinstance(answer, Answer) and answer.status < 500 and answer.offset_s is not None:
                who = "by its keys" if asked is facts.key_sets else "by its Backend API"
                offsets[instance.subject(who)] = answer.offset_s
    return offsets


def _of_clocks(instances: Sequence[Instance], facts: Facts) -> list[Diagnosis]:
    if not instances:
        return []
    clerks = _clerks_offsets(instances, facts)
    theirs = {
        question.subject: answer.offset_s
        for question, answer in facts.endpoints
        if isinstance(answer, Answer) and answer.offset_s is not None
    }
    leeway_s = min(instance.config.token_policy.leeway_s for instance in instances)
    return [*clock.clerk_clock(clerks, leeway_s), *clock.upstream_clocks(theirs, clerks)]


# --- the rest ---------------------------------------------------------------------------------------------------------


def _of_upstreams(facts: Facts) -> Iterator[Diagnosis]:
    asked = sorted(
        facts.endpoints, key=lambda each: (each[0].upstream.name, each[0].endpoint.label, not each[0].is_health)
    )
    for _, answers in groupby(asked, key=lambda each: (each[0].upstream.name, each[0].endpoint.label)):
        yield from upstreams.endpoint(list(answers))


def _of_surroundings(
    config: Config, instances: Sequence[Instance], facts: Facts, evidence: Evidence
) -> Iterator[Diagnosis]:
    yield surroundings.gateway_here(config, facts.ready)
    yield from surroundings.running_routes(config, facts.routes)
    yield from surroundings.public(config, facts.public, runs_here=surroundings.is_running(facts.ready))
    yield from surroundings.proxies(config, evidence, facts.public)
    for subject, url, asked in facts.webhooks:
        yield from surroundings.webhook_address(subject, url, asked)
    for url, asked in facts.signers:
        yield from surroundings.signer(url, asked)
    yield from origins.agreement(config, instances)


# --- the evidence -----------------------------------------------------------------------------------------------------


def _of_evidence(
    config: Config, instances: Sequence[Instance], facts: Facts, evidence: Evidence, *, known: Keys, now: float
) -> Iterator[Diagnosis]:
    led, routes = origins.called(config, evidence)
    yield from led
    if evidence.origin is not None:
        yield from origins.origin(evidence.origin, config, instances, routes)
    raw = evidence.token
    if evidence.cookie is not None:
        came = cookies.cookies(evidence, instances, now=now)
        yield from came.diagnoses
        if raw is not None and came.token is not None:
            yield ok("cookies", "are not looked at where Authorization has a token")
        raw = raw if raw is not None else came.token
    if raw is not None:
        yield from _of_token(config, instances, facts, raw, routes, known=known, now=now)
    if evidence.log is not None:
        yield from log.log(evidence.log, config)


def _of_token(
    config: Config, instances: Sequence[Instance], facts: Facts, raw: str, routes: Sequence[Route], *, known: Keys,
    now: float,
) -> Iterator[Diagnosis]:  # fmt: skip
    offsets = _clerks_offsets(instances, facts).values()
    seen = facts.store
    knows = _enriches(config) and seen is not None and not isinstance(seen, StoreDown) and seen.user is not None
    around = tokens.Around(
        instances, known, routes, now, ahead_s=min(offsets, key=abs, default=0.0), is_enriched=knows or _has_api(config)
    )
    yield from tokens.token(raw, around)
    peeked = peek(raw)
    if peeked is None or peeked.user_id is None:
        return
    for instance in instances:
        yield from backend.user(instance, peeked.user_id, facts.users.get(instance.config.issuer))
    if _enriches(config):
        yield from store.user(config, peeked.user_id, seen)


def _has_api(config: Config) -> bool:
    """Say whether the gateway asks Clerk for a user whose token says too little."""
    return _enriches(config) and bool(config.backends)
