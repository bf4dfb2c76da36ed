"""Flow matching by an action expert that reads the trunk layer by layer (π0, arXiv 2410.24164).

Time goes from 1, where a chunk is noise, to 0, where it is actions; the paper counts the other way, its code as here:

    x_t = t ε + (1 - t) a        u = ε - a = dx/dt        t = 0.999 Beta(1.5, 1) + 0.001

The expert is a transformer with weights and a width of its own, and with the layers and heads of the trunk: its layer i
attends to the keys and values of the trunk's layer i, and to its own:

    [ what the trunk has read ]   [ state, if asked for ]   [ noised actions (h) ]
                                    ACTION_BLOCK              the block behind it

With insulation (arXiv 2505.23705) the flow's gradients stop at these keys and values, and another head teaches the
trunk; that one never acts.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.models.heads.config import FlowHeadConfig
from vla.models.heads.head import ACTION_BLOCK, Head
from vla.models.heads.noise import seeded_normal
from vla.models.heads.steps import step_mean, step_positions, step_segment, undecided
from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs, Metrics, Targets
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Prefix, Segment
from vla.models.trunk.vocabulary import TokenTable

_SHORTEST, _LONGEST = 4e-3, 4.0
"""Periods of the sines and cosines of time."""
_ALPHA, _SCALE, _OFFSET = 1.5, 0.999, 0.001
"""Of the times that are learned from: more of them near noise, none at 0, where nothing is left to do."""


class FlowHead(Head):
    """Draws a chunk: of several ways to go on it takes one, as often as it was shown."""

    def __init__(
        self, config: FlowHeadConfig, interface: Interface, trunk: TransformerConfig, teacher: Head | None
    ) -> None:
        super().__init__()
        self.steps, self.passes, self.insulate = config.steps, config.passes, config.insulate
        self._shape = interface.horizon, interface.action
        width = config.width or 2 * -(-trunk.width // 4)
        self.expert = Transformer(replace(trunk, width=width, head_dim=trunk.size, mlp_ratio=config.mlp_ratio))
        self.step_position = step_positions(interface.horizon, width)
        self.embed = nn.Linear(interface.action, width)
        self.mix_in, self.mix_out = nn.Linear(2 * width, width), nn.Linear(width, width)
        self.state = nn.Linear(interface.state, width) if config.state else None
        self.readout = nn.Linear(width, interface.action)
        self.teacher = teacher
        self.ids = teacher.ids if teacher else 0
        self.reads_hidden = teacher is not None and teacher.reads_hidden
        self.room = interface.horizon + config.state
        initialise(self)

    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, targets: Targets, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Mean squared error of the velocity over ``passes`` noised chunks, and the teacher's loss."""
        read = self._behind(prefix.detached() if self.insulate else prefix, inputs).repeated(self.passes)
        # What may not be learned must not be read off a noised chunk either.
        shown = torch.where(targets.valid, targets.actions, 0.0)
        actions = repeat(shown, "b h d -> (p b) h d", p=self.passes)
        noise, times = torch.randn_like(actions), draw_times(len(actions), actions.device)
        x, wanted = path(actions, noise, times)
        asked = repeat(undecided(inputs, self._shape[0]), "b h -> (p b) h", p=self.passes)
        error = (self._velocity(read, asked, x, times) - wanted) ** 2
        loss, metrics = step_mean(rearrange(error, "(p b) h d -> p b h d", p=self.passes).mean(0), inputs, targets)
        if self.teacher is None:
            return loss, metrics
        taught, lesson = self.teacher.loss(trunk, prefix, inputs, targets, table)
        return loss + taught, metrics | {f"teacher_{name}": value for name, value in lesson.items()}

    def blocks(self) -> list[nn.Module]:
        """See `Head.blocks`: the expert's, and what the teacher has."""
        return [*self.expert.blocks, *(self.teacher.blocks() if self.teacher else ())]

    def sample(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        """From the noise of each sample's seed along the field; the teacher has no say."""
        read, asked = self._behind(prefix, inputs), undecided(inputs, self._shape[0])
        seeds = torch.zeros_like(inputs.embodiment) if inputs.seeds is None else inputs.seeds

        def field(x: Tensor, times: Tensor) -> Tensor:
            return self._velocity(read, asked, x, times)

        return euler(field, seeded_normal(seeds, *self._shape), self.steps)

    def _behind(self, prefix: Prefix, inputs: Inputs) -> Prefix:
        """What comes before the actions: the prefix, and the present state where the expert has a token for it."""
        if self.state is None:
            return prefix
        token = self.state(inputs.state[:, -1:])  # (b, 1, e)
        return prefix.extend(self.expert, Segment.of(token, ACTION_BLOCK))[1]

    def _velocity(
        self, prefix: Prefix, asked: Bool[Tensor, "b h"], x: Float[Tensor, "b h d"], times: Float[Tensor, " b"]
    ) -> Float[Tensor, "b h d"]:
        """The field at ``x``: what the expert makes of noised chunks behind what has been read."""
        tokens = self._tokens(x, times) + self.step_position
        hidden, _ = prefix.extend(self.expert, step_segment(tokens, asked, ACTION_BLOCK + 1))
        velocity: Tensor = self.readout(hidden)
        return velocity.float()

    def _tokens(self, x: Float[Tensor, "b h d"], times: Float[Tensor, " b"]) -> Float[Tensor, "b h e"]:
        """Noised actions, and how noised they are."""
        tokens = self.embed(x)
        when = time_features(times, tokens.shape[-1])[:, None].expand_as(tokens).to(tokens.dtype)
        mixed: Tensor = self.mix_out(F.silu(self.mix_in(torch.cat([tokens, when], dim=-1))))
        return mixed


def path(
    actions: Float[Tensor, "b h d"], noise: Float[Tensor, "b h d"], times: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b h d"], Float[Tensor, "b h d"]]:
    """The place at each time on the straight way from noise (time 1) to actions (time 0), and the velocity there."""
    t = times[:, None, None]
    return t * noise + (1 - t) * actions, noise - actions


def draw_times(count: int, device: torch.device) -> Float[Tensor, " b"]:
    """Times to learn from: 0.999 Beta(1.5, 1) + 0.001."""
    # The distribution function of Beta(α, 1) is x ** α, which is inverted without torch.distributions.
    return _SCALE * torch.rand(count, device=device) ** (1 / _ALPHA) + _OFFSET


def time_features(times: Float[Tensor, " b"], width: int) -> Float[Tensor, "b e"]:
    """Sines, then cosines, of periods from 0.004 to 4 that lie evenly on a logarithmic scale; in float32."""
    share = torch.linspace(0, 1, width // 2, device=times.device)
    period = _SHORTEST * (_LONGEST / _SHORTEST) ** share
    angle = times.float()[:, None] * (2 * math.pi / period)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def euler(field: Callable[[Tensor, Tensor], Tensor], x: Float[Tensor, "b h d"], steps: int) -> Float[Tensor, "b h d"]:
    """Follow ``field`` from noise ``x`` at time 1 to actions at time 0."""
    for i in range(steps):
        times = torch.full((len(x),), 1 - i / steps, device=x.device)
        x = x - field(x, times) / steps
    return x
