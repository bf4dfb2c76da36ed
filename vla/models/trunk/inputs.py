"""What every model reads and learns from. The page to read first in this folder.

    b batch   t observations, oldest first   n image slots   y x image   s state   h horizon   d action   l text
    f frames of sound   m mel bands

    recorded samples ─┐                                                    ┌─▶ loss        (training)
                      ├─▶ Preprocessor ─▶ Inputs, Targets ─▶ Model ────────┤
    live observations ┘                                                    └─▶ Prediction ─▶ Preprocessor ─▶ ActionChunk

A model sees numbers of about [-1, 1], whatever the robot: `vla.models.preprocessor.Preprocessor` scales states and
actions on the way in and undoes it on the way out. Of several robots, each has the same widths, and masks say what a
robot lacks; what is masked is zero.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

T = TypeVar("T", bound="_OnDevice")

SPAN = 160
"""Frames of sound that batches are a multiple of, 1.6 s: so few shapes exist to be compiled for."""
Metrics = dict[str, Tensor]
"""What to log of a loss: scalars, detached. NaN where nothing was measured, which is left out of means and logs."""


class _OnDevice:
    """A value made of tensors, or of mappings of them, that moves from device to device as one."""

    def to(self: T, device: torch.device) -> T:
        """The same on ``device``; copies from pinned memory do not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: T) -> T:
        """The same in page-locked memory, which `torch.utils.data.DataLoader` calls by this name."""
        return self._each(lambda tensor: tensor.pin_memory())

    def clone(self: T) -> T:
        """The same in memory of its own."""
        return self._each(torch.clone)

    def tensors(self) -> list[Tensor]:
        """All of them, in an order that values of the same structure share."""
        found: list[Tensor] = []

        def kept(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self._each(kept)
        return found

    def __getitem__(self: T, rows: slice | Tensor) -> T:
        """Some samples of the batch, by a slice or by their numbers."""
        return self._each(lambda tensor: tensor[rows])

    def _each(self: T, change: Any) -> T:
        def changed(value: Any) -> Any:
            if isinstance(value, _OnDevice):
                return value._each(change)
            if isinstance(value, Mapping):
                return {k: changed(v) for k, v in value.items()}
            return None if value is None else change(value)

        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return type(self)(**{f.name: changed(getattr(self, f.name)) for f in fields})


@dataclass(frozen=True, kw_only=True)
class Committed(_OnDevice):
    """The first steps of the chunk that is asked for, where they are decided already."""

    actions: Float[Tensor, "b h d"]
    """As in `Targets`; anything from ``steps`` on."""
    steps: Int64[Tensor, " b"]
    """How many are decided."""


@dataclass(frozen=True, kw_only=True)
class Sound(_OnDevice):
    """Instructions that are said aloud; who says nothing has no valid frame."""

    mel: Float[Tensor, "b f m"]
    """Log-mel spectrograms (`vla.sound.mel`), 0 behind their end."""
    valid: Bool[Tensor, "b f"]

    @staticmethod
    def of(spectrograms: Sequence[Float[Tensor, "_ m"] | None], *, least: int = 0) -> "Sound | None":
        """Spectrograms of any length side by side, of ``least`` frames or more; None where nobody says anything."""
        heard = [spectrogram for spectrogram in spectrograms if spectrogram is not None]
        if not heard:
            return None
        frames = -(-max(least, *map(len, heard)) // SPAN) * SPAN
        mel = heard[0].new_zeros(len(spectrograms), frames, heard[0].shape[1])
        valid = torch.zeros(mel.shape[:2], dtype=torch.bool)
        for i, spectrogram in enumerate(spectrograms):
            if spectrogram is not None:
                mel[i, : len(spectrogram)] = spectrogram
                valid[i, : len(spectrogram)] = True
        return Sound(mel=mel, valid=valid)


@dataclass(frozen=True, kw_only=True)
class Inputs(_OnDevice):
    """Observations of ``b`` robots."""

    images: UInt8[Tensor, "b t n y x 3"]
    """RGB in [0, 255], one image for each slot; a reader brings them to [-1, 1]."""
    camera_valid: Bool[Tensor, "b n"]
    """The robot has a camera for the slot."""
    state: Float[Tensor, "b t s"]
    """Scaled: most values are in [-1, 1]."""
    state_valid: Bool[Tensor, "b s"]
    """The robot has this dimension."""
    observed: Bool[Tensor, "b t"]
    """False before the episode began: there the first observation is repeated."""
    text: Int64[Tensor, "b l"]
    text_valid: Bool[Tensor, "b l"]
    embodiment: Int64[Tensor, " b"]
    """Which robot of the preprocessor."""
    sound: Sound | None = None
    """What is said aloud; only for models that listen, None is nothing."""
    committed: Committed | None = None
    """What runs whatever is answered; only for models that were built for it, None is nothing."""
    seeds: Int64[Tensor, " b"] | None = None
    """What each answer is drawn by, where one is drawn, so that it rests upon no other sample; None is 0 for all."""

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.state)


@dataclass(frozen=True, kw_only=True)
class Written(_OnDevice):
    """What is to be written beside actions."""

    value: Int64[Tensor, "b l"] | UInt8[Tensor, "b n y x 3"]
    """Words as ids, or a picture of each camera."""
    known: Bool[Tensor, "b l"] | Bool[Tensor, "b n"]
    """Which of the ids are of the sentence, which of the pictures are there; nothing of a sample teaches nothing."""

    @property
    def rows(self) -> Int64[Tensor, " r"]:
        """The samples that have it."""
        return self.known.any(dim=1).nonzero()[:, 0]


@dataclass(frozen=True, kw_only=True)
class Targets(_OnDevice):
    """What the robots did next, and what else is known of the moment."""

    actions: Float[Tensor, "b h d"]
    """Relative where the action space says so, then scaled: most values are in [-1, 1]."""
    valid: Bool[Tensor, "b h d"]
    """False past the end, where the label may not be learned from, and for dimensions that the robot lacks."""
    executed: Float[Tensor, "b h d"] | None = None
    """What was sent instead of ``actions``, scaled alike; None where nobody says so, and it was these."""
    signals: Mapping[str, Float[Tensor, "b g"]] = field(default_factory=dict)
    """Whatever else the dataset says, in its own units; NaN where it is not known."""
    written: Mapping[str, Written] = field(default_factory=dict)
    """What writers learn from, by name: ``answer`` to a question, ``goal`` as pictures of the end."""

    @property
    def acting(self) -> Int64[Tensor, " r"] | None:
        """The samples that are about acting, of a batch in which others are questions; None for all."""
        if "answer" not in self.written:
            return None
        asked = self.written["answer"].known.any(dim=1)
        return (~asked).nonzero()[:, 0] if asked.any() else None


@dataclass(frozen=True, kw_only=True)
class Batch(_OnDevice):
    """What one step of training takes."""

    inputs: Inputs
    targets: Targets

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.inputs)


@dataclass(frozen=True, kw_only=True)
class Prediction(_OnDevice):
    """What a model answers."""

    actions: Float[Tensor, "b h d"]
    """As in `Targets`."""
    signals: Mapping[str, Float[Tensor, "b g"]] = field(default_factory=dict)
    """What it believes, by signal, in the units of the dataset."""


def measured(value: Float[Tensor, ""], weight: Tensor) -> Float[Tensor, ""]:
    """``value`` as a metric: NaN where all that it is a mean of has no ``weight``."""
    return torch.where(weight.sum() > 0, value.detach(), torch.nan)
