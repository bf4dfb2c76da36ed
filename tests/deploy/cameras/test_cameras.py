"""Cameras give their newest frame with its age, never wait, and say what is wrong with them."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vla.core.contract import Camera as Described
from vla.core.errors import ConfigError, RobotError
from vla.deploy.cameras.shared import SharedCamera, SharedFrames
from vla.deploy.cameras.sources import CameraConfig, described, fitted, open_camera
from vla.deploy.cameras.threaded import ThreadedCamera

cv2 = pytest.importorskip("cv2", reason="needs the extra robot")


class Counting:
    """Pictures whose brightness is their number, one each 10 ms."""

    def __init__(self, last: int = 200, hangs_s: float = 0.0) -> None:
        self.number, self._last, self._hangs_s, self.closed = 0, last, hangs_s, False

    def take(self) -> np.ndarray:
        time.sleep(0.01)
        if self.number >= self._last:
            time.sleep(self._hangs_s)
            if not self._hangs_s:
                raise OSError("pulled out")
        self.number += 1
        return np.full((4, 4, 3), self.number, np.uint8)

    def close(self) -> None:
        self.closed = True


def test_the_newest_frame_is_there_without_waiting() -> None:
    source = Counting()
    camera = ThreadedCamera("eye", lambda: source, most_s=5.0)
    time.sleep(0.3)
    began = time.monotonic()
    frame = camera.latest()
    assert time.monotonic() - began < 0.1
    assert frame.image[0, 0, 0] > 3
    camera.close()
    assert source.closed


@pytest.mark.parametrize(("hangs_s", "message"), [(0.0, "pulled out"), (0.6, "more than the 0.2 s allowed")])
def test_one_that_stops_is_an_error_when_its_frame_is_too_old(hangs_s: float, message: str) -> None:
    camera = ThreadedCamera("eye", lambda: Counting(last=3, hangs_s=hangs_s), most_s=0.2)
    time.sleep(0.45)
    with pytest.raises(RobotError, match=rf"camera eye: its newest frame is .*{message}"):
        camera.latest()
    camera.close()


def test_one_that_cannot_be_opened_says_why() -> None:
    def fails() -> Counting:
        raise RobotError("nobody home")

    with pytest.raises(RobotError, match="camera eye: nobody home"):
        ThreadedCamera("eye", fails)
    for kind, message in (("opencv", "cannot be opened"), ("files", "neither a folder of pictures nor a video")):
        with pytest.raises(RobotError, match=message):
            open_camera("eye", CameraConfig(kind=kind, source="/nowhere/video.avi"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i, colour in enumerate([(255, 0, 0), (0, 255, 0)]):  # BGR: blue, then green
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((20, 40, 3), colour, np.uint8))
    return tmp_path


def test_a_folder_of_pictures_is_shown_over_and_over(pictures: Path) -> None:
    config = CameraConfig(kind="files", source=str(pictures), height=10, width=8, hz=50.0, most_s=5.0)
    camera = open_camera("eye", config)
    seen, deadline = set(), time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < deadline:
        image = camera.latest().image
        assert image.shape == described("eye", config).shape == (10, 8, 3)
        seen.add(tuple(image[5, 4].tolist()))
        time.sleep(0.005)
    camera.close()
    assert seen == {(0, 0, 255), (0, 255, 0)}  # RGB


@pytest.mark.parametrize("kind", ["files", "opencv"])
def test_a_video_is_shown(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 30, (32, 16))
    for value in (50, 100, 150):
        writer.write(np.full((16, 32, 3), value, np.uint8))
    writer.release()
    camera = open_camera("eye", CameraConfig(kind=kind, source=path, height=8, width=16, hz=100.0, most_s=60.0))
    assert camera.latest().image.shape == (8, 16, 3)
    assert 30 < camera.latest().image.mean() < 170
    camera.close()


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(RobotError, match="holds no pictures"):
        open_camera("eye", CameraConfig(kind="files", source=str(tmp_path)))


def test_pictures_are_cut_in_the_middle_and_scaled() -> None:
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 15:25] = 200  # the middle square
    assert (fitted(image, 5, 5) == 200).all()
    assert fitted(image, 20, 20).shape == (20, 20, 3)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        CameraConfig(hz=0.0)


CAMERAS = (Described(name="front", height=60, width=50), Described(name="wrist", height=3, width=3))


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("frames")
    yield descriptor
    os.close(descriptor)


def test_what_one_writes_the_other_reads(memory: int) -> None:
    here, there = SharedFrames(CAMERAS, memory), SharedFrames(CAMERAS, memory)
    assert there.read("front") is None
    image = np.random.default_rng(0).integers(0, 255, (60, 50, 3), np.uint8)
    here.write("front", image, 42)
    found = there.read("front")
    assert found is not None
    np.testing.assert_array_equal(found.image, image)
    assert found.time_ns == 42
    assert there.read("wrist") is None


def test_no_frame_is_half_of_one_and_half_of_another(memory: int) -> None:
    here, there = SharedFrames(CAMERAS, memory), SharedFrames(CAMERAS, memory)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            here.write("front", np.full((60, 50, 3), number % 251, np.uint8), number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        torn = times = 0
        for _ in range(2000):
            frame = there.read("front")
            if frame is not None:
                times += 1
                torn += not (frame.image == frame.time_ns % 251).all()
    finally:
        stop.set()
        writer.join()
    assert (times > 1000, torn) == (True, 0)


def test_an_old_frame_and_a_half_written_one_are_errors(memory: int) -> None:
    frames = SharedFrames(CAMERAS, memory)
    camera = SharedCamera("front", frames, most_s=0.1)
    with pytest.raises(RobotError, match="no frame yet"):
        camera.latest()
    frames.write("front", np.zeros((60, 50, 3), np.uint8), time.monotonic_ns() - 10**9)
    with pytest.raises(RobotError, match=r"its newest frame is 1\.\d+ s old"):
        camera.latest()
    frames._heads["front"][0] += 1  # its writer died in the middle
    with pytest.raises(RobotError, match="did its process die"):
        camera.latest()
