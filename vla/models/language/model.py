"""A small causal language model of what a dataset says: instructions, questions, and answers to these.

It neither sees nor acts. Its trunk, its table and the writer of answers have the names that they have in the unified
transformer, so a policy begins with it by ``--init`` and may freeze it: what Flamingo and LLaVA do with language models
of billions of weights, at a size that a CPU trains in a minute.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.models.kinds.language import LanguageConfig
from vla.models.model import Model
from vla.models.trunk.attention import Transformer
from vla.models.trunk.initialisation import account
from vla.models.trunk.inputs import Inputs, Metrics, Prediction, Targets, Written, measured
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Reading, Segment, causal
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary
from vla.models.writers.config import TextWriterConfig
from vla.models.writers.text import TextWriter

ANSWERS = "answers"
"""The writer of answers, by the name that recipes give it."""


class LanguageModel(Model):
    """Each word in the light of those before it."""

    config: LanguageConfig
    all_taught = False  # a batch need not have an answer

    def __init__(self, config: LanguageConfig, interface: Interface) -> None:
        super().__init__()
        width = config.trunk.width
        self.config, self.interface = config, interface
        # Of data that asks nothing the sentences alone are learned.
        written = {ANSWERS: TextWriter(TextWriterConfig(), interface, width)} if interface.answer else {}
        self.writers = nn.ModuleDict(written)
        ranges = {"text": interface.words, "special": len(SPECIALS)}
        for writer in written.values():
            ranges |= writer.ranges
        self.table = TokenTable(Vocabulary(ranges), width, scale=config.trunk.embedding_scale)
        self.trunk = Transformer(config.trunk)
        account(self)

    def loss(self, inputs: Inputs, targets: Targets) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Model.loss`: cross entropy of each next word, and of the answers."""
        terms, metrics = self.terms(inputs, targets)
        return sum(terms.values(), inputs.state.new_zeros(())), metrics

    def terms(self, inputs: Inputs, targets: Targets) -> tuple[Mapping[str, Float[Tensor, ""]], Metrics]:
        """See `Model.terms`: ``language``, and ``answers`` where the batch has some."""
        reading = self.read(inputs)
        logits = self.table.logits("text", reading.hidden["text"][:, :-1])
        follows = (inputs.text_valid[:, 1:] & inputs.text_valid[:, :-1]).to(logits.dtype)
        loss = (self.table.cross_entropy(logits, inputs.text[:, 1:]) * follows).sum() / follows.sum().clamp(min=1)
        terms = {"language": loss}
        # What bars and logs show of every model is its action loss: here that of words, which is all that it does.
        metrics: Metrics = {"language_loss": measured(loss, follows), "action_loss": measured(loss, follows)}
        written = targets.written.get("answer")
        for name, writer in self.writers.items():
            assert isinstance(writer, TextWriter)
            metrics |= dict.fromkeys(writer.measures, inputs.state.new_tensor(torch.nan))
            if written is not None and len(rows := written.rows):
                behind = reading.rows(rows)
                terms[name], found = writer.loss(self.trunk, behind, inputs[rows], written[rows], self.table)
                metrics |= found
        return terms, metrics

    def read(self, inputs: Inputs, *, room: int = 0) -> Reading:
        """The sentences as they are, word after word."""
        x = self.table.embed("text", inputs.text)
        return Reading(self.trunk, causal({"text": Segment(x=x, valid=inputs.text_valid, block=0)}), room=room)

    def predict(self, inputs: Inputs) -> Prediction:
        """It does not act: a `ConfigError`."""
        raise ConfigError(
            "a model of kind language reads and writes, and does not act; train a policy that begins with it: "
            "vla train fusion-flamingo --init CHECKPOINT"
        )

    def write(self, name: str, inputs: Inputs) -> Written:
        """See `Model.write`: what it takes for the likeliest answer, unseen."""
        writer = lookup("writer of this model", name, dict(self.writers.items()))
        assert isinstance(writer, TextWriter)
        room = 0 if torch.is_grad_enabled() else writer.room
        return writer.write(self.trunk, self.read(inputs, room=room), inputs, self.table)

    def rows(self, words: Sequence[str], robots: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """See `Model.rows`."""
        named = {"text": [f"text {word}" for word in words], "special": [f"special {name}" for name in SPECIALS]}
        vocabulary = self.table.vocabulary
        known = [row for name in vocabulary for row in named.get(name, [f"{name} 0 of 1"])]
        return {"table.weight": known} if len(known) == len(vocabulary) else {}

    def blocks(self) -> list[nn.Module]:
        """See `Model.blocks`."""
        return list(self.trunk.blocks)
