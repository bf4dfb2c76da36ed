"""The learned codec: what every codec promises, what presets look like, and that it learns."""

import time
from typing import Any

import pytest
import torch

from tests.models.pictures.scenes import pictures, scenes
from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError
from vla.models.pictures.checker import check_image_codec
from vla.models.pictures.codec import ImageCodec
from vla.models.pictures.config import PRESETS, FsqConfig, NearestConfig, VqConfig
from vla.models.pictures.measures import measure

TINY: dict[str, Any] = {
    "channels": 16, "multipliers": (1, 1), "stem": 4, "latent": 16, "groups": 4, "batch": 16, "lr": 4e-3, "minutes": 5.0
}  # fmt: skip
QUANTISERS = {
    "fsq": FsqConfig(levels=(5, 5, 5, 5)),
    "mean": NearestConfig(codes=256, width=4, patience=10),
    "gradient": NearestConfig(codes=256, width=4, patience=10, codebook="gradient"),
}


def _fit(steps: int, quantiser: str = "fsq", **changes: Any) -> ImageCodec:
    heard: list[float] = []
    config = VqConfig(quantiser=QUANTISERS[quantiser], steps=steps, **(TINY | changes))
    codec = config.fit(pictures(200), lambda fraction, text: heard.append(fraction))
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    return codec


@pytest.mark.parametrize("quantiser", QUANTISERS)
def test_it_keeps_what_every_codec_promises(quantiser: str) -> None:
    codec = _fit(2, quantiser)
    check_image_codec(codec, torch.from_numpy(scenes(4, seed=1)), most_off=255.0)
    assert not any(parameter.requires_grad for parameter in codec.parameters())


@pytest.mark.parametrize("quantiser", ["fsq", "mean"])
def test_it_learns_to_beat_the_mean_picture(quantiser: str) -> None:
    held_out = pictures(40, seed=1)
    cells = {"multipliers": (1,), "channels": 32, "lr": 8e-3, "batch": 8}  # of 4 x 4 pixels: there is little to learn
    before, after = (measure(_fit(steps, quantiser, **cells), held_out) for steps in (1, 40))
    assert after.coded.objects > max(before.coded.objects, after.mean_image.objects) + 1.5
    assert after.used > 10


def test_the_seed_decides_and_the_drawing_of_others_does_not() -> None:
    one = _fit(2).state_dict()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    same, other = _fit(2).state_dict(), _fit(2, seed=1).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.conv_in.weight"], other["encoder.conv_in.weight"])


def test_time_ends_it_too() -> None:
    began = time.monotonic()
    _fit(10**6, minutes=0.01)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("name", "side", "grid", "codes"),
    [
        ("paper", 512, (32, 32), 8192),
        ("seed", 256, (32, 32), 8192),
        ("robot", 64, (8, 8), 1000),
        ("robot", 128, (16, 16), 1000),
    ],
)
def test_presets_have_the_shapes_that_they_are_known_for(
    name: str, side: int, grid: tuple[int, int], codes: int
) -> None:
    PRESETS[name].require((side, side))
    with torch.device("meta"):
        codec = PRESETS[name].config.build_vq((side, side))
        assert (codec.grid, codec.length, codec.size) == (grid, grid[0] * grid[1], codes)
        latents = codec.latents(torch.empty(1, 3, side, side))
        assert latents.shape == (1, codec.length, codec.quantise.width)
        assert codec.pixels(latents).shape == (1, 3, side, side)


def test_a_preset_refuses_other_pictures_with_both_sizes() -> None:
    with pytest.raises(ConfigError, match=r"pictures of 256 pixels a side, and these are 64 x 64"):
        PRESETS["seed"].require((64, 64))
    with pytest.raises(ConfigError, match=r"pictures of 64 to 128 pixels a side, and these are 64 x 129"):
        PRESETS["robot"].require((64, 129))


def test_pictures_need_not_be_square_but_must_be_whole_cells() -> None:
    config = VqConfig(**TINY)
    codec = config.build((16, 24))
    assert codec.grid == (2, 3)
    check_image_codec(codec, torch.from_numpy(scenes(2)[:, :16, :24].copy()), most_off=255.0)
    with pytest.raises(ConfigError, match="cells of 8 x 8 pixels do not fill pictures of 20 x 24"):
        config.build((20, 24))


def test_settings_come_back_from_json() -> None:
    config = VqConfig(quantiser=QUANTISERS["gradient"], **TINY)
    assert from_dict(VqConfig, to_dict(config), where="a test") == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 20}, "channels=20 must be a multiple of groups=8"),
        ({"multipliers": ()}, r"multipliers=\(\): one number"),
        ({"minutes": 0.0}, r"minutes=0\.0 must be positive"),
        ({"objects": 1.0}, r"objects=1\.0 must be between 0 and 1"),
        ({"blocks": 0}, "blocks=0 must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"image codec\.{message}"):
        VqConfig(**settings)
