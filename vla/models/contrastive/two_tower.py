"""Two towers, one space: pictures and sentences become vectors of length one, and those that belong together lie near.

    picture of the camera ─▶ tower ─▶ vector (e) ─┐
                                                  ├─▶ contrastive loss over the batch
    caption, or what is to be done ─▶ tower ──────┘
    pictures of all cameras, sentence ─▶ vectors ─┐
                                           state ─┴─▶ network ─▶ actions (h, d)

The two never see each other before they are vectors, so pictures are embedded once and found by any sentence later
(CLIP, arXiv 2103.00020). That is also all that acting has: what to do and what there is are known by their vectors
alone, which is what this paradigm costs a robot.

A sentence may be true of other pictures of the batch too, and still be told from theirs: what is learned is how much
more likely a sentence is with a picture than without (arXiv 1807.03748, section 2.3).
"""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vla.core.errors import ConfigError
from vla.models.contrastive.exchange import sentence_ids
from vla.models.kinds.two_tower import TwoTowerConfig
from vla.models.model import Model
from vla.models.trunk.initialisation import account, initialise
from vla.models.trunk.inputs import Inputs, Metrics, Prediction, Targets, measured
from vla.models.trunk.interface import Interface

Sentences = tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]
"""Words as ids, and which of them are of the sentence."""


class TwoTower(Model):
    """Embeds pictures and sentences, and acts by their vectors."""

    config: TwoTowerConfig

    def __init__(self, config: TwoTowerConfig, interface: Interface) -> None:
        super().__init__()
        self.config, self.interface = config, interface
        e = config.embedding
        self.longest = longest = max(interface.text, interface.answer)
        self.pictures = config.pictures.build(interface, e)
        self.sentences = config.sentences.build(interface, longest, e)
        self.contrast = config.loss.build() if config.contrast else None
        self.acting = Acting(config, interface) if config.action else None
        # A batch may be one of captions alone.
        self.all_taught = not config.written or self.acting is None
        account(self)

    def loss(self, inputs: Inputs, targets: Targets) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Model.loss`: of what belongs together, and of actions."""
        terms, metrics = self.terms(inputs, targets)
        return sum(terms.values(), inputs.state.new_zeros(())), metrics

    def terms(self, inputs: Inputs, targets: Targets) -> tuple[dict[str, Float[Tensor, ""]], Metrics]:
        """See `Model.terms`."""
        said = spoken_of(inputs, targets)
        texts = self.texts(*said)
        doing = targets.acting
        doing = torch.arange(len(inputs), device=texts.device) if doing is None else doing
        terms: dict[str, Float[Tensor, ""]] = {}
        metrics: Metrics = {"action_loss": inputs.state.new_tensor(torch.nan)}
        seen = None
        if self.acting is not None and len(doing):
            own, known = inputs[doing], targets[doing]
            seen = self.see(own)
            error, metrics["action_loss"] = self.acting.loss(seen, texts[doing], own, known)
            terms["action"] = self.config.action * error
        if self.contrast is not None:
            images = self._views(inputs, doing, seen)
            ids = sentence_ids(*said)
            terms["contrast"] = self.config.contrast * self.contrast(images, texts, ids if self.config.alike else None)
            metrics["contrast_loss"] = terms["contrast"].detach() / self.config.contrast
            metrics["recall_at_1"] = recall(images.detach(), texts.detach(), ids)
        return terms, metrics

    def shared(self) -> list[nn.Parameter]:
        """See `Model.shared`: the towers."""
        return [p for p in [*self.pictures.parameters(), *self.sentences.parameters()] if p.requires_grad]

    def predict(self, inputs: Inputs) -> Prediction:
        """See `Model.predict`."""
        if self.acting is None:
            raise ConfigError("this two-tower model was trained with model.action=0: it embeds, and does not act")
        return Prediction(actions=self.acting(self.see(inputs), self.texts(inputs.text, inputs.text_valid), inputs))

    def images(self, pictures: UInt8[Tensor, "b y x 3"], camera: Int64[Tensor, " b"]) -> Float[Tensor, "b e"]:
        """Vectors of length one, of pictures that were seen through their ``camera``."""
        return F.normalize(self.pictures(pictures, camera).float(), dim=-1)

    def texts(self, text: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        """Vectors of length one, of sentences."""
        return F.normalize(self.sentences(text, valid).float(), dim=-1)

    def see(self, inputs: Inputs) -> Float[Tensor, "b t n e"]:
        """All pictures; zeros for those that are not there."""
        b, t, n = inputs.images.shape[:3]
        camera = repeat(torch.arange(n, device=inputs.images.device), "n -> (b t n)", b=b, t=t)
        vectors = self.images(rearrange(inputs.images, "b t n y x c -> (b t n) y x c"), camera)
        there = inputs.observed[:, :, None, None] & inputs.camera_valid[:, None, :, None]
        return rearrange(vectors, "(b t n) e -> b t n e", b=b, t=t) * there

    def begin(self) -> None:
        """See `Model.begin`: towers that were trained elsewhere."""
        self.pictures.begin()
        self.sentences.begin(self.config.tokenizer)

    def meaning(self, name: str) -> str:
        """See `Model.meaning`: what sees here is what sees for a language model (`vla.models.readers.connected`)."""
        for own, there in (("pictures.stem.", "stem."), ("pictures.tower.tower.", "")):  # of `places`, of a ViT
            if name.startswith(own):
                return f"readers.images.tower.{there}{name.removeprefix(own)}"
        return name

    def rows(self, words: Sequence[str], robots: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """See `Model.rows`."""
        own = self.state_dict()
        text = [f"text {word}" for word in words]
        known = {
            "sentences.words.weight": text,
            "sentences.tower.words.weight": text,
            "sentences.position": [f"place {i}" for i in range(self.longest)],
            "pictures.view": [f"camera {name or i}" for i, name in enumerate(self.interface.cameras)],
            "acting.embodiment": [f"robot {robot}" for robot in robots],
        }
        return {name: rows for name, rows in known.items() if name in own and len(own[name]) == len(rows)}

    def blocks(self) -> list[nn.Module]:
        """See `Model.blocks`: of the towers."""
        return [*self.pictures.units(), *self.sentences.units()]

    def _views(
        self, inputs: Inputs, doing: Int64[Tensor, " r"], seen: Float[Tensor, "r t n e"] | None
    ) -> Float[Tensor, "b e"]:
        """What the one camera sees now, without looking twice at what acting has seen."""
        camera, rows = self.config.camera, torch.arange(len(inputs), device=inputs.images.device)
        if seen is not None:
            rows = rows[torch.isin(rows, doing, invert=True)]
        found = []
        if len(rows):
            found.append(self.images(inputs.images[rows, -1, camera], torch.full_like(rows, camera)))
        if seen is not None:
            found.append(seen[:, -1, camera])
            rows = torch.cat([rows, doing])
        return torch.cat(found)[rows.argsort()]


class Acting(nn.Module):
    """From vectors and state to a chunk, by a few layers that add to each other (as of arXiv 2502.19645)."""

    def __init__(self, config: TwoTowerConfig, interface: Interface) -> None:
        super().__init__()
        hidden = config.hidden
        self.horizon, self._scale = interface.horizon, config.embedding**0.5
        looks = interface.history * len(interface.cameras)
        self.inward = nn.Linear((looks + 1) * config.embedding + interface.history * interface.state, hidden)
        self.embodiment = nn.Parameter(torch.empty(interface.embodiments, hidden))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))
            for _ in range(config.layers)
        )
        self.outward = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, interface.horizon * interface.action))
        initialise(self)

    def forward(
        self, seen: Float[Tensor, "b t n e"], texts: Float[Tensor, "b e"], inputs: Inputs
    ) -> Float[Tensor, "b h d"]:
        """The chunk; vectors are brought to where each number is about one."""
        vectors = torch.cat([rearrange(seen, "b t n e -> b (t n e)"), texts], dim=-1) * self._scale
        state = rearrange(inputs.state * inputs.observed[..., None], "b t s -> b (t s)")
        x = self.inward(torch.cat([vectors, state], dim=-1)) + self.embodiment[inputs.embodiment]
        for layer in self.layers:
            x = x + layer(x)
        chunk: Tensor = rearrange(self.outward(x), "b (h d) -> b h d", h=self.horizon)
        return chunk.float()

    def loss(
        self, seen: Float[Tensor, "b t n e"], texts: Float[Tensor, "b e"], inputs: Inputs, targets: Targets
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The mean absolute error over what may be learned, and the same as a metric."""
        weight = targets.valid.to(texts.dtype)
        apart = (self(seen, texts, inputs) - targets.actions).abs()
        error = torch.where(targets.valid, apart, 0.0).sum() / weight.sum().clamp(min=1)
        return error, measured(error, weight)


def spoken_of(inputs: Inputs, targets: Targets) -> Sentences:
    """What is paired with each picture: the answer where something is asked, else what is to be done."""
    text, valid = inputs.text, inputs.text_valid
    if (answers := targets.written.get("answer")) is None:
        return text, valid
    asked, length = answers.known.any(dim=1)[:, None], max(text.shape[1], answers.value.shape[1])
    answer, known, text, valid = (
        F.pad(part, (0, length - part.shape[1])) for part in (answers.value, answers.known, text, valid)
    )
    text, valid = torch.where(asked, answer, text), torch.where(asked, known, valid)
    longest = int(valid.sum(dim=1).max())  # padding that all have says nothing, and takes as long as words
    return text[:, :longest], valid[:, :longest]


def recall(images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], ids: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
    """The share of sentences whose nearest picture is one of theirs, among those of the batch."""
    nearest = (texts @ images.mT).argmax(dim=1)
    return (ids[nearest] == ids).float().mean()
