"""Towers of any kind in a two-tower model, each with a projection into the space of both.

Pretrained ones begin with their own weights. LiT (arXiv 2111.07991) keeps that of pictures as it is and teaches the
other to read its vectors: ``freeze: [pictures.tower.*]`` in a recipe. No gradient then enters the tower, none of its
activations is kept, and its norms count nothing (`vla.models.freezing`).
"""

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.contrastive.sides import Pictures, Sentences
from vla.models.kinds.two_tower import ProjectedPicturesConfig, ProjectedSentencesConfig
from vla.models.text.config import TokenizerConfig
from vla.models.trunk.initialisation import initialise


class ProjectedPictures(Pictures):
    """A tower that does not know of cameras, so which one it was is added behind it."""

    def __init__(self, config: ProjectedPicturesConfig, cameras: int, out: int) -> None:
        super().__init__()
        self._config = config.tower
        self.tower = config.tower.build()
        self.project = nn.Linear(self.tower.width, out)
        self.view = nn.Parameter(torch.empty(cameras, out))
        initialise(self)

    def forward(self, pictures: UInt8[Tensor, "b y x 3"], camera: Int64[Tensor, " b"]) -> Float[Tensor, "b o"]:
        """See `Pictures.forward`."""
        vector: Tensor = self.project(self.tower(pictures)) + self.view[camera]
        return vector

    def begin(self) -> None:
        """See `Pictures.begin`."""
        self._config.begin(self.tower)

    def units(self) -> list[nn.Module]:
        """See `Pictures.units`."""
        return self.tower.units()


class ProjectedSentences(Sentences):
    """A tower and a projection."""

    def __init__(self, config: ProjectedSentencesConfig, words: int, longest: int, out: int) -> None:
        super().__init__()
        self._config = config.tower
        self.tower = config.tower.build()
        if words > self.tower.known or longest > self.tower.longest:
            raise ConfigError(
                f"model.sentences: the tower knows {self.tower.known} tokens and reads {self.tower.longest} of them at "
                f"once, got a tokenizer of {words} and sentences of up to {longest}; give it a table that is as "
                "large, another model.tokenizer, or fewer model.text_tokens"
            )
        self.project = nn.Linear(self.tower.width, out)

    def forward(self, text: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b o"]:
        """See `Sentences.forward`."""
        vector: Tensor = self.project(self.tower(text, valid))
        return vector

    def begin(self, tokenizer: TokenizerConfig) -> None:
        """See `Sentences.begin`."""
        self._config.require_reads(tokenizer)
        self._config.begin(self.tower)

    def units(self) -> list[nn.Module]:
        """See `Sentences.units`."""
        return self.tower.units()
