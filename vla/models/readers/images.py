"""A camera image to a few tokens: convolutions, then pooling by maps of which half are drawn by the instruction.

Each token is a weighted mean of features over the image (TokenLearner, arXiv 2106.11297) together with the mean
position of its weights (spatial softmax, arXiv 1504.00702), so it can say *what* and *where*. One half of the maps is
learned and fixed: they see everything. The other half are text-conditioned queries, the seekers: each reads the
instruction ("which colour comes before *block*?") and looks up what it finds in the features. Their maps are left in
the activations, where an auxiliary can teach them to point. FiLM (arXiv 1709.07871) conditions the features on the
sentence as a whole.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from vla.models.readers.config import ImagesConfig
from vla.models.readers.reader import Activations, Reader
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.points import cell_grid
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable

_OCTAVES = 5


class ImagesReader(Reader):
    """Every camera has weights of its own; every observation of it is read alike."""

    def __init__(self, config: ImagesConfig, interface: Interface, width: int) -> None:
        super().__init__()
        n = len(interface.cameras)
        self.cameras = nn.ModuleList(ImageTokenizer(config, width) for _ in range(n))
        self.position = nn.Parameter(torch.empty(n, config.tokens, width))
        self.time = nn.Parameter(torch.empty(interface.history, width))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """Tokens (t n k), of each observation and camera.

        Leaves the seekers' ``images.scores`` (b, n, k / 2, y, x) and ``images.points`` (b, n, k / 2, 2) of the present.
        """
        t = inputs.images.shape[1]
        words, known = context["text"].x, context["text"].valid
        weight = known[..., None].to(words.dtype)
        sentence = (words * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)  # (b, e)
        words, known, sentence = (part.repeat_interleave(t, dim=0) for part in (words, known, sentence))  # (b t, …)
        tokens, scores, points = [], [], []
        for i, tokenizer in enumerate(self.cameras):
            image = rearrange(inputs.images[:, :, i], "b t y x c -> (b t) y x c")
            of_camera, of_maps, where = tokenizer(image, words, known, sentence)
            tokens.append(rearrange(of_camera + self.position[i], "(b t) k e -> b t k e", t=t))
            scores.append(of_maps[t - 1 :: t])
            points.append(where[t - 1 :: t])
        activations["images.scores"] = torch.stack(scores, dim=1)
        activations["images.points"] = torch.stack(points, dim=1)
        x = torch.stack(tokens, dim=2) + self.time[:, None, None]  # (b, t, n, k, e)
        valid = inputs.observed[:, :, None, None] & inputs.camera_valid[:, None, :, None]
        valid = valid.expand(x.shape[:-1])
        return Segment(
            x=rearrange(x, "b t n k e -> b (t n k) e"), valid=rearrange(valid, "b t n k -> b (t n k)"), block=0
        )


class ImageTokenizer(nn.Module):
    """One camera's frames to ``tokens`` tokens."""

    def __init__(self, config: ImagesConfig, width: int) -> None:
        super().__init__()
        c = config.channels
        self.stem = nn.Conv2d(3, c, 6, stride=4, padding=1)  # overlapping patches
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))
        self.films = nn.ModuleList(nn.Linear(width, 2 * c) for _ in range(2))
        self.score = nn.Conv2d(c, config.tokens, 1)
        self.seekers = nn.Parameter(torch.empty(config.tokens // 2, width))
        self.key = nn.Linear(width, width)
        self.look = nn.Linear(width, c)
        self.project = nn.Linear(c + 2 + 4 * _OCTAVES, width)
        initialise(self)

    def forward(
        self,
        image: UInt8[Tensor, "b y x 3"],
        words: Float[Tensor, "b l e"],
        valid: Bool[Tensor, "b l"],
        condition: Float[Tensor, "b e"],
    ) -> tuple[Float[Tensor, "b k e"], Float[Tensor, "b m rows columns"], Float[Tensor, "b m 2"]]:
        """Tokens of ``image``, scores of the seekers' maps over its cells, and the points (row, column) they mean.

        The image is read in the light of the instruction's ``words`` and their mean ``condition``.
        """
        pixels = rearrange(image, "b y x c -> b c y x").to(condition.dtype) / 127.5 - 1.0
        features = torch.relu(self.stem(pixels))
        for conv, film in zip(self.convs, self.films, strict=True):
            scale, shift = rearrange(film(condition), "b (two c) -> two b c 1 1", two=2)
            features = features + torch.relu(conv(features) * (1 + scale) + shift)
        scores = rearrange(self.score(features), "b k y x -> b k (y x)")
        cells = rearrange(features, "b c y x -> b (y x) c")
        sought = self.look(self._read(words, valid)) @ cells.transpose(1, 2)  # (b, k / 2, p)
        scores = scores + F.pad(sought, (0, 0, 0, scores.shape[1] - sought.shape[1]))
        weights = torch.softmax(scores, dim=-1)
        height, width = features.shape[2:]
        where = weights @ cell_grid(height, width, like=features)  # (b, k, 2)
        tokens: Tensor = self.project(torch.cat([weights @ cells, _waves(where)], dim=-1))
        maps = rearrange(scores[:, : len(self.seekers)], "b m (y x) -> b m y x", y=height)
        return tokens, maps, where[:, : len(self.seekers)]

    def _read(self, words: Float[Tensor, "b l e"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b k e"]:
        """What each seeker picks out of the instruction; of a blank one, nothing."""
        scores = self.seekers @ self.key(words).transpose(1, 2)
        weights = torch.softmax(scores.masked_fill(~valid[:, None], -1e9), dim=-1)
        return weights @ words.masked_fill(~valid[..., None], 0.0)


def _waves(where: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b w"]:
    """Positions with sines and cosines of them (arXiv 2006.10739): positions alone teach millimetres slowly."""
    octaves = 2.0 ** torch.arange(_OCTAVES, device=where.device) * (torch.pi / 2)
    angles = rearrange(where[..., None] * octaves, "... two o -> ... (two o)")
    return torch.cat([where, angles.sin(), angles.cos()], dim=-1)
