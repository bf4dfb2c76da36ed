"""Image codecs by kind: what is said of them where they are fitted. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError

if TYPE_CHECKING:
    from vla.models.pictures.codec import ImageCodec
    from vla.models.pictures.learning import Progress
    from vla.models.pictures.network import Shape
    from vla.models.pictures.pictures import Pictures
    from vla.models.pictures.quantisers import Quantiser
    from vla.models.pictures.vq import VqCodec

_WHERE = "image codec."


@dataclass(frozen=True, kw_only=True)
class ImageCodecConfig(Kinded):
    """Pictures ↔ ids; see `vla.models.pictures.codec.ImageCodec`."""

    what: ClassVar[str] = "kind of image codec"
    group: ClassVar[str] = "vla.image_codecs"

    @classmethod
    def table(cls) -> Mapping[str, type["ImageCodecConfig"]]:
        """The kinds of this project."""
        return IMAGE_CODECS

    def fit(self, pictures: "Pictures", progress: "Progress") -> "ImageCodec":
        """The codec for these pictures, which are of one size."""
        raise NotImplementedError

    def build(self, image_size: tuple[int, int]) -> "ImageCodec":
        """The codec for pictures of these sides, with a state that is to be filled with that of a fitted one."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PatchCodesConfig(ImageCodecConfig):
    """The nearest of a few hundred squares that were seen, found without gradients in seconds."""

    kind: str = "patches"
    side: int = 8
    """Of a square in pixels; it divides the sides of the pictures."""
    codes: int = 512
    """Squares to choose from."""
    seed: int = 0
    """Of the squares that k-means begins at."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "side", "codes", where=_WHERE)

    def fit(self, pictures: "Pictures", progress: "Progress") -> "ImageCodec":
        """See `ImageCodecConfig.fit`."""
        from vla.models.pictures.patches import PatchCodes

        return PatchCodes.fit(pictures, codes=self.codes, side=self.side, seed=self.seed)

    def build(self, image_size: tuple[int, int]) -> "ImageCodec":
        """See `ImageCodecConfig.build`."""
        from vla.models.pictures.patches import PatchCodes

        return PatchCodes(self.codes, self.side, image_size)


@dataclass(frozen=True, kw_only=True)
class QuantiserConfig(Kinded):
    """How cells become ids; see `vla.models.pictures.quantisers.Quantiser`."""

    what: ClassVar[str] = "kind of quantiser"
    group: ClassVar[str] = "vla.quantisers"

    @classmethod
    def table(cls) -> Mapping[str, type["QuantiserConfig"]]:
        """The kinds of this project."""
        return QUANTISERS

    def build(self) -> "Quantiser":
        """The quantiser with fresh codes."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class FsqConfig(QuantiserConfig):
    """A few numbers, each rounded to one of its levels (FSQ)."""

    kind: str = "fsq"
    levels: tuple[int, ...] = (8, 5, 5, 5)
    """There are as many codes as their product."""

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2 or prod(self.levels) > 2**20:
            raise ConfigError(
                f"{_WHERE}quantiser.levels={self.levels}: each at least 2, and a product of at most 2**20"
            )

    def build(self) -> "Quantiser":
        """See `QuantiserConfig.build`."""
        from vla.models.pictures.quantisers import FiniteScalars

        return FiniteScalars(self.levels)


@dataclass(frozen=True, kw_only=True)
class NearestConfig(QuantiserConfig):
    """The nearest of learned vectors (VQ)."""

    kind: str = "nearest"
    codes: int = 1024
    width: int = 8
    """Numbers of a vector; few keep all of them in use."""
    commitment: float = 0.25
    """Weight at which the encoder is pulled to the codes that it chose."""
    codebook: Literal["mean", "gradient"] = "mean"
    """Codes follow the running mean of what they stand for, or gradients."""
    decay: float = 0.99
    """Of that mean, for each batch."""
    patience: int = 50
    """Batches after which a code that stood for nothing moves to something that there is."""
    unit: bool = False
    """Codes are brought to unit length before they are decoded, as in Janus."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "codes", "width", "patience", where=f"{_WHERE}quantiser.")
        if not 0 <= self.decay < 1 or self.commitment < 0:
            raise ConfigError(
                f"{_WHERE}quantiser: decay={self.decay} must be at least 0 and below 1, commitment={self.commitment} "
                "at least 0"
            )

    def build(self) -> "Quantiser":
        """See `QuantiserConfig.build`."""
        from vla.models.pictures.quantisers import NearestVectors

        how: dict[str, object] = {"commitment": self.commitment, "codebook": self.codebook, "decay": self.decay}
        return NearestVectors(self.codes, self.width, patience=self.patience, unit=self.unit, **how)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class VqConfig(ImageCodecConfig):
    """A convolutional encoder and decoder that learn together with a quantiser between them, in minutes to days."""

    kind: str = "vq"
    quantiser: QuantiserConfig = field(default_factory=FsqConfig)
    channels: int = 64
    """Of the first level."""
    multipliers: tuple[int, ...] = (1, 1)
    """Channels of each level, as multiples; each level after the first halves the sides."""
    stem: int = 4
    """Side in pixels of what the first level reads as one cell; 1 is as in Janus, and 16 times the work of 4."""
    blocks: int = 1
    """Residual blocks of each level."""
    latent: int = 64
    """Channels between the encoder and the quantiser."""
    groups: int = 8
    """Of the norms; it divides all numbers of channels."""
    minutes: float = 10.0
    """Learning ends after this time or after ``steps``, whichever comes first."""
    steps: int = 1_000_000
    batch: int = 16
    lr: float = 2e-3
    objects: float = 0.5
    """Share of the loss that falls on object pixels, however few they are."""
    edges: float = 0.5
    """Weight of the differences between neighbouring pixels."""
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("channels", "stem", "blocks", "latent", "groups", "steps", "batch")
        require_at_least_one(self, *counts, where=_WHERE)
        if not self.multipliers or min(self.multipliers) < 1:
            raise ConfigError(f"{_WHERE}multipliers={self.multipliers}: one number of at least 1 for each level")
        for name, good in (("minutes", self.minutes > 0), ("lr", self.lr > 0), ("edges", self.edges >= 0)):
            if not good:
                raise ConfigError(f"{_WHERE}{name}={getattr(self, name)} must be positive")
        if not 0 < self.objects < 1:
            raise ConfigError(f"{_WHERE}objects={self.objects} must be between 0 and 1")
        if self.channels % self.groups:
            raise ConfigError(f"{_WHERE}channels={self.channels} must be a multiple of groups={self.groups}")

    @property
    def shape(self) -> "Shape":
        """Sizes of the networks."""
        from vla.models.pictures.network import Shape

        names = ("channels", "multipliers", "blocks", "latent", "groups", "stem")
        return Shape(**{name: getattr(self, name) for name in names})

    def fit(self, pictures: "Pictures", progress: "Progress") -> "ImageCodec":
        """See `ImageCodecConfig.fit`."""
        import torch

        from vla.models.pictures.learning import Lessons, learn

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            codec = self.build_vq(pictures.size)
            names = ("minutes", "steps", "batch", "lr", "objects", "edges", "seed")
            learn(codec, pictures, Lessons(**{name: getattr(self, name) for name in names}), progress)
        return codec.requires_grad_(False)

    def build(self, image_size: tuple[int, int]) -> "ImageCodec":
        """See `ImageCodecConfig.build`."""
        return self.build_vq(image_size).requires_grad_(False)

    def build_vq(self, image_size: tuple[int, int]) -> "VqCodec":
        """The codec with fresh weights that may learn."""
        from vla.models.pictures.vq import VqCodec

        return VqCodec(self.shape, self.quantiser.build(), image_size)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A learned codec as it is known by name."""

    config: VqConfig
    least: int
    """Shortest side of a picture that it is for, in pixels."""
    most: int

    def require(self, image_size: tuple[int, int]) -> None:
        """A `ConfigError` unless it is for pictures of these sides."""
        if min(image_size) < self.least or max(image_size) > self.most:
            sides = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            raise ConfigError(
                f"this preset is for pictures of {sides} pixels a side, and these are {image_size[0]} x "
                f"{image_size[1]}: render or resize them, or choose another of {', '.join(PRESETS)}"
            )


def _janus_like(codes: int, width: int, multipliers: tuple[int, ...]) -> VqConfig:
    quantiser = NearestConfig(codes=codes, width=width, codebook="gradient")
    sizes: dict[str, int] = {"channels": 128, "stem": 1, "blocks": 2, "latent": 256, "groups": 32}
    return VqConfig(quantiser=quantiser, multipliers=multipliers, **sizes, batch=8, lr=1e-4)  # type: ignore[arg-type]


PRESETS: dict[str, Preset] = {
    "paper": Preset(config=_janus_like(8192, 256, (1, 1, 2, 2, 4)), least=512, most=512),
    "seed": Preset(config=_janus_like(8192, 256, (1, 2, 2, 4)), least=256, most=256),
    "robot": Preset(config=VqConfig(), least=64, most=128),
}
"""``paper`` is 512 px to 1,024 codes, 16 pixels each (arXiv 2405.09818); ``seed`` 256 px to as many, 8 pixels each;
``robot`` what two cores learn in minutes, 8 pixels each: 64 to 256 codes."""
QUANTISERS: dict[str, type[QuantiserConfig]] = {"fsq": FsqConfig, "nearest": NearestConfig}
IMAGE_CODECS: dict[str, type[ImageCodecConfig]] = {"patches": PatchCodesConfig, "vq": VqConfig}
