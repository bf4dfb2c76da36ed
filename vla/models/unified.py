"""The unified transformer: instruction, cameras, state, grounding and actions as one token sequence.

    [ instruction (l) | image tokens (n k) | state (1) | grounding (1) | actions (h, or h d) ]
      block 0                                            block 1         block 2 and later

Layouts of the actions:
    ``step``   one token for each step; the slice of the tied head over all action ids predicts every joint's bin
    ``joint``  one token for each joint of each step, which predicts that joint's bin
Decodings:
    ``parallel``        all action tokens enter as queries and are read in one pass (arXiv 2502.19645)
    ``autoregressive``  each action token enters as what was decoded before it, with a key-value cache
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.models.attention import Cache, Transformer, attention_mask
from vla.models.bins import ActionCodec, BinCodec
from vla.models.config import TransformerConfig, UnifiedConfig
from vla.models.grounding import GroundingLayout
from vla.models.vision import ImageTokenizer, pointing_loss
from vla.models.vocabulary import Vocabulary

Batch = Mapping[str, Tensor]
"""images uint8 (b, n, y, x, 3), state (b, s), text int64 (b, l), text_valid bool (b, l);
for training also actions (b, h, d), action_valid bool (b, h), grounding (b, g)."""


Maps = list[tuple[Tensor, Tensor]]
"""For each camera the scores (b, t, y, x) of its pointing maps, and the points (b, t, 2) that they mean."""


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Everything before the action tokens, run once for an observation."""

    cache: Cache
    valid: Bool[Tensor, "b l"]
    block: Int64[Tensor, "b l"]
    grounding: Float[Tensor, "b g"]


class UnifiedTransformer(nn.Module):
    """Reads observations and writes action chunks through one vocabulary."""

    state_low: Tensor
    state_high: Tensor

    def __init__(
        self,
        config: UnifiedConfig,
        *,
        vocabulary: Vocabulary,
        state_dims: int,
        actions: ActionCodec,
        grounding: BinCodec,
        layout: GroundingLayout,
        state_range: tuple[Float[Tensor, " s"], Float[Tensor, " s"]],
    ) -> None:
        super().__init__()
        width = config.trunk.width
        self.config, self.vocabulary, self.actions, self.grounding = config, vocabulary, actions, grounding
        self.layout = layout
        self.table = nn.Embedding(len(vocabulary), width)
        self.text_position = nn.Parameter(torch.zeros(config.text_tokens, width))
        self.reader = Transformer(TransformerConfig(width=width, layers=1, heads=config.trunk.heads))
        self.cameras = nn.ModuleList(
            ImageTokenizer(config.vision, width, points=len(points)) for points in layout.points
        )
        self.camera_position = nn.Parameter(torch.zeros(len(layout.points), config.vision.tokens, width))
        self.state = nn.Sequential(nn.Linear(state_dims, width), nn.GELU(), nn.Linear(width, width))
        self.slot = nn.Parameter(torch.zeros(2, width))  # state, grounding
        self.step_position = nn.Parameter(torch.zeros(config.horizon, 1, width))
        per_step = vocabulary.action_dims if config.layout == "joint" else 1
        self.joint_position = nn.Parameter(torch.zeros(1, per_step, width))
        self.trunk = Transformer(config.trunk)
        self.register_buffer("state_low", state_range[0], persistent=False)
        self.register_buffer("state_high", state_range[1], persistent=False)
        nn.init.normal_(self.table.weight, std=0.02)
        for position in (self.text_position, self.camera_position, self.slot, self.step_position, self.joint_position):
            nn.init.normal_(position, std=0.02)

    @property
    def action_tokens(self) -> int:
        """Tokens that write one chunk."""
        return self.config.horizon * self.joint_position.shape[1]

    def forward(self, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The same as `loss`: what data-parallel wrappers call."""
        return self.loss(batch)

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Cross entropy of actions and grounding against soft targets, and what to log of it."""
        drop = torch.rand(len(batch["state"]), device=batch["state"].device) < self.config.state_dropout
        x, block, valid, maps = self._prefix(batch, drop)
        offsets = self.actions.offsets(batch["state"], batch["actions"])
        queries = self._action_inputs(self.actions.codec.ids(offsets))
        x = torch.cat([x, queries], dim=1)
        block = torch.cat([block, self._action_blocks(block)], dim=1)
        valid = F.pad(valid, (0, self.action_tokens), value=True)
        hidden, _ = self.trunk(x, attention_mask(block, valid))
        logits = self._action_logits(hidden[:, -self.action_tokens :])  # (b, h, d, bins)
        action = _soft_cross_entropy(logits, self.actions.codec.targets(offsets))  # (b, h, d)
        weight = batch["action_valid"][..., None].expand_as(action).to(action.dtype)
        action_loss = (action * weight).sum() / weight.sum().clamp(min=1)
        metrics = {"action_loss": action_loss.detach()}
        total, config = action_loss, self.config
        if self.layout.metric:
            where = self._grounding_logits(hidden[:, -self.action_tokens - 1])
            truth = batch["grounding"][:, list(self.layout.metric)]
            grounding_loss = _soft_cross_entropy(where, self.grounding.targets(truth)).mean()
            total = total + config.grounding_weight * grounding_loss
            error = (self.grounding.decode(where.detach()) - truth).abs().mean()
            metrics |= {"grounding_loss": grounding_loss.detach(), "grounding_error_m": error}
        if any(self.layout.points):
            points = self._pointing_loss(maps, batch["grounding"])
            total = total + config.pointing_weight * points
            metrics["pointing_loss"] = points.detach()
        return total, metrics

    def _pointing_loss(self, maps: Maps, grounding: Float[Tensor, "b g"]) -> Float[Tensor, ""]:
        """Mean over all points that are in view."""
        losses = [
            pointing_loss(scores, grounding[:, torch.tensor(points)])
            for (scores, _), points in zip(maps, self.layout.points, strict=True)
        ]
        return torch.cat([loss for loss, _ in losses]).sum() / torch.cat([n for _, n in losses]).sum().clamp(min=1)

    @torch.no_grad()
    def act(self, batch: Batch) -> tuple[Float[Tensor, "b h d"], Float[Tensor, "b g"]]:
        """Absolute action targets, and where the model believes the named things are."""
        prefix = self.read(batch)
        if self.config.decoding == "parallel":
            logits = self._decode_parallel(prefix)
        else:
            logits = self._decode_autoregressive(prefix)
        return self.actions.actions(batch["state"], self.actions.codec.decode(logits)), prefix.grounding

    def read(self, batch: Batch) -> Prefix:
        """Run everything before the actions and keep its keys and values."""
        x, block, valid, maps = self._prefix(
            batch, torch.zeros(len(batch["state"]), dtype=torch.bool, device=batch["state"].device)
        )
        hidden, cache = self.trunk(x, attention_mask(block, valid))
        return Prefix(cache=cache, valid=valid, block=block, grounding=self._ground(hidden[:, -1], maps))

    def _ground(self, hidden: Float[Tensor, "b e"], maps: Maps) -> Float[Tensor, "b g"]:
        """All of the contract's grounding: what the grounding token says, and where the maps point."""
        size = len(self.layout.metric) + sum(2 * len(points) for points in self.layout.points)
        grounding = hidden.new_zeros(len(hidden), size)
        if self.layout.metric:
            grounding[:, list(self.layout.metric)] = self.grounding.decode(self._grounding_logits(hidden))
        for (_, where), points in zip(maps, self.layout.points, strict=True):
            if points:
                grounding[:, torch.tensor(points)] = where
        return grounding

    def _decode_parallel(self, prefix: Prefix) -> Float[Tensor, "b h d bins"]:
        shape = (len(prefix.valid), self.config.horizon, self.vocabulary.action_dims)
        ids = torch.zeros(shape, dtype=torch.long, device=prefix.valid.device)
        return self._action_logits(self._extend(prefix, self._action_inputs(ids), done=0))

    def _decode_autoregressive(self, prefix: Prefix) -> Float[Tensor, "b h d bins"]:
        """Greedy: the mode of each distribution is fed back; the logits are returned."""
        b, h, d = len(prefix.valid), self.config.horizon, self.vocabulary.action_dims
        ids = torch.zeros(b, h, d, dtype=torch.long, device=prefix.valid.device)
        logits = torch.zeros(b, h, d, self.vocabulary.action_bins, device=prefix.valid.device)
        per_step = self.joint_position.shape[1]
        for i in range(self.action_tokens):
            step, joint = divmod(i, per_step)
            hidden = self._extend(prefix, self._action_inputs(ids)[:, i : i + 1], done=i)
            which = slice(joint, joint + 1) if self.config.layout == "joint" else slice(0, d)
            slot = self._head(hidden[:, 0], self._joints(which))  # (b, joints of this token, bins)
            logits[:, step, which] = slot
            ids[:, step, which] = slot.argmax(dim=-1)
        return logits

    def _extend(self, prefix: Prefix, x: Float[Tensor, "b q e"], *, done: int) -> Float[Tensor, "b q e"]:
        """Run the next ``q`` action tokens after ``done`` earlier ones, growing the cache in place."""
        length = done + x.shape[1]
        block = torch.cat([prefix.block, self._action_blocks(prefix.block)[:, :length]], dim=1)
        mask = attention_mask(block, F.pad(prefix.valid, (0, length), value=True), queries=x.shape[1])
        hidden: Tensor
        hidden, grown = self.trunk(x, mask, prefix.cache)
        prefix.cache[:] = grown
        return hidden

    def _prefix(self, batch: Batch, drop_state: Bool[Tensor, " b"]) -> tuple[Tensor, Tensor, Tensor, Maps]:
        """Embeddings (b, l, e), blocks (b, l), validity (b, l) of all before the actions, and the pointing maps."""
        b = len(batch["state"])
        words = self.table(batch["text"]) + self.text_position
        told = attention_mask(torch.zeros_like(batch["text"]), batch["text_valid"])
        read, _ = self.reader(words, told)
        weight = batch["text_valid"][..., None].to(read.dtype)
        sentence = (read * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)  # (b, e)
        images, maps = [], []
        for i, tokenizer in enumerate(self.cameras):
            tokens, scores, where = tokenizer(batch["images"][:, i], read, batch["text_valid"], sentence)
            images.append(tokens + self.camera_position[i])
            maps.append((scores, where))
        normal = 2 * (batch["state"] - self.state_low) / (self.state_high - self.state_low) - 1
        absent = self.table.weight[self.vocabulary.special("no_state")]
        state = torch.where(drop_state[:, None], absent, self.state(normal)) + self.slot[0]
        query = repeat(self.table.weight[self.vocabulary.special("query")] + self.slot[1], "e -> b 1 e", b=b)
        x = torch.cat([read, *images, state[:, None], query], dim=1)
        valid = F.pad(batch["text_valid"], (0, x.shape[1] - batch["text_valid"].shape[1]), value=True)
        block = torch.zeros_like(valid, dtype=torch.long)
        block[:, -1] = 1
        return x, block, valid, maps

    def _action_inputs(self, ids: Int64[Tensor, "b h d"]) -> Float[Tensor, "b q e"]:
        """What enters at the action positions: queries, or what was decoded one token before."""
        position = rearrange(self.step_position + self.joint_position, "h j e -> (h j) e")
        if self.config.decoding == "parallel":
            query = self.table.weight[self.vocabulary.special("query")]
            return repeat(query + position, "q e -> b q e", b=len(ids))
        joints = range(self.vocabulary.action_dims)
        starts = torch.tensor([self.vocabulary.joint(j).start for j in joints], device=ids.device)
        embedded = self.table(ids + starts)  # (b, h, d, e)
        tokens = rearrange(embedded, "b h d e -> b (h d) e") if self.config.layout == "joint" else embedded.mean(dim=2)
        begin = repeat(self.table.weight[self.vocabulary.special("begin")], "e -> b 1 e", b=len(ids))
        return torch.cat([begin, tokens[:, :-1]], dim=1) + position

    def _action_blocks(self, block: Int64[Tensor, "b l"]) -> Int64[Tensor, "b q"]:
        causal = torch.arange(self.action_tokens, device=block.device)
        blocks = 2 + (causal if self.config.decoding == "autoregressive" else torch.zeros_like(causal))
        return repeat(blocks, "q -> b q", b=len(block))

    def _action_logits(self, hidden: Float[Tensor, "b q e"]) -> Float[Tensor, "b h d bins"]:
        """The grammar: at each position only the ids of the joints that are due there."""
        d = self.vocabulary.action_dims
        if self.config.layout == "step":
            return self._head(hidden, self._joints(slice(0, d)))
        table = rearrange(self.table.weight[self.vocabulary.action], "(d v) e -> d v e", d=d)
        tokens = rearrange(hidden, "b (h d) e -> d (b h) e", d=d)
        # One product for each joint; broadcasting over (b, h) would copy the table for every token.
        return rearrange(tokens @ table.transpose(-1, -2), "d (b h) v -> b h d v", b=len(hidden))

    def _grounding_logits(self, hidden: Float[Tensor, "b e"]) -> Float[Tensor, "b g bins"]:
        return self._head(
            hidden,
            rearrange(
                self.table.weight[self.vocabulary.grounding], "(g v) e -> g v e", g=self.vocabulary.grounding_dims
            ),
        )

    def _joints(self, which: slice) -> Float[Tensor, "d bins e"]:
        rows = self.table.weight[self.vocabulary.action]
        return rearrange(rows, "(d v) e -> d v e", d=self.vocabulary.action_dims)[which]

    @staticmethod
    def _head(hidden: Float[Tensor, "*b e"], table: Float[Tensor, "d bins e"]) -> Float[Tensor, "*b d bins"]:
        """Logits over a slice of the tied table."""
        flat = F.linear(hidden, rearrange(table, "d v e -> (d v) e"))
        return rearrange(flat, "... (d v) -> ... d v", d=table.shape[0])


def _soft_cross_entropy(logits: Float[Tensor, "*b v"], targets: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
    return -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1)
