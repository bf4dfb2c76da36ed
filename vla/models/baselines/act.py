"""Action Chunking with Transformers (arXiv 2304.13705): a chunk by regression, of the ways to do it the mean one.

    training    [ cls | state | actions (h) ] ─▶ style ─┐
                                                        ▼
    always      [ style | state (t) | text | features of all cameras (t n h w) ] ─▶ encoder ─▶ decoder ─▶ actions (h)

A chunk can be done in several ways, so in training a style is read off the chunk itself (a variational autoencoder),
and kept near a standard normal; acting takes its mean, 0. The original knows no instruction; here it is a token, and
conditions the convolutions, which are small, trained from scratch and shared by the cameras.
"""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.models.baselines.observing import Camera, Sentence, known_rows
from vla.models.kinds.baselines import ActConfig
from vla.models.model import Model
from vla.models.trunk.inputs import Inputs, Metrics, Prediction, Targets, measured
from vla.models.trunk.interface import Interface


class Act(Model):
    """Reads observations, writes a chunk in one pass."""

    config: ActConfig

    def __init__(self, config: ActConfig, interface: Interface) -> None:
        super().__init__()
        width = config.width
        self.config, self.interface = config, interface
        self.sentence = Sentence(interface.words, width)
        self.camera = Camera(config.channels, width)
        self.cells = nn.Linear(config.channels[-1], width)
        self.view = nn.Parameter(torch.zeros(len(interface.cameras), width))
        self.time = nn.Parameter(torch.zeros(interface.history, width))
        self.state = nn.Linear(interface.state, width)
        self.embodiment = nn.Parameter(torch.zeros(interface.embodiments, width))
        self.style_in = nn.Linear(config.style, width)
        # Behind the inputs: the chunk, its state and a token that sums both up, while training.
        self.style_token = nn.Parameter(0.02 * torch.randn(width))
        self.step = nn.Parameter(0.02 * torch.randn(interface.horizon, width))
        self.action_in = nn.Linear(interface.action, width)
        self.style_encoder = nn.TransformerEncoder(self._layer(), 2, enable_nested_tensor=False)
        self.style_out = nn.Linear(width, 2 * config.style)
        self.encoder = nn.TransformerEncoder(self._layer(), config.encoder_layers, enable_nested_tensor=False)
        decoder = nn.TransformerDecoderLayer(width, config.heads, 4 * width, 0.1, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(decoder, config.decoder_layers, nn.LayerNorm(width))
        self.query = nn.Parameter(0.02 * torch.randn(interface.horizon, width))
        self.readout = nn.Linear(width, interface.action)

    def _layer(self) -> nn.TransformerEncoderLayer:
        width, heads = self.config.width, self.config.heads
        return nn.TransformerEncoderLayer(width, heads, 4 * width, 0.1, batch_first=True, norm_first=True)

    def loss(self, inputs: Inputs, targets: Targets) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Model.loss`: the absolute error, and how far the style is from a standard normal."""
        mean, log_variance = self._style(inputs, targets).chunk(2, dim=-1)  # (b, z) each
        style = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        actions = self._write(inputs, style if self.training else torch.zeros_like(mean))
        weight = targets.valid.to(actions.dtype)
        error = torch.where(targets.valid, (actions - targets.actions).abs(), 0.0).sum() / weight.sum().clamp(min=1)
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(dim=-1).mean()
        metrics = {"action_loss": measured(error, weight), "style_divergence": divergence.detach()}
        return error + self.config.kl_weight * divergence, metrics

    def predict(self, inputs: Inputs) -> Prediction:
        """See `Model.predict`: with the style's mean."""
        return Prediction(actions=self._write(inputs, inputs.state.new_zeros(len(inputs), self.config.style)))

    def rows(self, words: Sequence[str], robots: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """See `Model.rows`."""
        return known_rows(self, words, robots)

    def _style(self, inputs: Inputs, targets: Targets) -> Float[Tensor, "b z"]:
        """Mean and logarithm of the variance, one behind the other."""
        token = repeat(self.style_token, "e -> b 1 e", b=len(inputs))
        state = self.state(inputs.state[:, -1:])
        # What may not be learned is not read either: a step past the end of its episode says nothing of the way.
        known = targets.valid.any(dim=-1)
        steps = self.action_in(torch.where(targets.valid, targets.actions, 0.0)) + self.step
        unseen = torch.cat([known.new_zeros(len(inputs), 2), ~known], dim=1)
        read = self.style_encoder(torch.cat([token, state, steps], dim=1), src_key_padding_mask=unseen)
        style: Tensor = self.style_out(read[:, 0])
        return style

    def _write(self, inputs: Inputs, style: Float[Tensor, "b z"]) -> Float[Tensor, "b h d"]:
        tokens, unseen = self._read(inputs, style)
        memory = self.encoder(tokens, src_key_padding_mask=unseen)
        queries = repeat(self.query, "h e -> b h e", b=len(inputs))
        written: Tensor = self.readout(self.decoder(queries, memory, memory_key_padding_mask=unseen))
        return written.float()

    def _read(self, inputs: Inputs, style: Float[Tensor, "b z"]) -> tuple[Float[Tensor, "b l e"], Bool[Tensor, "b l"]]:
        """The encoder's tokens, and which of them are padding."""
        b, t, n = inputs.images.shape[:3]
        sentence = self.sentence(inputs.text, inputs.text_valid)
        image = rearrange(inputs.images, "b t n y x c -> (b t n) y x c")
        features = self.camera(image, repeat(sentence, "b e -> (b t n) e", t=t, n=n))
        cells = self.cells(rearrange(features, "k c h w -> k (h w) c")) + _places(features, self.config.width)
        cells = rearrange(cells, "(b t n) p e -> b t n p e", b=b, t=t)
        cells = cells + self.view[:, None] + self.time[:, None, None]
        seen = inputs.observed[:, :, None, None] & inputs.camera_valid[:, None, :, None]
        seen = seen.expand(cells.shape[:-1])
        state = self.state(inputs.state) + self.time + self.embodiment[inputs.embodiment][:, None]
        tokens = [self.style_in(style)[:, None], sentence[:, None], state, rearrange(cells, "b t n p e -> b (t n p) e")]
        valid = [seen.new_ones(b, 2), inputs.observed, rearrange(seen, "b t n p -> b (t n p)")]
        return torch.cat(tokens, dim=1), ~torch.cat(valid, dim=1)


def _places(features: Float[Tensor, "b c h w"], width: int) -> Float[Tensor, "p e"]:
    """Sines and cosines of row and column (arXiv 2005.12872), half of the width each."""
    angles = []
    for length in features.shape[2:]:
        place = (torch.arange(length, device=features.device) + 0.5) / length * 2 * torch.pi
        frequency = 10_000.0 ** -torch.linspace(0, 1, -(-width // 4), device=features.device)
        angle = place[:, None] * frequency
        angles.append(torch.cat([angle.sin(), angle.cos()], dim=-1))
    rows, columns = angles
    grid = torch.cat([rows[:, None].expand(-1, len(columns), -1), columns.expand(len(rows), -1, -1)], dim=-1)
    return rearrange(grid, "h w e -> (h w) e")[:, :width].to(features.dtype)
