"""What stands between a vision tower and a language model: the vectors of patches in, tokens of the model's width out.

    b batch   f pictures of a sample   p patches, row by row   c channels of the tower   k tokens   e width

The document of this project's paradigms knows four of them: Flamingo's resampler, LLaVA's MLP, PaliGemma's projection
and Qwen-VL's compressor. Each is one file and one line of `vla.models.fusion.config.CONNECTORS`.
"""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float
from torch import Tensor, nn


class VisionConnector(nn.Module, ABC):
    """Makes tokens of the patches of a sample's pictures."""

    together: bool = False
    """Whether all pictures of a sample become one set of tokens (g = 1); otherwise each has its own (g = f)."""

    @abstractmethod
    def forward(self, patches: Float[Tensor, "b f p c"], there: Bool[Tensor, "b f"]) -> Float[Tensor, "b g k e"]:
        """Tokens; of a picture that is not ``there`` nothing may enter those of another."""
