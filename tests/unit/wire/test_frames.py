import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import RemoteError
from mesh.wire.frames import FRAME_BYTES_MAX, FrameDecoder, encode_frame


def test_a_frame_is_its_length_in_four_bytes_and_its_bytes():
    assert encode_frame(b"hello") == b"\x00\x00\x00\x05hello"
    assert encode_frame(b"") == b"\x00\x00\x00\x00"


@given(frames=st.lists(st.binary(max_size=300), max_size=8), cuts=st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_out_whole_however_the_network_cuts_them(frames, cuts):
    data = b"".join(map(encode_frame, frames))
    decoder, found, at = FrameDecoder(), [], 0
    while at < len(data):
        cut = cuts[at % len(cuts)]
        found += decoder.receive(data[at : at + cut])
        at += cut
    assert found == frames
    assert not decoder.inside_frame


def test_a_frame_of_exactly_the_limit_passes():
    frame = b"x" * FRAME_BYTES_MAX
    assert list(FrameDecoder().receive(encode_frame(frame))) == [frame]


def test_a_frame_above_the_limit_is_refused_at_its_prefix_and_behind_the_good_ones():
    decoder = FrameDecoder()
    frames = decoder.receive(encode_frame(b"good") + (FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    assert next(frames) == b"good"
    with pytest.raises(RemoteError) as caught:
        next(frames)
    assert caught.value.word == "frame-too-large"


def test_a_frame_above_the_limit_is_our_own_mistake_when_we_send_it():
    with pytest.raises(AssertionError):
        encode_frame(b"x" * (FRAME_BYTES_MAX + 1))


def test_a_stream_that_ends_inside_a_frame_is_noticed():
    decoder = FrameDecoder()
    assert list(decoder.receive(encode_frame(b"hello")[:-1])) == []
    assert decoder.inside_frame
