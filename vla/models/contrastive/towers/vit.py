"""A vision transformer that gives one vector of each picture: `vla.models.readers.tower.Tower` and a way to pool."""

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vla.models.contrastive.towers.config import VitConfig
from vla.models.contrastive.towers.tower import ImageTower
from vla.models.readers.tower import Tower, activate
from vla.models.readers.tower_config import TowerConfig
from vla.models.trunk.initialisation import initialise


class VitTower(ImageTower):
    """Pools as CLIP, as SigLIP, or by the mean of all patches."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.width = config.tower.width
        self.tower = Tower(config.tower)
        self._pool = config.pool
        self.norm = nn.LayerNorm(self.width, eps=config.tower.norm_eps) if config.pool == "whole" else None
        self.look = AttentionPool(config.tower) if config.pool == "attention" else None

    def forward(self, images: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b e"]:
        """See `ImageTower.forward`."""
        tokens = self.tower.tokens(images)
        if self.norm is not None:
            whole: Tensor = self.norm(tokens[:, 0])
            return whole
        patches = tokens[:, -self.tower.patches :]
        if self.look is not None:
            looked: Tensor = self.look(patches)
            return looked
        return patches.mean(dim=1)

    def units(self) -> list[nn.Module]:
        """See `ImageTower.units`."""
        return list(self.tower.blocks)


class AttentionPool(nn.Module):
    """One learned query looks at all patches, then an MLP is added (MAP, arXiv 1810.00825, as in SigLIP)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.heads, self.activation, width = config.heads, config.activation, config.width
        self.query = nn.Parameter(torch.empty(width))
        self.ask, self.keys_values, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.up, self.down = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        initialise(self)

    def forward(self, patches: Float[Tensor, "b p e"]) -> Float[Tensor, "b e"]:
        """What the query saw."""
        q = rearrange(self.ask(self.query).expand(len(patches), -1), "b (h c) -> b h 1 c", h=self.heads)
        k, v = rearrange(self.keys_values(patches), "b p (k h c) -> k b h p c", k=2, h=self.heads)
        x = self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h 1 c -> b (h c)"))
        pooled: Tensor = x + self.down(activate(self.up(self.norm(x)), self.activation))
        return pooled
