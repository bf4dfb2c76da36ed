"""Kinds and sizes of models: what a recipe says under ``model``. Free of heavy imports, so that help is instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError
from vla.models.auxiliaries.config import AuxiliaryConfig, GroundingConfig, PointingConfig
from vla.models.heads.config import BinsHeadConfig, HeadConfig
from vla.models.readers.config import ImagesConfig, ReaderConfig, StateConfig, TextConfig, in_order
from vla.models.text.config import PretrainedConfig, TokenizerConfig, WordsConfig
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.interface import Interface
from vla.models.writers.config import WriterConfig

if TYPE_CHECKING:
    import torch

    from vla.models.model import Model


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Kinded):
    """What every kind of model says of itself; each kind adds its own."""

    what: ClassVar[str] = "kind of model"
    group: ClassVar[str] = "vla.models"

    horizon: int = 8
    """Steps of an action chunk."""
    execute: int = 4
    """Steps of a chunk that are executed before the next inference; evaluators and robots take it from the contract."""
    ensemble: float = 0.0
    """Weight of older chunks that cover a step, per request of age; 0 executes the newest alone. ``vla eval
    --execution`` says which ``execute`` and ``ensemble`` are best for a checkpoint."""
    history: int = 1
    """Observations that the model reads, the present one included."""
    tokenizer: TokenizerConfig = field(default_factory=WordsConfig)
    """How instructions become tokens."""
    text_tokens: int | None = None
    """Longest instruction in tokens; by default fitted to the data's, with room to spare."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "horizon", "execute", "history", "text_tokens", where="model.")

        if not 0 <= self.ensemble <= 1:
            raise ConfigError(f"model.ensemble={self.ensemble} must be between 0 and 1")

    @property
    def most_committed(self) -> int:
        """Most steps of a chunk that may be decided already when it is asked for; 0 is a kind that knows of none."""
        return 0

    @property
    def listens(self) -> bool:
        """Whether it reads spoken instructions."""
        return False

    @property
    def written(self) -> frozenset[str]:
        """What is learned to be written beside actions, by its name in `vla.models.trunk.inputs.Targets`."""
        return frozenset()

    @classmethod
    def table(cls) -> Mapping[str, type["ModelConfig"]]:
        """The kinds of this project."""
        return MODELS

    def resolved(self) -> "ModelConfig":
        """The same with paths that hold in any folder."""
        return self

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """What is fitted to scaled chunks (w, h, d) beside the weights, as JSON: it travels in the contract."""
        return {}

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """The model with fresh weights; ``fitted`` is what `fit` gave."""
        raise NotImplementedError


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.z_loss < 0:
            raise ConfigError(f"model.z_loss={self.z_loss} must be at least 0")
        object.__setattr__(self, "readers", in_order(self.readers))
        for part, others in (("auxiliaries", ()), ("writers", tuple(self.auxiliaries))):
            if taken := {"action", *others}.intersection(getattr(self, part)):
                raise ConfigError(f"model.{part}.{min(taken)}: so another loss is called; give it another name")
        if not 0 <= self.committed < self.horizon:
            raise ConfigError(
                f"model.committed={self.committed} must be at least 0 and below model.horizon={self.horizon}"
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
        config = replace(self, readers=readers, writers={name: w.resolved() for name, w in self.writers.items()})
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


@dataclass(frozen=True, kw_only=True)
class ActConfig(ModelConfig):
    """Action Chunking with Transformers (arXiv 2304.13705), told what to do: see `vla.models.baselines.act`."""

    kind: str = "act"
    horizon: int = 16
    execute: int = 8
    width: int = 128
    encoder_layers: int = 4
    decoder_layers: int = 1
    """One: the authors' code uses the first of its seven."""
    heads: int = 4
    channels: tuple[int, ...] = (32, 64, 128)
    """Of each stage of the camera's convolutions; every stage halves the sides."""
    style: int = 32
    """Numbers that say in which way a chunk was done, of the ways there were; drawn while training, 0 when it acts."""
    kl_weight: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_one(self, "width", "encoder_layers", "decoder_layers", "heads", "style", where="model.")
        _check_channels(self.channels)
        if self.width % self.heads:
            raise ConfigError(f"model.width={self.width} must be a multiple of model.heads={self.heads}")
        if self.kl_weight < 0:
            raise ConfigError(f"model.kl_weight={self.kl_weight} must be at least 0")

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """See `ModelConfig.build`."""
        from vla.models.baselines.act import Act

        return Act(self, interface)


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(ModelConfig):
    """Diffusion Policy (arXiv 2303.04137), told what to do: see `vla.models.baselines.diffusion`."""

    kind: str = "diffusion"
    horizon: int = 16
    execute: int = 8
    width: int = 128
    """Of the instruction and of time, as vectors."""
    channels: tuple[int, ...] = (32, 64, 64)
    """Of each stage of the camera's convolutions; every stage halves the sides."""
    points: int = 32
    """Spatial softmax points of each camera."""
    levels: tuple[int, ...] = (64, 128, 256)
    """Channels of the U-Net over time; each level after the first halves the steps."""
    train_steps: int = 100
    """Noise levels while training."""
    steps: int = 10
    """Of DDIM, each one pass of the U-Net (arXiv 2010.02502)."""
    passes: int = 4
    """Noised chunks for each observation that is read while training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_one(self, "width", "points", "train_steps", "steps", "passes", where="model.")
        _check_channels(self.channels)
        _check_channels(self.levels, name="levels")
        if self.width % 2:
            raise ConfigError(f"model.width={self.width} must be even: sines and cosines of time")
        if self.steps > self.train_steps:
            raise ConfigError(f"model.steps={self.steps} must be at most model.train_steps={self.train_steps}")
        if any(channels % 8 for channels in self.levels):
            raise ConfigError(f"model.levels={self.levels} must be multiples of 8, the groups of its norms")
        if self.horizon % (smallest := 2 ** (len(self.levels) - 1)):
            raise ConfigError(
                f"model.horizon={self.horizon} must be a multiple of {smallest}: each of the {len(self.levels)} levels "
                "after the first halves it"
            )

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """The largest command there is, beyond which what is drawn is cut off while noise is taken away."""
        return {"reach": float(chunks.abs().max())}

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """See `ModelConfig.build`."""
        from vla.models.baselines.diffusion import Diffusion

        return Diffusion(self, interface, fitted)


def _check_channels(channels: tuple[int, ...], name: str = "channels") -> None:
    if not channels or min(channels) < 1:
        raise ConfigError(f"model.{name}={channels} must be one number of at least 1 for each stage")


MODELS: dict[str, type[ModelConfig]] = {"unified": UnifiedConfig, "act": ActConfig, "diffusion": DiffusionConfig}
