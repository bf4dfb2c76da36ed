"""A transformer encoder of sentences: CLIP's, SigLIP's and BERT's, which differ in what their settings name."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vla.core.errors import ContractError
from vla.models.contrastive.towers.config import TransformerTowerConfig
from vla.models.contrastive.towers.tower import TextTower
from vla.models.readers.tower import activate
from vla.models.trunk.initialisation import initialise


class TransformerTower(TextTower):
    """Tokens with their places, blocks, and one of the tokens or the mean of them."""

    def __init__(self, config: TransformerTowerConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.known, self.longest = config.words, config.length - len(config.marks)
        self.words = nn.Embedding(config.words, config.width)
        self.position = nn.Embedding(config.length, config.width)
        self.kind = nn.Embedding(config.types, config.width) if config.types else None
        after = config.norm == "after"
        self.norm_first = nn.LayerNorm(config.width, eps=config.norm_eps) if after else None
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.layers))
        self.norm_last = None if after else nn.LayerNorm(config.width, eps=config.norm_eps)
        initialise(self)

    def forward(self, ids: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        """See `TextTower.forward`; sentences that are too long are a `ContractError`."""
        ids, valid = self._prepared(ids, valid)
        x = self.words(ids) + self.position.weight[: ids.shape[1]]
        if self.kind is not None:
            x = x + self.kind.weight[0]
        if self.norm_first is not None:
            x = self.norm_first(x)
        sees = valid[:, None, None, :]  # (b, 1, 1, l)
        if self.config.causal:
            sees = sees & torch.ones(2 * (ids.shape[1],), dtype=torch.bool, device=ids.device).tril()
        for block in self.blocks:
            x = block(x, sees)
        if self.norm_last is not None:
            x = self.norm_last(x)
        return self._pooled(x, valid)

    def units(self) -> list[nn.Module]:
        """See `TextTower.units`."""
        return list(self.blocks)

    def _prepared(self, ids: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """With the marks around each sentence, and padding where it is read."""
        config = self.config
        if config.marks:
            first, last = config.marks
            ends = valid.sum(dim=1, keepdim=True) + 1
            ids = F.pad(ids, (1, 1)).scatter(1, ends, last)
            ids[:, 0] = first
            valid = torch.arange(ids.shape[1], device=ids.device) <= ends
        if ids.shape[1] > config.length:
            raise ContractError(
                f"sentences of {ids.shape[1]} tokens, and this text tower reads at most {config.length}"
            )
        if config.padding is not None:
            ids = F.pad(ids.where(valid, config.padding), (0, config.length - ids.shape[1]), value=config.padding)
            valid = torch.ones_like(ids, dtype=torch.bool)
        return ids, valid

    def _pooled(self, x: Float[Tensor, "b l e"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        if self.config.pool == "first":
            return x[:, 0]
        if self.config.pool == "last":
            return x[:, -1]
        words = valid.sum(dim=1)
        if self.config.pool == "mean":
            return (x * valid[..., None]).sum(dim=1) / words.clamp(min=1)[:, None]
        return x[torch.arange(len(x), device=x.device), (words - 1).clamp(min=0)]


class TextBlock(nn.Module):
    """Attention, then an MLP, each added, with a norm before it or behind."""

    def __init__(self, config: TransformerTowerConfig) -> None:
        super().__init__()
        width = config.width
        self._heads, self._after, self._activation = config.heads, config.norm == "after", config.activation
        self.norm_attention, self.norm_mlp = (nn.LayerNorm(width, eps=config.norm_eps) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)

    def forward(self, x: Float[Tensor, "b l e"], sees: Bool[Tensor, "b 1 k l"]) -> Float[Tensor, "b l e"]:
        """The same tokens, in the light of those that each sees."""
        if self._after:
            x = self.norm_attention(x + self._attention(x, sees))
            done: Tensor = self.norm_mlp(x + self._mlp(x))
            return done
        x = x + self._attention(self.norm_attention(x), sees)
        return x + self._mlp(self.norm_mlp(x))

    def _attention(self, x: Float[Tensor, "b l e"], sees: Bool[Tensor, "b 1 k l"]) -> Float[Tensor, "b l e"]:
        q, k, v = rearrange(self.qkv(x), "b l (k h c) -> k b h l c", k=3, h=self._heads)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=sees)
        out: Tensor = self.out(rearrange(read, "b h l c -> b l (h c)"))
        return out

    def _mlp(self, x: Float[Tensor, "b l e"]) -> Float[Tensor, "b l e"]:
        made: Tensor = self.down(activate(self.up(x), self._activation))
        return made
