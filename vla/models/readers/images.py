"""A camera image to a few tokens: convolutions, then pooling by maps of which half are drawn by the instruction.

The instruction is what the readers that are asked have made of it, written or spoken: "words" are their tokens.

Each token is a weighted mean of features over the image (TokenLearner, arXiv 2106.11297) together with the mean
position of its weights (spatial softmax, arXiv 1504.00702), so it can say *what* and *where*. One half of the maps is
learned and fixed: they see everything. The other half are text-conditioned queries, the seekers: each reads the
instruction ("which colour comes before *block*?") and looks up what it finds in the features. Their maps are left in
the activations, where an auxiliary can teach them to point. FiLM (arXiv 1709.07871) conditions the features on the
sentence as a whole.

What a first look cannot tell is a relation: "the left block" is known only when both have been seen. So there may be
a second look. A transformer layer lets the words and the first tokens of all cameras see each other, and each of its
outputs is a new query over the cells of its own camera, pooled by the same code::

    words ───▶ seekers ─▶ scores ─▶ pool ─▶ tokens ─┐
    picture ─▶ features ─────▲───────▲              ├─ mixed with the words ─▶ queries ─▶ scores ─▶ pool ─▶ + ─▶ tokens
                             └───────┴──────────────┴────────────────────────────────────────▲───────▲

And what words cannot name at all, "the plate of that colour", is found by likeness: a further look may add to its
queries the very features that the look before has found, with weights of either sign. To see that two things look
alike is then a product that is there from the start, and not a table of colours learned by heart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from vla.models.readers.config import ImagesConfig
from vla.models.readers.reader import Activations, Reader
from vla.models.trunk.attention import Transformer, attention_mask
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.points import WAVES, cell_grid, waves
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable


@dataclass(frozen=True, kw_only=True)
class Look:
    """What pooling found in one camera's frames."""

    tokens: Float[Tensor, "b k e"]
    found: Float[Tensor, "b k c"]
    """The features that the maps pooled, as differences from the picture's mean."""
    maps: Float[Tensor, "b m rows columns"]
    """Scores over the cells, of the maps that can be taught to point."""
    points: Float[Tensor, "b m 2"]
    """The (row, column) that these mean."""


class ImagesReader(Reader):
    """Every camera has weights of its own, or all share one encoder; every observation of a camera is read alike."""

    def __init__(self, config: ImagesConfig, interface: Interface, width: int) -> None:
        super().__init__()
        n = len(interface.cameras)
        if config.shared:
            self.encoder = ImageTokenizer(config, width, finds=n * config.tokens)
            self.view = Views(n, width)
        else:
            self.cameras = nn.ModuleList(ImageTokenizer(config, width, finds=config.tokens) for _ in range(n))
        size = TransformerConfig(width=width, layers=1, heads=config.heads)
        self.mixers = nn.ModuleList(Transformer(size) for _ in range(config.looks - 1))
        self.position = nn.Parameter(torch.empty(n, config.tokens, width))
        self.time = nn.Parameter(torch.empty(interface.history, width))
        self._shared, self._asks = config.shared, config.asks
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """Tokens (t n k), of each observation and camera.

        Leaves of the present the ``images.scores`` (b, r, n, k / 2, y, x) of each look, whose number is r, and the
        ``images.points`` (b, n, k / 2, 2) of the last one.
        """
        t = inputs.images.shape[1]
        asked = [context[name] for name in self._asks]
        words, known = (torch.cat([getattr(part, what) for part in asked], dim=1) for what in ("x", "valid"))
        weight = known[..., None].to(words.dtype)
        sentence = (words * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)  # (b, e)
        words, known, sentence = (part.repeat_interleave(t, dim=0) for part in (words, known, sentence))  # (b t, …)
        valid = (inputs.observed[:, :, None] & inputs.camera_valid[:, None])[..., None]  # (b, t, n, 1)
        valid = rearrange(valid.expand(*valid.shape[:3], self.position.shape[1]), "b t n k -> (b t) (n k)")

        images = rearrange(inputs.images, "b t n y x c -> n (b t) y x c")
        encoders = [self._encoder(i) for i in range(len(images))]
        features = [
            encoder.see(image, self._condition(sentence, i))
            for i, (encoder, image) in enumerate(zip(encoders, images, strict=True))
        ]
        looks = [encoder.first(seen, words, known) for encoder, seen in zip(encoders, features, strict=True)]
        x = _side_by_side(looks) + self.position  # (b t, n, k, e)
        maps = [_maps(looks, t)]
        for number, mixer in enumerate(self.mixers):
            assert isinstance(mixer, Transformer)
            sought = _mixed(mixer, words, known, x, valid)
            found = self._comparable(looks)
            looks = [
                encoder.further(number, seen, sought[:, i], found[i])
                for i, (encoder, seen) in enumerate(zip(encoders, features, strict=True))
            ]
            x = sought + _side_by_side(looks)
            maps.append(_maps(looks, t))
        activations["images.scores"] = torch.stack(maps, dim=1)
        activations["images.points"] = torch.stack([look.points[t - 1 :: t] for look in looks], dim=1)
        x = rearrange(x, "(b t) n k e -> b t n k e", t=t) + self.time[:, None, None]
        return Segment(
            x=rearrange(x, "b t n k e -> b (t n k) e"), valid=rearrange(valid, "(b t) nk -> b (t nk)", t=t), block=0
        )

    def _encoder(self, camera: int) -> "ImageTokenizer":
        encoder = self.encoder if self._shared else self.cameras[camera]
        assert isinstance(encoder, ImageTokenizer)
        return encoder

    def _comparable(self, looks: list[Look]) -> list[Float[Tensor, "b f c"]]:
        """What each camera's next look may compare with: encoders of their own have features of their own."""
        every = torch.cat([look.found for look in looks], dim=1)
        return [every if self._shared else look.found for look in looks]

    def _condition(self, sentence: Float[Tensor, "b e"], camera: int) -> Float[Tensor, "b e"]:
        """What the features are conditioned on: of a shared encoder, the view too."""
        return sentence + self.view.weight[camera] if self._shared else sentence


def _side_by_side(looks: list[Look]) -> Float[Tensor, "b n k e"]:
    return torch.stack([look.tokens for look in looks], dim=1)


def _maps(looks: list[Look], t: int) -> Float[Tensor, "b n m rows columns"]:
    """Those of the present, the last of ``t`` observations."""
    return torch.stack([look.maps[t - 1 :: t] for look in looks], dim=1)


def _mixed(
    mixer: Transformer,
    words: Float[Tensor, "b l e"],
    known: Bool[Tensor, "b l"],
    tokens: Float[Tensor, "b n k e"],
    valid: Bool[Tensor, "b nk"],
) -> Float[Tensor, "b n k e"]:
    """The tokens of all cameras after they and the words have seen each other."""
    sequence = torch.cat([words, rearrange(tokens, "b n k e -> b (n k) e")], dim=1)
    seen = torch.cat([known, valid], dim=1)
    hidden, _ = mixer(sequence, attention_mask(torch.zeros_like(seen, dtype=torch.long), seen))
    mixed: Tensor = rearrange(hidden[:, words.shape[1] :], "b (n k) e -> b n k e", n=tokens.shape[1])
    return mixed


class ImageTokenizer(nn.Module):
    """One camera's frames to ``tokens`` tokens, in one look or several."""

    def __init__(self, config: ImagesConfig, width: int, *, finds: int) -> None:
        """``finds`` are the maps of a look that a further one may compare with."""
        super().__init__()
        c = config.channels
        self.stem = nn.Conv2d(3, c, 6, stride=4, padding=1)  # overlapping patches
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))
        self.films = nn.ModuleList(nn.Linear(width, 2 * c) for _ in range(2))
        self.score = nn.Conv2d(c, config.tokens, 1)
        self.seekers = nn.Parameter(torch.empty(config.tokens // 2, width))
        self.key = nn.Linear(width, width)
        self.look = nn.Linear(width, c)
        self.project = nn.Linear(c + WAVES, width)
        self.place = nn.Linear(WAVES, c) if config.coordinates else None
        self.again = nn.ModuleList(FurtherLook(c, width, finds * config.likeness) for _ in range(config.looks - 1))
        initialise(self)

    def see(
        self, image: UInt8[Tensor, "b y x 3"], condition: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b c rows columns"]:
        """Features of each cell of the image, in the light of the instruction's mean ``condition``."""
        pixels = rearrange(image, "b y x c -> b c y x").to(condition.dtype) / 127.5 - 1.0
        features = torch.relu(self.stem(pixels))
        for conv, film in zip(self.convs, self.films, strict=True):
            scale, shift = rearrange(film(condition), "b (two c) -> two b c 1 1", two=2)
            features = features + torch.relu(conv(features) * (1 + scale) + shift)
        if self.place is not None:
            height, width = features.shape[2:]
            places = self.place(waves(cell_grid(height, width, like=features)))  # (p, c)
            features = features + rearrange(places, "(y x) c -> c y x", y=height)
        return features

    def first(
        self, features: Float[Tensor, "b c rows columns"], words: Float[Tensor, "b l e"], valid: Bool[Tensor, "b l"]
    ) -> Look:
        """By maps of which half are learned and fixed, and half seek what the ``words`` say."""
        scores = rearrange(self.score(features), "b k y x -> b k (y x)")
        sought = self.look(self._read(words, valid)) @ rearrange(features, "b c y x -> b c (y x)")  # (b, k / 2, p)
        scores = scores + F.pad(sought, (0, 0, 0, scores.shape[1] - sought.shape[1]))
        return self._pool(features, scores, self.project)

    def further(
        self,
        number: int,
        features: Float[Tensor, "b c rows columns"],
        asked: Float[Tensor, "b k e"],
        found: Float[Tensor, "b f c"],
    ) -> Look:
        """Look ``number + 2``, by a map for each of the queries ``asked``, in the light of what was ``found``."""
        again = self.again[number]
        assert isinstance(again, FurtherLook)
        scores = again(asked, found) @ rearrange(features, "b c y x -> b c (y x)")
        return self._pool(features, scores, again.project)

    def _pool(
        self, features: Float[Tensor, "b c rows columns"], scores: Float[Tensor, "b k p"], project: nn.Module
    ) -> Look:
        """Each map's mean features and mean position to a token."""
        height, width = features.shape[2:]
        weights = torch.softmax(scores, dim=-1)
        where = weights @ cell_grid(height, width, like=features)  # (b, k, 2)
        pooled = weights @ rearrange(features, "b c y x -> b (y x) c")
        m = len(self.seekers)
        return Look(
            tokens=project(torch.cat([pooled, waves(where)], dim=-1)),
            found=pooled - features.mean(dim=(2, 3))[:, None],
            maps=rearrange(scores[:, :m], "b m (y x) -> b m y x", y=height),
            points=where[:, :m],
        )

    def _read(self, words: Float[Tensor, "b l e"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b k e"]:
        """What each seeker picks out of the instruction; of a blank one, nothing."""
        scores = self.seekers @ self.key(words).transpose(1, 2)
        weights = torch.softmax(scores.masked_fill(~valid[:, None], -1e9), dim=-1)
        return weights @ words.masked_fill(~valid[..., None], 0.0)


class Views(nn.Module):
    """Which camera a shared encoder looks through, (n, e)."""

    def __init__(self, cameras: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cameras, width))
        initialise(self)


class FurtherLook(nn.Module):
    """What one camera's further look has of its own: from queries to maps, and from what they pool to tokens."""

    def __init__(self, channels: int, width: int, finds: int) -> None:
        super().__init__()
        self.look = nn.Linear(width, channels)
        self.project = nn.Linear(channels + WAVES, width)
        self.likeness = Likeness(channels, width, finds) if finds else None
        initialise(self)

    def forward(self, asked: Float[Tensor, "b k e"], found: Float[Tensor, "b f c"]) -> Float[Tensor, "b k c"]:
        """Queries: what is asked for by itself, and by its likeness to what was found."""
        query: Tensor = self.look(asked)
        return query if self.likeness is None else query + self.likeness(asked, found)


class Likeness(nn.Module):
    """Queries for what looks like, or unlike, what was found."""

    def __init__(self, channels: int, width: int, finds: int) -> None:
        super().__init__()
        self.weights = nn.Linear(width, finds)
        self.metric = nn.Linear(channels, channels, bias=False)
        initialise(self)

    def forward(self, asked: Float[Tensor, "b k e"], found: Float[Tensor, "b f c"]) -> Float[Tensor, "b k c"]:
        """Sums of what was found, scaled as attention is."""
        like: Tensor = self.weights(asked) @ (found + self.metric(found)) / found.shape[-1] ** 0.5
        return like
