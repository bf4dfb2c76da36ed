import io

import numpy as np
import pytest
from PIL import Image

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.report.episode import frames
from vla.report.episode.frames import UNMEASURED_RGB, frame_of_step, make_films, require_fit

STATE = (Dimension(name="x", unit="m", low=0.0, high=1.0),)


def episode(steps: int, images: dict[str, np.ndarray], **changes) -> Episode:
    time_ns = np.arange(steps, dtype=np.int64) * 100_000_000
    zeros = np.zeros((steps, 1), np.float32)
    base = {"state": zeros, "action": zeros, "action_executed": zeros}
    base |= {"reward": zeros[:, 0], "done": zeros[:, 0] > 0, "valid": zeros[:, 0] == 0, "time_ns": time_ns}
    base |= {"command_time_ns": time_ns, "instruction": "go", "task": "t", "split": "train", "seed": 0, "success": None}
    return Episode(**{**base, "images": images, **changes})


def contract(*cameras: Camera) -> Contract:
    return Contract(robot="arm", cameras=cameras, state=STATE, action=STATE, control_hz=10.0)


def shaded(count: int, height: int = 12, width: int = 16) -> np.ndarray:
    """Frames whose brightness is their number."""
    levels = (np.arange(count) * 255 // max(1, count - 1)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def level(picture: bytes) -> float:
    with Image.open(io.BytesIO(picture)) as image:
        return float(np.asarray(image).mean())


def test_each_step_shows_its_own_frame():
    images = shaded(20)
    (film,), every = make_films(episode(20, {"front": images}), contract(Camera(name="front", height=12, width=16)))
    assert every == 1
    assert film.of_step.tolist() == list(range(20))
    for step in range(20):
        assert level(film.pictures[film.of_step[step]]) == pytest.approx(float(images[step, 0, 0, 0]), abs=2)


def test_a_camera_with_its_own_clock_shows_the_latest_frame_not_after_the_step():
    clock = np.array([-5, 40, 100, 101, 260], np.int64) * 1_000_000
    value = episode(4, {"front": shaded(5)}, image_time_ns={"front": clock})
    assert frame_of_step(value, "front").tolist() == [0, 2, 3, 4]
    (film,), _ = make_films(value, contract(Camera(name="front", height=12, width=16, hz=12.0)))
    assert len(film.pictures) == 4  # frame 1 is the latest at no step
    assert film.time_ns.tolist() == [clock[i] for i in (0, 2, 3, 4)]
    assert level(film.pictures[film.of_step[2]]) == pytest.approx(3 * 255 // 4, abs=2)


@pytest.mark.parametrize(
    ("clock", "message"),
    [(np.array([1, 2, 3], np.int64), "beginning 1 ns after it"), (np.array([0, 1], np.int64), "got 2"), (None, "3")],
)
def test_a_clock_that_cannot_be_is_refused(clock, message):
    value = episode(2, {"front": shaded(3)}, image_time_ns={} if clock is None else {"front": clock})
    with pytest.raises(DatasetError, match=f"camera 'front'.*{message}"):
        frame_of_step(value, "front")


def test_long_episodes_are_thinned_and_hold_the_last_frame(monkeypatch):
    monkeypatch.setattr(frames, "MAX_FRAMES", 8)
    (film,), every = make_films(episode(20, {"front": shaded(20)}), contract(Camera(name="front", height=12, width=16)))
    assert every == 3
    assert film.of_step.tolist() == [step // 3 for step in range(20)]
    assert len(film.pictures) == 7
    assert film.time_ns.tolist() == [step * 100_000_000 for step in range(0, 20, 3)]


def test_large_pictures_are_thinned_to_the_limit(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 40, 3), np.uint8)
    camera = contract(Camera(name="front", height=40, width=40))
    whole = sum(len(p) for p in make_films(episode(30, {"front": noise}), camera)[0][0].pictures)
    monkeypatch.setattr(frames, "MAX_BYTES", whole // 4)
    (film,), every = make_films(episode(30, {"front": noise}), camera)
    assert every >= 4
    assert sum(map(len, film.pictures)) < whole / 3


def test_wide_frames_are_scaled_down_in_proportion():
    wide = shaded(2, 300, 1200)
    (film,), _ = make_films(episode(2, {"front": wide}), contract(Camera(name="front", height=300, width=1200)))
    assert (film.width, film.height) == (480, 120)
    with Image.open(io.BytesIO(film.pictures[0])) as image:
        assert image.size == (480, 120)


def test_depth_keeps_its_distances_to_one_colour():
    rng = np.random.default_rng(0)
    depth_mm = rng.integers(500, 2500, (3, 20, 30, 1)).astype(np.uint16)
    depth_mm[:, :4] = 0
    camera = Camera(name="depth", height=20, width=30, kind="depth")
    (film,), _ = make_films(episode(3, {"depth": depth_mm}), contract(camera))
    assert film.mime == "image/png"
    assert 0.5 <= film.near_m < film.far_m <= 2.5
    assert len(film.colours) == 255
    for step in range(3):
        with Image.open(io.BytesIO(film.pictures[step])) as image:
            numbers, pixels = np.asarray(image), np.asarray(image.convert("RGB"))
        assert (pixels[:4] == UNMEASURED_RGB).all()
        numbers, pixels = numbers[4:].astype(int) - 1, pixels[4:]
        np.testing.assert_array_equal(pixels, np.array(film.colours)[numbers])
        read_m = film.near_m + numbers / 254 * (film.far_m - film.near_m)
        expected_m = np.clip(depth_mm[step, 4:, :, 0] / 1000, film.near_m, film.far_m)
        np.testing.assert_allclose(read_m, expected_m, atol=(film.far_m - film.near_m) / 254 / 2 + 1e-6)


def test_depth_that_measured_nothing_is_drawn():
    camera = Camera(name="depth", height=4, width=4, kind="depth")
    (film,), _ = make_films(episode(2, {"depth": np.zeros((2, 4, 4, 1), np.uint16)}), contract(camera))
    with Image.open(io.BytesIO(film.pictures[0])) as image:
        assert (np.asarray(image.convert("RGB")) == UNMEASURED_RGB).all()


def test_an_episode_of_another_contract_is_refused():
    camera = contract(Camera(name="front", height=12, width=16))
    with pytest.raises(DatasetError, match=r"cameras \['front'\], got \['side'\]"):
        require_fit(episode(2, {"side": shaded(2)}), camera)
    with pytest.raises(DatasetError, match="no steps"):
        require_fit(episode(0, {"front": shaded(0)}), camera)
    with pytest.raises(DatasetError, match="state: expected 1 dimensions, got 3"):
        require_fit(episode(2, {"front": shaded(2)}, state=np.zeros((2, 3), np.float32)), camera)
