"""What is kept comes back, within its bound, and damage is told from a crash."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.errors import ServeError, VlaError
from vla.deploy.recording.frames import FrameWriter, read_frames


def write(folder: Path, *values: Any, most_bytes: int = 1 << 20) -> None:
    writer = FrameWriter(folder, most_bytes, lambda: {"first": True})
    for value in values:
        writer.append(value)
    writer.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"a": np.arange(3, dtype=np.float32)}, {"b": "text"})
    write(tmp_path, {"c": 1})
    first, a, b, again, c = read_frames(tmp_path)
    assert (first, b, again, c) == ({"first": True}, {"b": "text"}, {"first": True}, {"c": 1})
    np.testing.assert_array_equal(a["a"], np.arange(3, dtype=np.float32))


def test_the_oldest_goes_when_the_folder_is_full(tmp_path: Path) -> None:
    write(tmp_path, *({"n": n, "data": bytes(500)} for n in range(200)), most_bytes=16_000)
    numbers = [value["n"] for value in read_frames(tmp_path) if "n" in value]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.frames")) <= 16_000
    assert numbers == list(range(numbers[0], 200))
    assert len(numbers) > 15
    assert next(iter(read_frames(tmp_path))) == {"first": True}


def test_a_frame_that_was_cut_short_ends_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, {"n": 1}, {"n": 2})
    (file,) = tmp_path.glob("*.frames")
    file.write_bytes(file.read_bytes()[:-2])
    write(tmp_path, {"n": 3})
    assert [value.get("n") for value in read_frames(tmp_path)] == [None, 1, None, 3]
    assert "cut short" in caplog.text


def test_damage_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"n": 1}, {"n": 2})
    (file,) = tmp_path.glob("*.frames")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ServeError, match="fails a checksum"):
        list(read_frames(tmp_path))
    file.write_bytes(b"something else")
    with pytest.raises(ServeError, match="is no record of this version"):
        list(read_frames(tmp_path))
    with pytest.raises(ServeError, match="holds no record"):
        list(read_frames(tmp_path / "nowhere"))


def test_one_at_a_time(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path, 1000, dict)
    with pytest.raises(VlaError, match="is being written by another process"):
        FrameWriter(tmp_path, 1000, dict)
    writer.close()
    FrameWriter(tmp_path, 1000, dict).close()
