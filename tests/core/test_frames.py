"""Where frames end, whatever the pieces they come in; and the Close frame the gateway may put between two of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.frames import Frames, close_frame

MASK = b"\x01\x02\x03\x04"


def frame(size: int, *, masked: bool = False, opcode: int = 0x82) -> bytes:
    """Write a frame with so much payload, which looks like the header of a long one."""
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((opcode, bit | size))
    elif size < 65_536:
        head = bytes((opcode, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((opcode, bit | 127)) + size.to_bytes(8, "big")
    return head + (MASK if masked else b"") + b"\x82\xff" * (size // 2) + b"\x82" * (size % 2)


@pytest.mark.parametrize("masked", [False, True], ids=["from-a-server", "from-a-client"])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_whole_frame_ends_at_its_end(size: int, masked: bool) -> None:
    frames, data = Frames(), frame(size, masked=masked)
    assert frames.at_boundary
    assert frames.feed(data) == len(data)
    assert frames.at_boundary


@pytest.mark.parametrize("masked", [False, True], ids=["from-a-server", "from-a-client"])
@pytest.mark.parametrize("size", [0, 1, 126, 70_000])
def test_a_frame_that_comes_byte_by_byte_ends_with_its_last_byte(size: int, masked: bool) -> None:
    frames, data = Frames(), frame(size, masked=masked)
    for at in range(len(data) - 1):
        assert frames.feed(data[at : at + 1]) == -1
        assert not frames.at_boundary
    assert frames.feed(data[-1:]) == 1
    assert frames.at_boundary


@pytest.mark.parametrize(
    ("pieces", "boundaries"),
    [
        pytest.param([frame(3) + frame(4)], [11], id="two-in-one"),
        pytest.param([frame(3) + frame(4)[:2]], [5], id="second-one-cut"),
        pytest.param([frame(3) + frame(4)[:1], frame(4)[1:]], [5, 5], id="cut-in-the-header"),
        pytest.param([frame(300)[:3], frame(300)[3:] + b"\x82"], [-1, 301], id="cut-in-the-length"),
        pytest.param([frame(9)[:4], frame(9)[4:]], [-1, 7], id="cut-in-the-payload"),
        pytest.param([frame(9)[:4], frame(9)[4:] + frame(0)], [-1, 9], id="the-rest-and-another"),
        pytest.param([b"\x82", b"\x01", b"\x00"], [-1, -1, 1], id="one-byte-each"),
        pytest.param([frame(200)[:2], b"\x00\x04"], [-1, -1], id="a-piece-that-looks-like-a-frame"),
    ],
)
def test_the_last_boundary_in_a_piece_is_told(pieces: list[bytes], boundaries: list[int]) -> None:
    frames = Frames()
    assert [frames.feed(piece) for piece in pieces] == boundaries


def test_a_piece_inside_a_payload_is_no_frame_however_it_looks() -> None:
    frames = Frames()
    frames.feed(frame(70_000)[:20])
    assert frames.feed(frame(3)) == -1
    assert not frames.at_boundary


def check(sizes: list[tuple[int, bool]], cuts: list[int]) -> None:
    """Feed the frames cut at these places, and compare with where they are known to end."""
    data, ends = b"", {0}
    for size, masked in sizes:
        data += frame(size, masked=masked)
        ends.add(len(data))
    frames, begin = Frames(), 0
    for cut in sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)}):
        if cut == begin:
            continue
        inside = [end - begin for end in ends if begin < end <= cut]
        assert frames.feed(data[begin:cut]) == max(inside, default=-1)
        assert frames.at_boundary == (cut in ends)
        begin = cut


SIZES = st.one_of(st.integers(0, 130), st.integers(65_530, 65_540), st.integers(0, 2000))


@given(st.lists(st.tuples(SIZES, st.booleans()), max_size=6), st.lists(st.integers(0, 2**31), max_size=12))
def test_pieces_do_not_matter(sizes: list[tuple[int, bool]], cuts: list[int]) -> None:
    check(sizes, cuts)


def test_three_thousand_splittings() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        sizes = [(chance.choice((0, 1, 5, 125, 126, 127, 300, 1000)), chance.random() < 0.5) for _ in range(8)]
        check(sizes, [chance.randrange(4000) for _ in range(chance.randrange(1, 40))])


def test_a_close_frame_says_code_and_reason() -> None:
    assert close_frame(4401, b"session-revoked") == b"\x88\x11\x11\x31session-revoked"
    assert close_frame(1001, b"") == b"\x88\x02\x03\xe9"


def test_a_masked_close_frame_reads_as_the_same() -> None:
    sent = close_frame(1001, b"going away", mask=MASK)
    assert sent[:6] == b"\x88\x8c" + MASK
    assert bytes(byte ^ MASK[at % 4] for at, byte in enumerate(sent[6:])) == b"\x03\xe9going away"


def test_a_close_frame_is_never_longer_than_a_control_frame_may_be() -> None:
    sent = close_frame(4401, b"x" * 300)
    assert (len(sent), sent[1]) == (127, 125)
    assert Frames().feed(sent) == len(sent)
