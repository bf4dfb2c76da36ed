"""Two towers, one space: CLIP, SigLIP and ALIGN whole."""

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vla.core.errors import ConfigError
from vla.models.contrastive.losses import Scalar
from vla.models.contrastive.presets import PairConfig, Projection


class Pair(nn.Module):
    """Vectors of length one of pictures and of sentences, close where they belong together."""

    def __init__(self, config: PairConfig) -> None:
        super().__init__()
        self.config = config
        self.image, self.text, self.contrast = config.image.build(), config.text.build(), config.loss.build()
        self.project_images = _projection(config.image_projection, self.image.width, config.width, "image")
        self.project_texts = _projection(config.text_projection, self.text.width, config.width, "text")

    def forward(
        self,
        images: UInt8[Tensor, "b y x 3"],
        ids: Int64[Tensor, "b l"],
        valid: Bool[Tensor, "b l"],
        sentences: Int64[Tensor, "b"] | None = None,
    ) -> Scalar:
        """The loss of pairs in the same rows; equal ``sentences`` belong together, see `Contrast.forward`."""
        loss: Tensor = self.contrast(self.images(images), self.texts(ids, valid), sentences)
        return loss

    def begin(self) -> None:
        """Fill towers that were trained elsewhere, for a run that begins."""
        self.config.image.begin(self.image)
        self.config.text.begin(self.text)

    def images(self, images: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b e"]:
        """The vector of each picture."""
        return F.normalize(self.project_images(self.image(images)), dim=-1)

    def texts(self, ids: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        """The vector of each sentence."""
        return F.normalize(self.project_texts(self.text(ids, valid)), dim=-1)


def _projection(kind: Projection, width: int, into: int, what: str) -> nn.Module:
    if kind != "none":
        return nn.Linear(width, into, bias=kind == "affine")
    if width != into:
        raise ConfigError(f"pair.{what}_projection=none: the tower gives {width} numbers, and the space has {into}")
    return nn.Identity()
