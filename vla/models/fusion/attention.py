"""Attention of some tokens to others that are not in their sequence."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Queries of ``width`` read keys and values of ``channels``."""

    def __init__(self, width: int, channels: int, *, heads: int, head_dim: int, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * head_dim, bias=bias)
        self.key = nn.Linear(channels, heads * head_dim, bias=bias)
        self.value = nn.Linear(channels, heads * head_dim, bias=bias)
        self.out = nn.Linear(heads * head_dim, width, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "b q e"],
        keys: Float[Tensor, "b l c"],
        values: Float[Tensor, "b l c"],
        mask: Bool[Tensor, "b _ l"],
    ) -> Float[Tensor, "b q e"]:
        """What each token reads of those that ``mask`` lets it see; one that may see none reads zeros."""
        parts = ((self.query, x), (self.key, keys), (self.value, values))
        q, k, v = (rearrange(project(part), "b l (h c) -> b h l c", h=self.heads) for project, part in parts)
        # Two products: on a CPU faster than scaled_dot_product_attention at these lengths.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (b, h, q, l)
        # The least number instead of -inf: of a row without any key there would be no softmax.
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        read: Tensor = self.out(rearrange(torch.softmax(scores, dim=-1) @ v, "b h q c -> b q (h c)"))
        return torch.where(mask.any(dim=-1, keepdim=True), read, 0.0)
