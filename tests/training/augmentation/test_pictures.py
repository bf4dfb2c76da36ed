"""Augmentation: pictures change, labels that live in them move along, and everything else stays."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vla.core.contract import Dimension
from vla.models.trunk.inputs import Inputs, Targets
from vla.training.augmentation.config import AugmentationConfig
from vla.training.augmentation.pictures import Augmentation, crop_images, shift_images

CAMERAS = ("front", "wrist")
B, T, HEIGHT, WIDTH = 5, 2, 24, 32


def _point(camera: str, thing: str) -> list[Dimension]:
    names = [f"{camera}.{thing}.{axis}" for axis in ("row", "column")]
    return [Dimension(name=name, unit="image", low=-1.0, high=1.0) for name in names]


SIGNALS = {
    "grounding": tuple(Dimension(name=n, unit="m", low=-1.0, high=1.0) for n in "xy"),
    "pointing": (*_point("wrist", "spot"), Dimension(name="z", unit="m", low=-1.0, high=1.0), *_point("front", "spot")),
}
SAID = {"put each block on the plate of its own colour": [1, 1, 1, 1], "lift the red block": [2, 3, 4, 0]}
ENTRIES = {"front": [3, 4], "wrist": [0, 1]}


def _augmentation(**config: Any) -> Augmentation:
    return Augmentation(AugmentationConfig(**config), SIGNALS, CAMERAS, SAID)


def _batch(seed: int) -> tuple[Inputs, Targets]:
    """A white spot of 3 by 3 pixels in each picture, at the place that the signal names."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (B, T, 2, HEIGHT, WIDTH, 3), generator=random, dtype=torch.uint8)
    pointing = torch.rand(B, 5, generator=random)
    for b in range(B):
        for n, camera in enumerate(CAMERAS):
            row = int(torch.randint(9, HEIGHT - 9, (), generator=random))
            column = int(torch.randint(9, WIDTH - 9, (), generator=random))
            images[b, :, n, row - 1 : row + 2, column - 1 : column + 2] = 255
            pointing[b, ENTRIES[camera]] = torch.tensor([(2 * row + 1) / HEIGHT - 1, (2 * column + 1) / WIDTH - 1])
    inputs = Inputs(
        images=images,
        camera_valid=torch.ones(B, 2, dtype=torch.bool),
        state=torch.rand(B, T, 3, generator=random),
        state_valid=torch.ones(B, 3, dtype=torch.bool),
        observed=torch.ones(B, T, dtype=torch.bool),
        text=torch.ones(B, 4, dtype=torch.long),
        text_valid=torch.ones(B, 4, dtype=torch.bool),
        embodiment=torch.zeros(B, dtype=torch.long),
    )
    targets = Targets(
        actions=torch.rand(B, 3, 2, generator=random),
        valid=torch.ones(B, 3, 2, dtype=torch.bool),
        signals={"grounding": torch.rand(B, 2, generator=random), "pointing": pointing},
    )
    return inputs, targets


def _spots(images: Tensor) -> Tensor:
    """The centre of what is white (b, t, n, 2), where the image goes from -1 to 1."""
    white = (images.amin(dim=-1) == 255).double()  # (b, t, n, y, x)
    assert (white.sum(dim=(3, 4)) > 0).all()
    rows = (2 * torch.arange(HEIGHT) + 1) / HEIGHT - 1
    columns = (2 * torch.arange(WIDTH) + 1) / WIDTH - 1
    total = white.sum(dim=(3, 4))
    return torch.stack(
        [
            (white * rows[:, None]).sum(dim=(3, 4)) / total,
            (white * columns).sum(dim=(3, 4)) / total,
        ],
        dim=-1,
    )


@given(shift=st.floats(0.05, 0.25), seed=st.integers(0, 99))
def test_labels_move_with_their_images(shift: float, seed: int) -> None:
    torch.manual_seed(seed)
    inputs, targets = _batch(seed)
    moved, labels = _augmentation(shift=shift)(inputs, targets)
    spots = _spots(moved.images)
    for n, camera in enumerate(CAMERAS):
        said = labels.signals["pointing"][:, ENTRIES[camera]]
        for t in range(T):  # all observations of a sample alike
            torch.testing.assert_close(spots[:, t, n].float(), said, atol=1e-5, rtol=0)
    reach = torch.tensor([int(shift * HEIGHT) * 2 / HEIGHT, int(shift * WIDTH) * 2 / WIDTH])
    way = (spots - _spots(inputs.images)).abs().amax(dim=(0, 1, 2))
    assert (way <= reach + 1e-6).all()
    torch.testing.assert_close(labels.signals["pointing"][:, 2], targets.signals["pointing"][:, 2])
    assert torch.equal(labels.signals["grounding"], targets.signals["grounding"])
    assert torch.equal(labels.actions, targets.actions)


def test_cameras_and_samples_move_on_their_own() -> None:
    torch.manual_seed(0)
    inputs, targets = _batch(0)
    moved, _ = _augmentation(shift=0.2)(inputs, targets)
    ways = _spots(moved.images)[:, 0] - _spots(inputs.images)[:, 0]  # (b, n, 2)
    assert len(ways.flatten(0, 1).unique(dim=0)) > 5


def test_every_shift_within_reach_is_drawn() -> None:
    torch.manual_seed(0)
    inputs, targets = _batch(0)
    found = set()
    for _ in range(60):
        moved, _ = _augmentation(shift=2.2 / HEIGHT)(inputs, targets)
        ways = (_spots(moved.images) - _spots(inputs.images))[..., 0] * HEIGHT / 2
        found |= set(ways.round().int().flatten().tolist())
    assert found == {-2, -1, 0, 1, 2}


@given(rows=st.integers(-HEIGHT - 1, HEIGHT + 1), columns=st.integers(-WIDTH - 1, WIDTH + 1), seed=st.integers(0, 9))
def test_a_shift_repeats_the_border(rows: int, columns: int, seed: int) -> None:
    images = _batch(seed)[0].images[:1, :, :1]
    moved = shift_images(images, torch.tensor([[[rows, columns]]]))
    for y in range(0, HEIGHT, 5):
        for x in range(0, WIDTH, 5):
            source = images[0, :, 0, min(max(y - rows, 0), HEIGHT - 1), min(max(x - columns, 0), WIDTH - 1)]
            assert torch.equal(moved[0, :, 0, y, x], source)


def test_channels_are_exchanged_where_no_colour_is_named_and_in_all_pictures_alike() -> None:
    inputs, targets = _batch(0)
    named = torch.tensor([2, 3, 4, 0])
    inputs = replace(inputs, text=torch.where((torch.arange(B) == 1)[:, None], named, inputs.text))
    augmentation, found = _augmentation(channels=1.0, colours=("red", "blue")), set()
    for seed in range(20):
        torch.manual_seed(seed)
        changed, labels = augmentation(inputs, targets)
        assert labels.signals.keys() == targets.signals.keys()
        for b in range(B):
            orders = [
                order for order in permutations(range(3)) if torch.equal(changed.images[b], _in(inputs, b, order))
            ]
            assert len(orders) == 1
            assert b != 1 or orders == [(0, 1, 2)]
            found.add(orders[0])
    assert len(found) == 6


def _in(inputs: Inputs, b: int, order: tuple[int, ...]) -> Tensor:
    return inputs.images[b][..., list(order)]


def test_a_share_of_all_is_exchanged() -> None:
    torch.manual_seed(0)
    inputs, targets = _batch(0)
    augmentation, changed = _augmentation(channels=0.3, colours=("red",)), 0
    for _ in range(40):
        images = augmentation(inputs, targets)[0].images
        changed += int((images != inputs.images).flatten(1).any(dim=1).sum())
    assert 0.15 < changed / (40 * B) < 0.35  # one exchange in six changes nothing


def test_nothing_changes_at_zero() -> None:
    inputs, targets = _batch(0)
    state = torch.get_rng_state()
    same, labels = _augmentation()(inputs, targets)
    assert torch.equal(same.images, inputs.images)
    assert labels.signals.keys() == targets.signals.keys()
    assert all(torch.equal(labels.signals[name], signal) for name, signal in targets.signals.items())
    assert torch.equal(torch.get_rng_state(), state)  # nor does it draw


@pytest.mark.parametrize("config", [{"brightness": 0.3}, {"contrast": 0.5}, {"brightness": 0.2, "contrast": 0.2}])
def test_recolouring_keeps_labels(config: dict[str, float]) -> None:
    torch.manual_seed(0)
    inputs, targets = _batch(0)
    changed, labels = _augmentation(**config)(inputs, targets)
    assert (changed.images != inputs.images).flatten(3).any(dim=-1).all()
    assert changed.images.dtype == torch.uint8
    assert all(torch.equal(labels.signals[name], signal) for name, signal in targets.signals.items())
    given = {name: value for name, value in vars(inputs).items() if value is not None}
    unlike = {name for name, value in given.items() if not torch.equal(getattr(changed, name), value)}
    assert unlike == {"images"}


def test_recolouring_is_linear_where_nothing_is_cut_off() -> None:
    """Brightness adds, contrast stretches around the mean; by how much is one draw for a sample and camera."""
    torch.manual_seed(0)
    inputs, targets = _batch(0)
    images = inputs.images // 4 + 100  # far from both ends
    brighter, _ = _augmentation(brightness=0.2)(replace(inputs, images=images), targets)
    added = (brighter.images.int() - images.int()).flatten(3)
    assert (added.amax(dim=-1) - added.amin(dim=-1) <= 1).all()
    assert (added.abs() <= 0.2 * 255 + 1).all()
    assert torch.equal(added[:, 0].amin(dim=-1), added[:, 1].amin(dim=-1))
    stronger, _ = _augmentation(contrast=0.5)(replace(inputs, images=images), targets)
    before, after = (p.double().flatten(3) for p in (images, stronger.images))
    torch.testing.assert_close(after.mean(dim=-1), before.mean(dim=-1), atol=0.5, rtol=0)
    ratio = after.std(dim=-1) / before.std(dim=-1)
    assert ((ratio > 0.45) & (ratio < 1.55)).all()
    assert ratio.std() > 0.05


def test_a_seed_repeats_it() -> None:
    inputs, targets = _batch(0)
    augment = _augmentation(shift=0.2, brightness=0.2, contrast=0.2)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(augment(inputs, targets)[0].images)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_labels_of_unseen_things_stay_unknown() -> None:
    inputs, targets = _batch(0)
    unknown = replace(targets, signals={name: torch.full_like(s, torch.nan) for name, s in targets.signals.items()})
    _, labels = _augmentation(shift=0.2)(inputs, unknown)
    assert all(signal.isnan().all() for signal in labels.signals.values())


def _ramps() -> Tensor:
    """Pictures whose red says the row and whose green says the column, from -1 to 1."""
    rows, columns = ((2 * torch.arange(k) + 1) / k - 1 for k in (HEIGHT, WIDTH))
    red, green = torch.broadcast_tensors(rows[:, None], columns[None])
    picture = torch.stack([red, green, torch.zeros_like(red)], dim=-1)
    return ((picture + 1) * 127.5).round().to(torch.uint8).expand(B, T, 2, HEIGHT, WIDTH, 3)


@settings(max_examples=20)
@given(crop=st.floats(0.05, 0.6), seed=st.integers(0, 99))
def test_labels_stay_on_what_they_name_in_a_crop(crop: float, seed: int) -> None:
    torch.manual_seed(seed)
    inputs, targets = _batch(seed)
    seen, labels = _augmentation(crop=crop)(replace(inputs, images=_ramps()), targets)
    for n, camera in enumerate(CAMERAS):
        before, after = (t.signals["pointing"][:, ENTRIES[camera]] for t in (targets, labels))
        assert not torch.equal(before, after)
        for b in range(B):
            if after[b].abs().max() > 1 - 2 / HEIGHT:
                continue  # it has left the picture
            y, x = (int((value + 1) / 2 * k) for value, k in zip(after[b].tolist(), (HEIGHT, WIDTH), strict=True))
            said = seen.images[b, :, n, y, x, :2].float() / 127.5 - 1
            torch.testing.assert_close(said, before[b].expand(T, 2), atol=2.5 / HEIGHT, rtol=0)
    assert torch.equal(labels.signals["grounding"], targets.signals["grounding"])


def test_a_crop_of_everything_is_the_picture() -> None:
    inputs, _ = _batch(0)
    same = crop_images(inputs.images, torch.zeros(B, 2, 2), torch.ones(B, 2, 2))
    assert torch.equal(same, inputs.images)


def test_saturation_leaves_grey_alone_and_changes_colours() -> None:
    torch.manual_seed(0)
    inputs, targets = _batch(0)
    grey = replace(inputs, images=inputs.images[..., :1].expand_as(inputs.images))
    assert torch.equal(_augmentation(saturation=0.9)(grey, targets)[0].images, grey.images)
    changed, _ = _augmentation(saturation=0.9)(inputs, targets)
    assert not torch.equal(changed.images, inputs.images)
    means = [images.float().mean(dim=-1) for images in (inputs.images, changed.images)]
    torch.testing.assert_close(*means, atol=30, rtol=0)
