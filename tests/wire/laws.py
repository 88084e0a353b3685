"""What must hold of any conversation through the gateway, whatever was sent: judged from outside, by bytes and log."""

import json
import posixpath
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from tests.wire.fuzz import ADMIN, MEMBER, Reply
from tests.wire.stage import Seen, Told
from tests.wire.strict import Message, Reading, answers, h11_requests, requests

USERS = {MEMBER: "user_1", ADMIN: "user_2"}
PREFIXES = {"/public": "public", "/optional": "optional", "/admin": "admin", "/api/v1": "api", "/odd": "odd"}
WITHOUT_IDENTITY = {"public", "odd"}
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
    b"expect",
    b"proxy-authorization",
}
RESERVED = re.compile(
    r"(?:x-user|x-forwarded|x-clerk|clerk|x-original)-.*|forwarded|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip|"
    r"x-rewrite-url|x-http-method(?:-override)?|x-method-override|proxy|(?:x-)?remote-user|x-request-id|traceparent|host|"
    r"content-length|transfer-encoding"
)
FAULTS = {500, 502, 503, 504}


def folded(name: bytes) -> str:
    """Fold a name as the laxest server would."""
    return re.sub(r"[^a-z0-9]", "-", name.decode("latin-1").lower())


def route_of(path: str) -> str:
    """Say which route a path has; written down a second time, in the plainest way."""
    for prefix, name in PREFIXES.items():
        if path == prefix or path.startswith(prefix + "/"):
            return name
    return "rest"


def views(path: bytes) -> set[str]:
    """Give the path as servers of several habits would read it."""
    plain = unquote_to_bytes(path).decode("latin-1")
    without_parameters = re.sub(r";[^/]*", "", plain)
    slashes = plain.replace("\\", "/")
    normal = {re.sub("//+", "/", posixpath.normpath(text)) for text in (plain, without_parameters, slashes)}
    return normal | {plain, re.sub("//+", "/", plain)}


def origin_form(target: bytes) -> bytes:
    """Give path and query of a target."""
    absolute = re.fullmatch(rb"(?i)https?://[^/?#]*([/?]?[^#]*)", target)
    if absolute is None:
        return target
    return absolute[1] if absolute[1].startswith(b"/") else b"/" + absolute[1]


def sent_on(target: bytes, route: str) -> bytes:
    """Give the target the upstream must get."""
    path, mark, query = origin_form(target).partition(b"?")
    if route == "api":
        path = b"/" + b"/".join(path.split(b"/")[3:])
    return path + mark + query


def judge(told: Told, tokens: dict[bytes, bytes], identities: dict[str, list[tuple[bytes, bytes]]]) -> None:
    """Hold one client's stream against every law."""
    asked = requests(told.sent)
    by_id = _lines(told)
    _framing_upstream(told)
    for seen in told.seen:
        _well_formed(seen.message, tokens)
    given = _answers(told, asked, by_id)
    _answers_are_their_own(told, asked, given, by_id)
    for seen, message in _pairs(told, asked, given):
        line = by_id.get(_one(seen.message, b"x-request-id").decode())
        assert line is not None, "an upstream saw a request that the log does not know"
        _same_request(seen.message, message, line)
        _identity(seen.message, message, line, tokens, identities)
    _partial(told, asked)


def _lines(told: Told) -> dict[str, dict[str, Any]]:
    lines = [line for line in told.lines if line["event"] == "request"]
    by_id = {line["request_id"]: line for line in lines}
    assert len(by_id) == len(lines), "two requests have one id"
    other = [line for line in told.lines if line["event"] != "request"]
    assert not [line for line in other if line["event"] == "request_failed" or line["level"] == "error"], other
    assert not [line for line in lines if line["status"] in FAULTS], lines
    return by_id


def _framing_upstream(told: Told) -> None:
    """Two readers that share nothing take what the upstream got for the same requests."""
    for data in told.links:
        reading = requests(data)
        assert not reading.malformed, data
        mine = [
            (each.method, each.target, [(n.lower(), v) for n, v in each.fields], each.body) for each in reading.messages
        ]
        assert mine == h11_requests(data), data


def _well_formed(message: Message, tokens: dict[bytes, bytes]) -> None:
    names = {name.lower() for name, _ in message.fields}
    assert not names & HOP_BY_HOP, names
    for name in (b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id", b"traceparent"):
        _one(message, name)
    assert message.values(b"x-forwarded-for") == [b"127.0.0.1"]
    evil = [name for name, value in message.fields if b"evil" in value and RESERVED.fullmatch(folded(name))]
    assert not evil, evil
    # Other schemes' values go on, whatever they contain (CONTRACT §5).
    for value in message.values(b"authorization"):
        scheme, _, rest = value.partition(b" ")
        assert rest not in tokens.values() or scheme.lower() != b"bearer", "a token went on"
        assert value not in tokens.values(), "a token went on"


def _one(message: Message, name: bytes) -> bytes:
    values = message.values(name)
    assert len(values) == 1, (name, values)
    return values[0]


def _answers(told: Told, asked: Reading, by_id: dict[str, dict[str, Any]]) -> list[Message]:
    """Read what the client got: only whole answers of good framing, no more than it asked, and the end it was told."""
    methods = [each.method for each in asked.messages]
    last = b"HEAD" if asked.rest.lstrip(b"\r\n").startswith(b"HEAD") else b""
    given = _given(told, [*methods, last] if asked.rest else methods)
    for each in given.messages:
        assert set(each.interim) <= {100}
        assert by_id[_one(each, b"x-request-id").decode()]["status"] == each.status
    if len(given.messages) < len(methods) + bool(asked.rest.strip(b"\r\n")):
        ends = bool(given.messages) and b"close" in given.messages[-1].lists(b"connection")
        assert ends or (not told.ended and len(given.messages) == len(methods)) or _ends_itself(asked, given), (
            "no answer"
        )
    if given.messages and b"close" in given.messages[-1].lists(b"connection"):
        assert told.ended, "an end that was announced and did not come"
    return given.messages


def _given(told: Told, methods: list[bytes]) -> Reading:
    """Read the answers. What could not be parsed is refused with a body, though its first word may have been HEAD."""
    given = answers(told.got, methods, closed=told.ended == "eof")
    at = len(given.messages) - 1
    if given.rest and at >= 0 and given.messages[at].status in (400, 408, 431) and methods[at] == b"HEAD":
        given = answers(told.got, [*methods[:at], b""], closed=told.ended == "eof")
    waits = not told.ended and given.rest == b"HTTP/1.1 100 Continue\r\n\r\n"  # for the rest of a body
    assert waits or not given.rest, (given.rest, told.ended)
    return given


def _ends_itself(asked: Reading, given: Reading) -> bool:
    """Say whether the last answer was to a client that had not asked for a lasting connection: HTTP/1.0 needs no word."""
    return bool(given.messages) and given.messages[-1].until_close


def _answers_are_their_own(told: Told, asked: Reading, given: list[Message], by_id: dict[str, dict[str, Any]]) -> None:
    for answer in given:
        if answer.values(b"x-serial"):
            continue
        line = by_id[_one(answer, b"x-request-id").decode()]
        if answer.status >= 400:
            assert _one(answer, b"content-type") == b"application/problem+json"
            if answer.body:
                assert json.loads(answer.body)["status"] == answer.status
        else:
            assert line["path"] in ("/healthz", "/readyz") or answer.status == 204, answer
    assert len(asked.messages) + 1 >= len(given)


def _pairs(told: Told, asked: Reading, given: list[Message]) -> list[tuple[Seen, Message]]:
    """Pair what the upstream saw with what the client asked, by the answers' order."""
    pairs, rest = [], {seen.serial: seen for seen in told.seen}
    for number, answer in enumerate(given):
        if not answer.values(b"x-serial"):
            continue
        seen = rest.pop(int(_one(answer, b"x-serial")), None)
        assert seen is not None, "an answer that nobody gave in this example, or gave twice"
        assert number < len(asked.messages), "an answer to what no careful reader takes for a request"
        assert _one(answer, b"x-request-id") == _one(seen.message, b"x-request-id")
        expected = b"" if asked.messages[number].method == b"HEAD" else b"answer %d" % seen.serial
        assert (answer.status, answer.body) == (200, expected)
        pairs.append((seen, asked.messages[number]))
    assert not rest, "the upstream answered a request whose client got no answer"
    serials = [seen.serial for seen, _ in pairs]
    assert serials == sorted(serials)
    return pairs


def _same_request(seen: Message, asked: Message, line: dict[str, Any]) -> None:
    """The request that was authorised, and the one that a careful reader reads, and the one that went on, are one."""
    assert (seen.method, seen.body) == (asked.method, asked.body)
    assert seen.target == sent_on(asked.target, line["route"])
    path = origin_form(asked.target).partition(b"?")[0]
    assert line["path"].encode("latin-1") == path
    assert line["method"].encode() == seen.method
    assert {route_of(view) for view in views(path)} == {line["route"]}, (path, line["route"])
    if line["route"] != "api":
        assert {route_of(view) for view in views(seen.target.partition(b"?")[0])} == {line["route"]}
    if b"x-pass" not in asked.lists(b"connection"):
        assert seen.values(b"x-pass") == asked.values(b"x-pass")


def _identity(
    seen: Message, asked: Message, line: dict[str, Any], tokens: dict[bytes, bytes],
    identities: dict[str, list[tuple[bytes, bytes]]],
) -> None:  # fmt: skip
    assert len(asked.values(b"authorization")) <= 1
    said = b"".join(asked.values(b"authorization") + asked.values(b"cookie"))
    users = {user for name, user in USERS.items() if tokens[name] in said}
    told = [(name, value) for name, value in seen.fields if folded(name).startswith("x-user-")]
    if line["route"] in WITHOUT_IDENTITY or line["user"] is None:
        assert told == []
    else:
        assert line["user"] in users, (line["user"], users)
        assert told == identities[line["user"]]
    assert line["user"] is not None or line["route"] not in ("admin", "rest")
    assert line["route"] != "admin" or line["user"] == "user_2"


def _partial(told: Told, asked: Reading) -> None:
    """What reached the upstream of a request that was never whole is the beginning of what the client sent."""
    for data in told.links:
        begun = requests(data).partial
        if begun is None:
            continue
        same = [each for each in (*asked.messages, asked.partial) if each is not None and begun.method == each.method]
        assert [each for each in same if each.body.startswith(begun.body)], (begun, asked.partial)


def judge_reply(told: Told, reply: Reply, *, pipelined: bool) -> None:
    """Hold an answer that was passed on against what the upstream sent."""
    methods = [reply.method] + [b"GET"] * pipelined
    sent = answers(reply.stream.data, [reply.method], closed=reply.ending == "close")
    got = answers(told.got, methods, closed=told.ended == "eof")
    assert not got.malformed, got.rest
    first = got.messages[0] if got.messages else got.partial
    assert first is not None, "not even a 502"
    passed = {name.lower() for name, value in first.fields if b"evil" in value}
    assert not passed & {b"x-request-id", b"link", b"proxy-authenticate"}, passed
    assert b"x-hop" not in passed or b"Connection: X-Hop" not in reply.stream.data
    assert not first.interim
    repeated = not reply.stream.data and reply.ending != "keep"
    if first.values(b"x-serial"):
        assert repeated
    elif first.values(b"content-type") == [b"application/problem+json"]:
        assert first.status in (502, 504)
        assert not _is_good(sent, reply), (sent, first.body)
    else:
        _faithful(first, sent, reply)
    if got.partial is first:
        assert told.ended, "neither an answer nor an end"
        assert not _is_good(sent, reply), sent
    if not sent.rest:  # else it could be told from nothing whether what came late was the next answer
        _second(told, got)
    other = [line for line in told.lines if line["event"] == "request_failed"]
    assert not other, other


def _is_good(sent: Reading, reply: Reply) -> bool:
    return bool(sent.messages) and not sent.rest and reply.ending != "reset" and sent.messages[0].status <= 999


def _faithful(got: Message, sent: Reading, reply: Reply) -> None:
    assert sent.messages or sent.partial, "an answer where no careful reader sees one"
    original = sent.messages[0] if sent.messages else sent.partial
    assert original is not None
    assert (got.status, got.reason.strip()) == (original.status, original.reason.strip())
    nominated = original.lists(b"connection")
    for name in (b"set-cookie", b"x-pass", b"server", b"content-encoding", b"vary", b"location"):
        if name not in nominated:
            wanted = original.values(name)
            mine = [value for value in got.values(name) if value != b"Origin"]
            assert [each for each in mine if each not in (b"Origin",)] == wanted, name
    if got.whole:
        assert original.whole, "a clean end that the upstream never gave"
        assert got.body == original.body
    else:
        assert original.body.startswith(got.body)


def _second(told: Told, got: Reading) -> None:
    """The request behind it has its own answer or none."""
    for answer in got.messages[1:]:
        assert b"evil" not in answer.body
        serial = int(_one(answer, b"x-serial"))
        assert [seen.serial for seen in told.seen if seen.message.target == b"/public/second"] == [serial]
        assert answer.body == b"answer %d" % serial
