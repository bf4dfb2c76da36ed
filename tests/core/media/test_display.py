"""Frames come out as players show them, in the colours that the video means, or are refused."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.core.media.video import H264, decode_mp4, encode_mp4, frame_times, turned

STORED = np.zeros((32, 48, 3), np.uint8)
STORED[:16, :24] = (200, 30, 30)
STORED[:16, 24:] = (30, 200, 30)
STORED[16:, :24] = (30, 30, 200)
ONE = 1 << 16


def write(path: Path, *, matrix: Sequence[int] | None = None, pixels: str = "yuv420p", codec: str = "libx264") -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, pixels
        if matrix is not None:
            a, b, c, d = (value * ONE for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(STORED, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("matrix", "expected", "words"),
    [
        (None, STORED, None),
        ((1, 0, 0, 1), STORED, None),
        ((0, 1, -1, 0), np.rot90(STORED, -1), "turned by 90 degrees"),  # clockwise
        ((-1, 0, 0, -1), STORED[::-1, ::-1], "turned by 180 degrees"),
        ((0, -1, 1, 0), np.rot90(STORED, 1), "turned by 270 degrees"),
        ((-1, 0, 0, 1), STORED[:, ::-1], "mirrored left to right"),
        ((1, 0, 0, -1), STORED[::-1], "mirrored top to bottom"),
        ((0, 1, 1, 0), STORED.transpose(1, 0, 2), "mirrored at a diagonal"),
        ((0, -1, -1, 0), STORED[::-1, ::-1].transpose(1, 0, 2), "mirrored at a diagonal"),
    ],
    ids=["none", "upright", "90", "180", "270", "left-right", "top-bottom", "diagonal", "other diagonal"],
)
def test_turned_and_mirrored(
    tmp_path: Path, matrix: Sequence[int] | None, expected: np.ndarray, words: str | None
) -> None:
    path = write(tmp_path / "v.mp4", matrix=matrix)
    frames = decode_mp4(path, [1])
    assert frames.shape[1:] == expected.shape
    assert np.abs(frames[0].astype(int) - expected).mean() < 6
    assert turned(path) == (words and f"is {words}, as its display matrix says")


def test_other_turns_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.set_display_rotation(45)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(STORED, format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(DatasetError, match=r"v\.mp4: frame 0: its display matrix .0\.707.* neither a quarter turn"):
        decode_mp4(tmp_path / "v.mp4")


@pytest.mark.parametrize("space", [1, 5], ids=["bt709", "bt601"])
@pytest.mark.parametrize("span", [1, 2], ids=["limited", "full"])
def test_colours_are_those_that_the_video_names(tmp_path: Path, space: int, span: int) -> None:
    colour = np.full((32, 48, 3), (200, 40, 30), np.uint8)
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = space, span
        frame = av.VideoFrame.from_ndarray(colour, format="rgb24")
        container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=space, dst_color_range=span)))
        container.mux(stream.encode(None))
    assert np.abs(decode_mp4(tmp_path / "v.mp4")[0].astype(int) - colour).max() <= 3


def test_depth_is_not_cut_to_8_bits(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "gray16le"
        depth = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) * 40
        container.mux(stream.encode(av.VideoFrame.from_ndarray(depth, format="gray16le")))
        container.mux(stream.encode(None))
    with pytest.raises(DatasetError, match="one channel of 16 bits, as depth has, which RGB cannot hold"):
        decode_mp4(tmp_path / "v.mkv")


def test_a_file_with_two_videos_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(STORED, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    with pytest.raises(DatasetError, match="expected one video, got 2 videos"):
        decode_mp4(tmp_path / "v.mp4")


def test_a_codec_that_nobody_knows_is_named(tmp_path: Path) -> None:
    data = encode_mp4([STORED] * 3, 30, H264)
    (tmp_path / "v.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(DatasetError, match=r"v\.mp4: there is no decoder for its codec"):
        decode_mp4(tmp_path / "v.mp4")


def test_a_size_that_changes_is_refused(tmp_path: Path) -> None:
    """Two recordings behind each other in a stream that allows it."""
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuvj420p"
        for number, size in enumerate([(32, 48), (16, 24)]):
            encoder: Any = av.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width, encoder.pix_fmt = *size, "yuvj420p"
            encoder.time_base = Fraction(1, 30)
            frame = av.VideoFrame.from_ndarray(STORED[: size[0], : size[1]], format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            for packet in [*encoder.encode(frame), *encoder.encode(None)]:
                packet.stream, packet.pts, packet.dts = stream, number * 33, number * 33
                packet.time_base = Fraction(1, 1000)
                container.mux(packet)
    with pytest.raises(DatasetError, match=r"frame 1 has the shape \(16, 24, 3\), those before it \(32, 48, 3\)"):
        decode_mp4(tmp_path / "v.mkv")


def test_times_are_those_of_the_index(tmp_path: Path) -> None:
    """A video that begins late, and has a hole."""
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 30)
        for number in (15, 16, 17, 30, 31):
            frame = av.VideoFrame.from_ndarray(STORED, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    times = frame_times(tmp_path / "v.mp4")
    np.testing.assert_allclose(np.diff(times) * 30, [1, 1, 13, 1], atol=1e-3)
    assert len(decode_mp4(tmp_path / "v.mp4")) == 5
