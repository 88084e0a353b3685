"""Whole messages out of pieces of any size; what may not stand in them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import messages
from gateway.core.frames import close_frame
from gateway.core.messages import LARGEST, Message, Messages, unmask
from gateway.errors import SocketRefused

MASK = b"\x12\xf0\x00\x7e"
TEXT, BINARY, MORE, PING, PONG = 1, 2, 0, 9, 10


def frame(content=b"", opcode=TEXT, *, final=True, mask=MASK, reserved=0, length=None):
    """Write a client's frame; `length` as the header has it, where that is not the usual form."""
    size = len(content)
    if length is None:
        mark, wide = (size, 0) if size < 126 else (126, 2) if size < 65_536 else (127, 8)
        length = bytes((mark | 128,)) + (size.to_bytes(wide, "big") if wide else b"")
    return bytes((final * 128 | reserved | opcode,)) + length + mask + unmask(content, mask)


def fed(*pieces):
    """Feed pieces; give all that comes out."""
    reader = Messages()
    return [out for piece in pieces for out in reader.feed(piece)]


def whole(*frames_and_content):
    *frames, content = frames_and_content
    return Message(b"".join(frames), content)


FIRST, SECOND, LAST = frame(b"one ", final=False), frame(b"two ", MORE, final=False), frame(b"three", MORE)
LONG, LONGER = b"l" * 300, bytes(range(256)) * 300


@pytest.mark.parametrize("content", [b"", b"a", b"x" * 125, b"y" * 126, LONG, LONGER, bytes(messages.FAST + 1)])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_in_one_frame(content, opcode):
    sent = frame(content, opcode)
    assert fed(sent) == [whole(sent, content)]


def test_a_frame_alone_in_its_piece_is_not_copied():
    sent = frame(b"hello")
    assert fed(sent)[0].frames is sent


def test_fragments_are_one_message_and_a_ping_between_them_goes_first():
    ping, pong = frame(b"?", PING), frame(b"!", PONG)
    assert fed(FIRST + ping + SECOND + pong + LAST) == [ping, pong, whole(FIRST, SECOND, LAST, b"one two three")]


def test_empty_fragments_count():
    sent = (frame(b"", final=False), frame(b"", MORE, final=False), frame(b"x", MORE))
    assert fed(*sent) == [whole(*sent, b"x")]


STREAM = b"".join((
    frame(b"small"), FIRST, frame(b"?", PING), SECOND, LAST, frame(LONG, BINARY), frame(b""), frame(LONGER),
    frame(b"", PONG), frame(LONG, final=False), frame(LONGER, MORE), close_frame(1000, b"bye", mask=MASK),
))  # fmt: skip


def test_split_in_two_at_every_byte():
    expected = fed(STREAM)
    assert sum(len(out) if isinstance(out, bytes) else len(out.frames) for out in expected) == len(STREAM)
    for at in (*range(500), *range(500, len(STREAM), 997), *range(len(STREAM) - 400, len(STREAM))):
        assert fed(STREAM[:at], STREAM[at:]) == expected


def test_byte_by_byte():
    assert fed(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == fed(STREAM)


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_split_anywhere(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    assert fed(*(STREAM[a:b] for a, b in pairwise(edges))) == fed(STREAM)


def test_nothing_passes_before_its_message_is_whole():
    sent = frame(LONG)
    assert fed(sent[:-1]) == []
    assert fed(FIRST + SECOND + LAST[:-1]) == []


def test_nothing_follows_a_close():
    close = close_frame(1000, b"", mask=MASK)
    reader = Messages()
    assert list(reader.feed(FIRST + close + frame(b"late"))) == [close]
    assert list(reader.feed(frame(b"later"))) == []


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(b"x", reserved=0x40), 1002, id="compressed"),
        pytest.param(frame(b"x", reserved=0x20), 1002, id="second-reserved-bit"),
        pytest.param(frame(b"x", reserved=0x10), 1002, id="third-reserved-bit"),
        pytest.param(FIRST + frame(b"x", MORE, reserved=0x40), 1002, id="compressed-fragment"),
        pytest.param(frame(b"x", PING, reserved=0x40), 1002, id="compressed-ping"),
        pytest.param(b"\x81\x05hello", 1002, id="not-masked"),
        pytest.param(b"\x89\x00", 1002, id="ping-not-masked"),
        pytest.param(frame(b"x", 3), 1002, id="opcode-3"),
        pytest.param(frame(b"x", 7), 1002, id="opcode-7"),
        pytest.param(frame(b"x", 11), 1002, id="opcode-11"),
        pytest.param(frame(b"x", 15), 1002, id="opcode-15"),
        pytest.param(frame(b"x" * 126, PING), 1002, id="long-ping"),
        pytest.param(frame(b"x" * 70_000, 8), 1002, id="very-long-close"),
        pytest.param(frame(b"x", PING, final=False), 1002, id="fragmented-ping"),
        pytest.param(frame(b"x", MORE), 1002, id="continuation-of-nothing"),
        pytest.param(FIRST + frame(b"x"), 1002, id="message-within-a-message"),
        pytest.param(FIRST + LAST + frame(b"x", MORE), 1002, id="continuation-of-what-is-over"),
        pytest.param(frame(b"x", length=b"\xfe\x00\x01"), 1002, id="length-in-too-many-bytes"),
        pytest.param(frame(b"x", length=b"\xff" + (65_535).to_bytes(8, "big")), 1002, id="length-in-eight-for-two"),
        pytest.param(frame(b"", length=b"\xff" + (2**63).to_bytes(8, "big")), 1009, id="absurdly-large"),
        pytest.param(frame(b"", length=b"\xff" + LARGEST.to_bytes(8, "big")), 1009, id="too-large"),
        pytest.param(
            FIRST + frame(b"", MORE, length=b"\xff" + (LARGEST - 20).to_bytes(8, "big")), 1009, id="too-large-together"
        ),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["at-once", "bytewise"])
def test_what_breaks_the_protocol_is_refused(sent, code, bytewise):
    with pytest.raises(SocketRefused) as refused:
        fed(*(sent[at : at + 1] for at in range(len(sent)))) if bytewise else fed(sent)
    assert refused.value.code == code


def test_what_stands_before_a_broken_frame_still_comes_out():
    reader, good = Messages(), frame(b"good")
    out = reader.feed(good + b"\x81\x00")
    assert next(out) == whole(good, b"good")
    with pytest.raises(SocketRefused):
        next(out)


def test_the_largest_frame_passes():
    sent = frame(bytes(2**24))
    assert fed(sent[:100_000], sent[100_000:])[0].content == bytes(2**24)


def test_held_counts_what_is_kept_and_drop_forgets_it():
    reader = Messages()
    list(reader.feed(FIRST + SECOND[:3]))
    assert reader.held == len(FIRST) + len(b"one ") + 3
    reader.drop()
    assert reader.held == 0
    assert list(reader.feed(frame(b"more"))) == []
    reader = Messages()
    list(reader.feed(frame(b"whole")))
    assert reader.held == 0


@given(st.binary(max_size=messages.FAST + 9), st.binary(min_size=4, max_size=4))
def test_unmasking_twice_changes_nothing(data, mask):
    assert unmask(data, mask) == bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    assert unmask(unmask(data, mask), mask) == data
