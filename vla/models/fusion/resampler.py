"""Flamingo's Perceiver resampler (arXiv 2204.14198, section 2.2): any number of pictures to 64 tokens.

Latents that are learned look at the patches of all pictures and at themselves, layer after layer:

    x ← x + Attn(q = x, kv = [patches; x])      x ← x + FFW(x)

both behind norms, without biases. Patches of one picture are told from those of another by an embedding for each that
is added before, which the reader does (it knows which camera and when). The last norm is IDEFICS', whose code this is
held against; a projection follows where the language model is not as wide as the tower, because the paper leaves that
to the keys and values of its cross-attention.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.models.fusion.attention import CrossAttention
from vla.models.fusion.config import ResamplerConfig
from vla.models.fusion.connector import VisionConnector
from vla.models.trunk.initialisation import initialise


class Resampler(VisionConnector):
    """One set of tokens for all pictures of a sample."""

    together = True

    def __init__(self, config: ResamplerConfig, channels: int, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(config.latents, channels))
        self.blocks = nn.ModuleList(ResamplerBlock(config, channels) for _ in range(config.layers))
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, width) if channels != width else None
        initialise(self)

    def forward(self, patches: Float[Tensor, "b f p c"], there: Bool[Tensor, "b f"]) -> Float[Tensor, "b 1 k e"]:
        """See `VisionConnector.forward`."""
        x = repeat(self.latents, "k c -> b k c", b=len(patches))
        known = repeat(there, "b f -> b 1 (f p)", p=patches.shape[2])
        mask = torch.cat([known, known.new_ones(len(x), 1, x.shape[1])], dim=-1)  # itself it always sees
        seen = rearrange(patches, "b f p c -> b (f p) c")
        for block in self.blocks:
            x = block(x, seen, mask)
        made: Tensor = self.norm(x)
        return (made if self.project is None else self.project(made))[:, None]


class ResamplerBlock(nn.Module):
    """Attention to patches and latents, then an MLP."""

    def __init__(self, config: ResamplerConfig, channels: int) -> None:
        super().__init__()
        self.norm_patches, self.norm_latents, self.norm_mlp = (nn.LayerNorm(channels) for _ in range(3))
        size = config.head_dim or channels // config.heads
        self.attention = CrossAttention(channels, channels, heads=config.heads, head_dim=size)
        self.up = nn.Linear(channels, config.mlp_ratio * channels, bias=False)
        self.down = nn.Linear(config.mlp_ratio * channels, channels, bias=False)
        self.squared = config.activation == "squared_relu"

    def forward(
        self, x: Float[Tensor, "b k c"], patches: Float[Tensor, "b l c"], mask: Bool[Tensor, "b 1 m"]
    ) -> Float[Tensor, "b k c"]:
        """The latents, with what they read and what was made of it."""
        latents = self.norm_latents(x)
        seen = torch.cat([self.norm_patches(patches), latents], dim=1)  # (b, l + k, c)
        x = x + self.attention(latents, seen, seen, mask)
        hidden = F.relu(self.up(self.norm_mlp(x)))
        made: Tensor = self.down(hidden.square() if self.squared else hidden)
        return x + made
