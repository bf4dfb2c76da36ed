"""The unified transformer: instruction, cameras, state, what is believed, and actions as one token sequence.

    [ text (l) | images (t n k) | state (t) | grounding (1) | committed | actions (h, or h d) ]
      block 0                                 block 1         block 2     block 3 and later

Readers write the inputs, auxiliaries add what the data teaches beside actions, a head writes the actions, and writers
what else can be said, in the place of actions; each is one file, chosen by the configuration. How every parameter
begins, by class (`vla.models.trunk.initialisation` applies it; a number alone is that, after ± it is a deviation from
zero, and layers of PyTorch begin as PyTorch's):

    TokenTable      weight ±0.02
    Norm            weight neutral (1, or 0 where 1 is added to it)
    Block           out.weight, down.weight ±0.02 / sqrt(additions), of which each layer makes two
    TextReader      position ±0.02
    SoundReader     position ±0.02
    StateReader     position ±0.02, time 0, embodiment 0
    StateBinsReader time 0, embodiment 0
    PatchesReader   time 0
    CodesReader     time 0
    ImagesReader    position ±0.02, time 0
    ImageTokenizer  score.weight ±0.6, seekers ±0.5, look.weight ±1.8 / sqrt(inputs), films.* 0
    FurtherLook     look.weight ±0.5 / sqrt(inputs)
    Likeness        weights.* 0, metric.weight 0
    Views           weight ±0.02
    Grounding       position ±0.02
    Matching        position ±0.02
    Saying          position ±0.02
    BinsHead        step_position ±0.02, joint_position ±0.02
    TokensHead      position ±0.02
    MaskedHead      position ±0.02
    L1Head          step_position ±0.02
    MipHead         step_position ±0.02, refine ±0.02
    FlowHead        step_position ±0.02
    CommittedReader position ±0.02
    TextWriter      position ±0.02
    LayerScale      weight 1
    HfTowerReader   time 0
    ConnectedReader time 0
    GatedCrossAttention attention_opening 0, mlp_opening 0
    Resampler       latents ±1
    Compressor      queries ±0.02
    LoraLinear      lora_a ±0.58 / sqrt(inputs), lora_b 0

and of the two towers that stand beside it (`vla.models.contrastive`):

    AttentionPool   query ±1 / sqrt(inputs)
    TransformerTower words.weight ±0.02, position.weight ±0.01
    PictureTower    score.weight ±0.6, token ±0.02, view 0
    ProjectedPictures view 0
    SentenceTower   words.weight ±0.1, position ±0.1
    Acting          embodiment 0
    Learned         value neutral
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.models.auxiliaries.auxiliary import Auxiliary
from vla.models.committed import CommittedReader, kept
from vla.models.fusion.gated import GatedLayers
from vla.models.grafting import graft
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.models.readers.reader import Activations, Reader
from vla.models.trunk.attention import Transformer
from vla.models.trunk.initialisation import account
from vla.models.trunk.inputs import Inputs, Metrics, Prediction, Targets, Written
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Prefix, Reading, Segment, causal, joined
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary
from vla.models.writers.writer import Writer

_CAMERAS = "readers.images.cameras."


class UnifiedTransformer(Model):
    """Reads observations and writes action chunks through one vocabulary."""

    config: UnifiedConfig

    def __init__(self, config: UnifiedConfig, interface: Interface, fitted: Mapping[str, Any]) -> None:
        super().__init__()
        width = config.trunk.width
        self.config, self.interface = config, interface
        made = fitted.get("readers", {})
        readers = {n: c.build(interface, width, made.get(n, {})) for n, c in config.readers.items()}
        self.readers: Mapping[str, Reader] = _named(readers)
        # A weight of zero, or data without the signal: then nothing is built, and the checkpoint has no untaught part.
        offered = {name: c for name, c in config.auxiliaries.items() if c.weight and interface.signals.get(c.signal)}
        self.auxiliaries: Mapping[str, Auxiliary] = _named({n: c.build(interface, width) for n, c in offered.items()})
        self.head = config.head.build(interface, config.trunk, fitted.get("head", {}))
        made = fitted.get("writers", {})
        writers = {n: c.build(interface, width, made.get(n, {})) for n, c in config.writers.items()}
        self.writers: Mapping[str, Writer] = _named(writers)
        vocabulary = Vocabulary(self._ranges())
        self.table = TokenTable(vocabulary, width, scale=config.trunk.embedding_scale, z_loss=config.z_loss)
        between = GatedLayers(config.trunk, every=config.cross_every) if config.cross_every else None
        self.trunk = Transformer(config.trunk, between)
        self.committed = (
            CommittedReader(config.committed, config.committed_noise, interface, width) if config.committed else None
        )
        asked = (auxiliary.segment(1, self.table) for auxiliary in self.auxiliaries.values())
        self.all_taught = self.head.reads_hidden or any(segment is not None for segment in asked)
        # Neither need a batch have something for each writer, nor anybody in it speak.
        self.all_taught &= not writers and not config.listens
        account(self)

    def loss(self, inputs: Inputs, targets: Targets) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Model.loss`: the head's loss, and that of each auxiliary by its weight."""
        terms, metrics = self.terms(inputs, targets)
        return sum(terms.values(), inputs.state.new_zeros(())), metrics

    def terms(self, inputs: Inputs, targets: Targets) -> tuple[dict[str, Float[Tensor, ""]], Metrics]:
        """See `Model.terms`: of the head, and of each auxiliary by its name.

        Each is a mean over its own tokens, times its own weight, so none weighs less where another has more of them.
        """
        if self.committed is not None and self.training and inputs.committed is None:
            inputs = replace(inputs, committed=self.committed.draw(targets))
        segments, activations = self._read_inputs(inputs)
        reading = Reading(self.trunk, segments)
        prefix = self._behind(reading, activations)
        terms: dict[str, Float[Tensor, ""]] = {}
        metrics: Metrics = {}
        if (acting := targets.acting) is None:
            terms["action"], metrics = self.head.loss(self.trunk, prefix, inputs, targets, self.table)
        elif len(acting):  # where something is asked, nothing is done
            own = prefix.rows(acting), inputs[acting], targets[acting]
            terms["action"], metrics = self.head.loss(self.trunk, *own, self.table)
        for name, writer in self.writers.items():
            written = targets.written.get(writer.target)
            metrics |= dict.fromkeys(writer.measures, inputs.state.new_tensor(torch.nan))  # whatever is in this batch
            if written is not None and len(rows := written.rows):
                loss, found = writer.loss(self.trunk, prefix.rows(rows), inputs[rows], written[rows], self.table)
                terms[name] = writer.weight * loss
                metrics |= found
        # What readers left (score maps) and what the trunk made of each segment (b, q, e), by the same names.
        activations |= reading.hidden
        for name, auxiliary in self.auxiliaries.items():
            loss, found = auxiliary.loss(activations, targets.signals[auxiliary.signal], self.table)
            terms[name] = auxiliary.weight * loss
            metrics |= found
        return terms, metrics

    def shared(self) -> list[nn.Parameter]:
        """See `Model.shared`: readers, table and trunk, without what the head and auxiliaries have of their own."""
        own = ("head.", "auxiliaries.", "writers.")
        return [p for name, p in self.named_parameters() if p.requires_grad and not name.startswith(own)]

    def predict(self, inputs: Inputs) -> Prediction:
        """See `Model.predict`: everything before the actions is read once, and the head writes behind it."""
        segments, activations = self._read_inputs(inputs)
        reading = self._reading(segments, self.head.room)
        actions = self.head.sample(self.trunk, self._behind(reading, activations), inputs, self.table)
        activations |= reading.hidden
        if inputs.committed is not None:
            actions = kept(inputs.committed, actions)
        beliefs = {a.signal: a.predict(activations, self.table) for a in self.auxiliaries.values()}
        return Prediction(actions=actions, signals=beliefs)

    def write(self, name: str, inputs: Inputs) -> Written:
        """See `Model.write`."""
        writer = lookup("writer of this model", name, dict(self.writers.items()))
        segments, activations = self._read_inputs(inputs)
        prefix = self._behind(self._reading(segments, writer.room), activations)
        return writer.write(self.trunk, prefix, inputs, self.table)

    def begin(self) -> None:
        """See `Model.begin`: what trunk, readers and writers are said to begin with."""
        if self.config.graft:
            graft(self.trunk, self.table, self.config.graft)
        for part in self._made().values():
            part.begin()

    def meaning(self, name: str) -> str:
        """See `Model.meaning`: an image tokenizer is its camera's, what was made elsewhere is what made it."""
        for place, part in self._made().items():
            for own, meaning in part.meanings().items():
                if name.startswith(prefix := f"{place}.{own}."):
                    return f"{place}.{meaning}.{name.removeprefix(prefix)}"
        before, found, after = name.partition(_CAMERAS)
        if not found or before:
            return name
        number, _, rest = after.partition(".")
        return f"{_CAMERAS}{self.interface.cameras[int(number)] or number}.{rest}"

    def rows(self, words: Sequence[str], robots: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """See `Model.rows`."""
        interface = self.interface
        cameras = [f"camera {name or i}" for i, name in enumerate(interface.cameras)]
        ages = [f"{age} steps ago" for age in reversed(range(interface.history))]
        known = {
            "table.weight": [row for name in self.table.vocabulary for row in self._range(name, words)],
            "readers.text.position": [f"place {i}" for i in range(interface.text)],
            "readers.images.position": cameras,
        }
        for name in self.readers:  # whatever reads: parts of one name mean the same in each
            known |= {
                f"readers.{name}.view.weight": cameras,
                f"readers.{name}.time": ages,
                f"readers.{name}.embodiment": [f"robot {robot}" for robot in robots],
            }
        own = self.state_dict()
        return {name: rows for name, rows in known.items() if name in own and len(own[name]) == len(rows)}

    def _ranges(self) -> dict[str, int]:
        """Sizes of the ranges of the vocabulary in their order; one that two parts ask for is a `ConfigError`."""
        asked = [("the text", "text", self.interface.words), ("the specials", "special", len(SPECIALS))]
        made = self._made()
        asked += [(place, range_, ids) for place, part in made.items() for range_, ids in part.ranges.items()]
        asked += [(f"auxiliaries.{n}", part.signal, part.ids) for n, part in self.auxiliaries.items() if part.ids]
        asked.append(("the head", "action", self.head.ids))
        owners: dict[str, str] = {}
        for who, name, _ in asked:
            both = [made[part].meanings().get(name) for part in (who, owners.get(name, "")) if part in made]
            if len(both) == 2 and both[0] == both[1] is not None:
                continue  # what is read in it is written in it
            if name in owners:
                raise ConfigError(
                    f"model: {owners[name]} and {who} both ask for the range {name!r} of the vocabulary; leave one of "
                    "them out, or rename the signal in the dataset"
                )
            owners[name] = who
        return {name: ids for _, name, ids in asked}

    def _made(self) -> dict[str, Reader | Writer]:
        """Readers and writers by where they are: parts that may hold what was made elsewhere."""
        readers = {f"readers.{name}": reader for name, reader in self.readers.items()}
        return readers | {f"writers.{name}": writer for name, writer in self.writers.items()}

    def _range(self, name: str, words: Sequence[str]) -> list[str]:
        """Text by word, specials by name, anything else by its place among as many of the same dimensions."""
        ids = self.table.vocabulary.range(name)
        if name == "text" and len(words) == len(ids):
            return [f"text {word}" for word in words]
        if name == "special":
            return [f"special {special}" for special in SPECIALS]
        of = ", ".join(d.name for d in self.interface.signals.get(name, ()))
        made = {range_: meaning for part in self._made().values() for range_, meaning in part.meanings().items()}
        return [f"{made.get(name, name)} {i} of {len(ids)} {of}".rstrip() for i in range(len(ids))]

    def blocks(self) -> list[nn.Module]:
        """See `Model.blocks`: the trunk's, then the head's."""
        return [*self.trunk.blocks, *self.head.blocks()]

    def _reading(self, segments: Mapping[str, Segment], room: int) -> Reading:
        """To go on from with ``room`` tokens, and with what is believed before them."""
        if torch.is_grad_enabled() or not room:
            return Reading(self.trunk, segments)
        if says := sum(part.says for part in self.auxiliaries.values()):
            room += says + sum(part.x.shape[1] for part in self._asked(1, saying=False).values())
        return Reading(self.trunk, segments, room=room)

    def _behind(self, reading: Reading, activations: Activations) -> Prefix:
        """What is read, and behind it what is believed of it, where an auxiliary says so.

        Auxiliaries that say nothing are asked behind those that do: what they are to learn follows from what was said.
        """
        first = [auxiliary for auxiliary in self.auxiliaries.values() if auxiliary.says]
        if not first:
            return reading
        activations |= reading.hidden
        said = {f"{part.signal} said": part.said(activations) for part in first}
        said |= self._asked(len(reading.valid), saying=False)
        hidden, prefix = reading.cached.extend(self.trunk, joined(list(said.values())))
        activations |= dict(zip(said, hidden.split([part.x.shape[1] for part in said.values()], dim=1), strict=True))
        return prefix

    def _asked(self, b: int, *, saying: bool) -> dict[str, Segment]:
        """What auxiliaries that say something, or those that do not, add to the sequence."""
        own = {
            part.signal: part.segment(b, self.table) for part in self.auxiliaries.values() if (part.says > 0) == saying
        }
        return {name: segment for name, segment in own.items() if segment is not None}

    def _read_inputs(self, inputs: Inputs) -> tuple[dict[str, Segment], Activations]:
        """The segments before the actions by name, and what the readers leave for auxiliaries."""
        activations: Activations = {}
        segments: dict[str, Segment] = {}
        for name, reader in self.readers.items():
            segments[name] = reader(inputs, segments, self.table, activations)
        segments = causal(segments) if self.config.causal else segments
        segments |= self._asked(len(inputs), saying=True)
        if not any(auxiliary.says for auxiliary in self.auxiliaries.values()):
            segments |= self._asked(len(inputs), saying=False)
        assert inputs.committed is None or self.committed is not None, "this model was built for no committed steps"
        if self.committed is not None:  # also where none is: the actions begin behind it
            segments["committed"] = self.committed(inputs)
        return segments, activations


def _named(parts: Mapping[str, nn.Module]) -> Any:
    """Modules by name, registered; typed by what they are instead of as modules alone."""
    return nn.ModuleDict(parts)
