"""Videos: RGB frames to mp4 and back, frame by frame, counted in integers.

A frame is named by its number in the order of showing. Times in seconds are never summed: encoders write a constant
rate, and readers count the frames that the index of the file names, whatever codec, frame order or gaps it has.
"""

import io
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from vla.core.errors import DatasetError, VlaError
from vla.core.machine.priorities import kept_priorities
from vla.core.media.display import display_matrix, display_note, shown
from vla.core.media.signatures import cause_of, reading

Rate = float | int | Fraction
"""Frames in a second."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A codec and how to drive it."""

    codec: str
    """FFmpeg's name of the encoder."""
    options: Mapping[str, str] = field(default_factory=dict)
    pixel_format: str = "yuv420p"
    even: bool = True
    """The codec refuses an odd height or width."""
    smallest: int = 2
    """Pixels of the shortest side that the codec takes."""


H264 = Encoding(codec="libx264", options={"crf": "20"})
"""What every browser plays."""

AV1 = Encoding(
    codec="libsvtav1",
    options={"g": "2", "crf": "30", "preset": "8", "svtav1-params": "fast-decode=0:lp=2"},
    even=False,
    smallest=4,
)
"""LeRobot's settings: a key frame every second frame, for random access."""


def frame_rate(hz: Rate) -> Fraction:
    """A rate as an exact ratio: 29.97 frames a second as written, 29.97002997 as the 30000/1001 that it means."""
    if isinstance(hz, Fraction):
        return hz
    if not (np.isfinite(hz) and hz > 0):
        raise VlaError(f"frame rate: expected a positive number of frames in a second, got {hz}")
    return Fraction(hz).limit_denominator(1001)


def encode_mp4(frames: Iterable[UInt8[np.ndarray, "y x 3"]], hz: Rate, encoding: Encoding = H264) -> bytes:
    """The bytes of an mp4 file, as `write_mp4` writes it."""
    with tempfile.TemporaryDirectory() as folder:  # moving the index to the front reads the file back
        path = Path(folder) / "video.mp4"
        write_mp4(path, frames, hz, encoding)
        return path.read_bytes()


def write_mp4(path: Path, frames: Iterable[UInt8[np.ndarray, "y x 3"]], hz: Rate, encoding: Encoding = H264) -> None:
    """Write an mp4 file with its index in front, so that it plays while it loads; no frames are a `VlaError`."""
    import av

    rate = frame_rate(hz)
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise VlaError("video: expected at least 1 frame, got none")
    _require_encodable(first.shape, encoding)
    # SVT-AV1 greets on stderr at each start; 1 leaves it its errors.
    os.environ.setdefault("SVT_LOG", "1")
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream(encoding.codec, rate=rate, options=dict(encoding.options))
        stream.height, stream.width, stream.pix_fmt = first.shape[0], first.shape[1], encoding.pixel_format
        with kept_priorities():
            stream.codec_context.open()
        for pixels in itertools.chain([first], rest):
            if pixels.shape != first.shape or pixels.dtype != np.uint8:
                raise VlaError(f"video: expected uint8 frames {first.shape}, got {pixels.dtype} {pixels.shape}")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


def _require_encodable(shape: tuple[int, ...], encoding: Encoding) -> None:
    if len(shape) != 3 or shape[2] != 3:
        raise VlaError(f"video: expected frames (y, x, 3), got {shape}")
    height, width = shape[:2]
    if encoding.even and (height % 2 or width % 2):
        raise VlaError(
            f"video: {encoding.codec} needs an even height and width, got {height}x{width}; crop or scale first"
        )
    if min(height, width) < encoding.smallest:
        raise VlaError(
            f"video: {encoding.codec} needs at least {encoding.smallest} pixels a side, got {height}x{width}; "
            "scale first, or store images"
        )


_REORDERING = 16
"""Frames that H.264 and H.265 may be decoded before they are shown; AV1 has none in its packets."""


class VideoJoiner:
    """Joins mp4 files of one rate, size and encoding into one, without encoding again.

    Each part starts where the last frame before it ends, counted in frames. The file is complete after `close`, or at
    the end of a ``with`` block.
    """

    def __init__(self, path: Path, hz: Rate) -> None:
        """Create ``path``."""
        import av

        self._rate = frame_rate(hz)
        self._container = av.open(str(path), "w", format="mp4")
        self._stream: Any = None
        self.frames = 0
        """Frames that were appended."""
        self.bytes = 0
        """Of the packets that were appended."""

    def append(self, part: bytes) -> int:
        """Append a whole mp4 file and answer with the number of its frames."""
        import av

        with av.open(io.BytesIO(part), "r") as container:
            source: Any = container.streams.video[0]
            if self._stream is None:
                self._stream = self._container.add_stream_from_template(source, opaque=True)
            ticks = 1 / (self._rate * source.time_base)
            if ticks.denominator != 1:
                raise VlaError(f"video: a part has {source.average_rate} frames a second, expected {self._rate}")
            delay = 0 if source.codec_context.codec.canonical_name == "av1" else _REORDERING
            count = 0
            for packet in container.demux(source):
                if packet.pts is None:
                    continue  # the mark of the end
                self.bytes += packet.size
                packet.pts += self.frames * int(ticks)
                # Short parts need less delay for reordering than long ones: counted anew, decoding times rise.
                packet.dts = (self.frames + count - delay) * int(ticks)
                packet.stream = self._stream
                self._container.mux(packet)
                count += 1
        self.frames += count
        return count

    def close(self) -> None:
        """Write the index: without it the file cannot be read."""
        if self._stream is not None:  # a container without streams has no index to write
            self._container.close()

    def __enter__(self) -> "VideoJoiner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame_count(path: Path) -> int:
    """How many frames the file holds, from its index; a missing or damaged file is a `DatasetError`."""
    return len(_index(path).frames)


def frame_times(path: Path) -> Float64[np.ndarray, " f"]:
    """When each frame is shown, in seconds, as the index says it: not from 0 on where the file begins later."""
    index = _index(path)
    ticks = np.array([frame.pts for frame in index.frames], np.int64)
    return ticks * index.time_base.numerator / index.time_base.denominator


def turned(path: Path) -> str | None:
    """What the file's display matrix does to its frames, in words; None where they are shown as they are stored."""
    for _, frame in _decode_from(path, _index(path), 0):
        return display_note(display_matrix(frame, str(path)))
    return None


def decode_mp4(path: Path, numbers: Sequence[int] | None = None) -> UInt8[np.ndarray, "f y x 3"]:
    """The frames with these rising numbers, or all, as players show them: turned by the display matrix.

    Damage, frames that are not there, and frames that 8 bits of RGB cannot hold are a `DatasetError`.
    """
    index = _index(path)
    wanted = list(range(len(index.frames))) if numbers is None else list(numbers)
    if any(b <= a for a, b in itertools.pairwise(wanted)):
        raise VlaError("decode_mp4: expected rising frame numbers")
    if not wanted:
        raise VlaError("decode_mp4: expected at least 1 frame number, got none")
    if wanted[0] < 0 or wanted[-1] >= len(index.frames):
        raise DatasetError(
            f"{path}: expected frames {wanted[0]} to {wanted[-1]}, the video has {len(index.frames)}; "
            "it was cut short, or does not belong to this episode: copy it again"
        )
    frames: np.ndarray | None = None
    row = 0
    for number, frame in _decode_from(path, index, wanted[0]):
        if number != wanted[row]:
            continue
        pixels = _pixels(frame, f"{path}: frame {number}")
        if frames is None:
            frames = np.empty((len(wanted), *pixels.shape), np.uint8)
        if pixels.shape != frames.shape[1:]:
            raise DatasetError(
                f"{path}: frame {number} has the shape {pixels.shape}, those before it {frames.shape[1:]}; "
                "a camera has one size: write the video again"
            )
        frames[row] = pixels
        row += 1
        if row == len(wanted):
            return frames
    raise DatasetError(f"{path}: frame {wanted[row]} cannot be decoded; the video is damaged: copy it again")


def _pixels(frame: Any, where: str) -> UInt8[np.ndarray, "y x 3"]:
    """RGB, by the range and the colour space that the video names."""
    components = frame.format.components
    if len(components) == 1 and components[0].bits > 8:
        raise DatasetError(
            f"{where} has one channel of {components[0].bits} bits, as depth has, which RGB cannot hold; "
            "leave the camera out, or store the frames as 16-bit PNG in mm"
        )
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    return shown(pixels, display_matrix(frame, where))


@dataclass(frozen=True)
class _Packet:
    """Where one frame lies, in ticks of the stream."""

    pts: int
    dts: int
    key: bool


@dataclass(frozen=True)
class _Index:
    """Every frame in the order of showing."""

    frames: tuple[_Packet, ...]
    time_base: Fraction
    """Seconds of a tick."""


def _index(path: Path) -> _Index:
    try:
        status = path.stat()
    except OSError:
        raise DatasetError(f"{path}: the video is missing; {cause_of(path, 'a video')}") from None
    return _read_index(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_index(path: Path, size: int, changed_ns: int) -> _Index:
    """Size and time are there so that a changed file is read again."""
    import av

    with reading(path, "a video", av.error.FFmpegError), av.open(str(path)) as container:
        stream = _stream(container, path)
        promised = stream.frames
        packets = [
            _Packet(packet.pts, packet.dts if packet.dts is not None else packet.pts, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.pts is not None and not packet.is_discard
        ]
        time_base = Fraction(stream.time_base)
    if promised > len(packets):
        raise DatasetError(
            f"{path}: the index names {promised} frames, the file holds {len(packets)}; "
            "it is cut short: copy it again, or record the episode again"
        )
    if not packets:
        raise DatasetError(f"{path}: the video has no frames; record the episode again, or leave it out")
    frames = tuple(sorted(packets, key=lambda packet: packet.pts))
    twice = next((a.pts for a, b in itertools.pairwise(frames) if a.pts == b.pts), None)
    if twice is not None:
        raise DatasetError(
            f"{path}: two frames are shown at {float(twice * time_base):g} s; write the video again with rising times"
        )
    return _Index(frames=frames, time_base=time_base)


def _stream(container: Any, path: Path) -> Any:
    """The one video of a file, covers aside; none, several, and one that nobody can decode are a `DatasetError`."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if len(streams) != 1:
        found = f"{len(streams)} videos" if streams else "a file without pictures"
        raise DatasetError(f"{path}: expected one video, got {found}; write one camera in each file")
    if streams[0].codec_context is None:
        raise DatasetError(f"{path}: there is no decoder for its codec; write it again as H.264 or AV1")
    return streams[0]


def _decode_from(path: Path, index: _Index, first: int) -> Iterator[tuple[int, Any]]:
    """Frames with their numbers, from the last key frame not after ``first``."""
    import av

    numbers = {packet.pts: number for number, packet in enumerate(index.frames)}
    start = max((number for number in range(first + 1) if index.frames[number].key), default=0)
    with reading(path, "a video", av.error.FFmpegError), av.open(str(path)) as container:
        stream = _stream(container, path)
        stream.thread_type = "AUTO"
        if start:
            container.seek(index.frames[start].dts, stream=stream)
        for frame in container.decode(stream):
            number = numbers.get(frame.pts)
            if number is None:
                continue  # outside the edit list
            if frame.is_corrupt:
                raise DatasetError(f"{path}: frame {number} is damaged; copy the video again")
            if number >= first:
                yield number, frame
