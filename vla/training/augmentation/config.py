"""What a recipe says under ``augmentation``. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass, replace
from pathlib import Path

from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How much words and pictures are changed while training; of pictures nothing by default."""

    words: float = 0.5
    """Share of samples whose instruction stands among words that say nothing: "please", "could you", what was never
    said. A policy that has met them looks past them."""
    rotate: float = 0.0
    """Share of samples whose instruction begins at any of its words and goes on from its end at its beginning: "on the
    plate put the block"; where words are spelled in pieces, at any of these. A policy that has met them goes by what
    stands beside a word, not by its place. Not for data in which the order of words is the order of deeds."""
    rotate_before: tuple[str, ...] = ()
    """Only before one of these words ("on", "into"), as people begin with a place; by default before any. At any word
    "put the red block on the blue block" is also said as "block on the blue block put the red", which tells no more
    what comes on what."""
    lost: float = 0.0
    """Chance of each word of a command that stands among others (``words``) to be none that is known, but of
    ``colours``: so that a verb which was never said changes nothing where the rest of the sentence tells."""
    shift: float = 0.0
    """Largest shift of a camera's picture, as a share of its size; the border is repeated (arXiv 2004.13649)."""
    crop: float = 0.0
    """Largest share of a side that is cut off a camera's picture before it is stretched back to its size."""
    brightness: float = 0.0
    """Largest change of all pixels, as a share of the full range."""
    contrast: float = 0.0
    """Largest change of the distances from the mean, as a share of them."""
    saturation: float = 0.0
    """Largest change of how far colours are from grey, as a share of it."""
    channels: float = 0.0
    """Share of samples whose pictures have red, green and blue exchanged, all cameras alike: what is *of the same
    colour* stays so. Only where the instruction has none of ``colours``."""
    colours: tuple[str, ...] = ()
    """Words that say which colour is meant."""
    covered: float = 0.0
    """Share of the samples that answer a question, or draw the end, whose cameras are covered: so that a picture can be
    made of words alone, and an answer that needs no looking is known for one. Nothing else is learned of them."""
    speech: str = ""
    """A speech bank, as ``vla data speak`` makes it, for a model with a reader of sound: some instructions are spoken
    instead of written."""
    spoken: float = 0.3
    """Share of samples that are, each by a voice that is drawn anew; of these the text is empty."""

    def __post_init__(self) -> None:
        for name in ("words", "rotate", "lost", "channels", "covered", "spoken"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"train.augmentation.{name}={getattr(self, name)} must be between 0 and 1")
        if self.channels and not self.colours:
            raise ConfigError(
                "train.augmentation.channels needs the words that name a colour, or every one of them would be wrong: "
                "name them with --augmentation.colours red green blue"
            )
        for name in ("shift", "crop", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"train.augmentation.{name}={getattr(self, name)} must be at least 0 and below 1")

    def resolved(self) -> "AugmentationConfig":
        """The same with paths that hold in any folder."""
        return replace(self, speech=self.speech and str(Path(self.speech).resolve()))
