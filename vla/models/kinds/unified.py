"""The settings of the unified transformer. Free of heavy imports, so that help is instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.core.errors import ConfigError
from vla.models.auxiliaries.config import AuxiliaryConfig, GroundingConfig, PointingConfig
from vla.models.config import ModelConfig
from vla.models.heads.config import BinsHeadConfig, HeadConfig
from vla.models.readers.config import ImagesConfig, ReaderConfig, StateConfig, TextConfig
from vla.models.readers.order import in_order
from vla.models.text.config import PretrainedConfig
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.interface import Interface
from vla.models.writers.config import WriterConfig

if TYPE_CHECKING:
    import torch

    from vla.models.model import Model


@dataclass(frozen=True, kw_only=True)
class UnifiedConfig(ModelConfig):
    """One sequence of all tokens, one transformer: see `vla.models.unified`."""

    kind: str = "unified"
    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    graft: str = ""
    """The folder of a language model of Hugging Face (Llama, Gemma, Qwen3), instead of ``trunk``: its blocks are the
    trunk, its table reads and writes text, its tokenizer spells it. A run that begins reads it, and nothing later."""
    readers: dict[str, ReaderConfig] = field(
        default_factory=lambda: {"text": TextConfig(), "images": ImagesConfig(), "state": StateConfig()}
    )
    """What turns inputs into tokens, in the order of the sequence; each sees what those before it have read. Who is
    asked by another comes before it, wherever a recipe names it."""
    causal: bool = False
    """Each token of the inputs sees those before it alone, as language models have learned to read (LLaVA, Qwen-VL,
    Flamingo); by default all see each other (PaliGemma)."""
    cross_every: int = 0
    """Before every so many blocks of the trunk stands gated cross-attention to what readers laid aside (Flamingo);
    0 has none."""
    z_loss: float = 0.0
    """Weight of the squared logarithm of the normaliser in losses over the vocabulary; 1e-4 keeps logits small."""
    head: HeadConfig = field(default_factory=BinsHeadConfig)
    """What writes actions."""
    auxiliaries: dict[str, AuxiliaryConfig] = field(
        default_factory=lambda: {"grounding": GroundingConfig(), "pointing": PointingConfig()}
    )
    """What else is learned, where the data offers a signal for it; without one, an auxiliary is left out."""
    writers: dict[str, WriterConfig] = field(default_factory=dict)
    """What is written beside actions: answers to questions, pictures of the end."""
    committed: int = 0
    """Most steps of a chunk that may be decided already when it is asked for, so that a robot need not wait (arXiv
    2512.05964): how many are, is drawn while training. 0 builds nothing for it."""
    committed_noise: float = 0.1
    """How wrong decided steps are made while training, at most, as a standard deviation in scaled units."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.z_loss < 0:
            raise ConfigError(f"model.z_loss={self.z_loss} must be at least 0")
        object.__setattr__(self, "readers", in_order(self.readers))
        self._check_crossing()
        for part, others in (("auxiliaries", ()), ("writers", tuple(self.auxiliaries))):
            if taken := {"action", *others}.intersection(getattr(self, part)):
                raise ConfigError(f"model.{part}.{min(taken)}: so another loss is called; give it another name")
        if self.committed_noise < 0:
            raise ConfigError(f"model.committed_noise={self.committed_noise} must be at least 0")
        if not 0 <= self.committed < self.horizon:
            raise ConfigError(
                f"model.committed={self.committed} must be at least 0 and below model.horizon={self.horizon}"
            )

    def _check_crossing(self) -> None:
        """`ConfigError` where tokens are laid aside that nobody looks at, or looked for where none are."""
        aside = [name for name, reader in self.readers.items() if reader.lays_aside]
        if self.cross_every < 0:
            raise ConfigError(f"model.cross_every={self.cross_every} must be at least 0")
        if aside and not self.cross_every:
            raise ConfigError(f"model.readers.{aside[0]}: nobody looks at what it lays aside; set model.cross_every")
        if self.cross_every and not aside:
            raise ConfigError(
                f"model.cross_every={self.cross_every}: no reader lays tokens aside to look at; set aside of one of "
                "kind connected"
            )

    @property
    def most_committed(self) -> int:
        """See `ModelConfig.most_committed`."""
        return self.committed

    @property
    def listens(self) -> bool:
        """See `ModelConfig.listens`."""
        return any(reader.listens for reader in self.readers.values())

    @property
    def written(self) -> frozenset[str]:
        """See `ModelConfig.written`."""
        return frozenset(writer.target for writer in self.writers.values())

    def resolved(self) -> "UnifiedConfig":
        """See `ModelConfig.resolved`."""
        readers = {name: reader.resolved() for name, reader in self.readers.items()}
        writers = {name: writer.resolved() for name, writer in self.writers.items()}
        config = replace(self, tokenizer=self.tokenizer.resolved(), readers=readers, writers=writers)
        return config._grafted() if self.graft else config

    def _grafted(self) -> "UnifiedConfig":
        """With the settings of the model that is grafted in."""
        from vla.models.grafting import settings_of

        folder, own = str(Path(self.graft).resolve()), self.trunk
        # How it is computed is not theirs to say.
        trunk = replace(settings_of(folder), attention=own.attention, recompute=own.recompute)
        if own not in (trunk, TransformerConfig(attention=own.attention, recompute=own.recompute)):
            raise ConfigError(f"model: graft={self.graft} says what the trunk is; leave its sizes out of model.trunk")
        return replace(self, graft=folder, trunk=trunk, tokenizer=PretrainedConfig(path=folder))

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """See `ModelConfig.fit`."""
        readers = {name: made for name, reader in self.readers.items() if (made := reader.fit())}
        writers = {name: made for name, writer in self.writers.items() if (made := writer.fit())}
        parts = {"head": self.head.fit(chunks), "readers": readers, "writers": writers}
        return {name: made for name, made in parts.items() if made or name == "head"}

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """See `ModelConfig.build`."""
        from vla.models.unified import UnifiedTransformer

        return UnifiedTransformer(self, interface, fitted)
