"""What every kind of model is to training, checkpoints and policies."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.config import ModelConfig
from vla.models.trunk.inputs import Inputs, Metrics, Prediction, Targets, Written
from vla.models.trunk.interface import Interface


class Model(nn.Module, ABC):
    """Reads `Inputs`; its kind is that of its configuration, and a checkpoint names it."""

    config: ModelConfig
    interface: Interface
    all_taught: bool = True
    """Whether each step's loss reaches all parameters: workers that share a model wait for the gradient of each."""

    def forward(self, inputs: Inputs, targets: Targets) -> tuple[Float[Tensor, ""], Metrics]:
        """The same as `loss`: what data-parallel wrappers call."""
        return self.loss(inputs, targets)

    @abstractmethod
    def loss(self, inputs: Inputs, targets: Targets) -> tuple[Float[Tensor, ""], Metrics]:
        """The mean loss of the batch, and what to log of it; ``action_loss`` among them."""

    def terms(self, inputs: Inputs, targets: Targets) -> tuple[Mapping[str, Float[Tensor, ""]], Metrics]:
        """What the loss is the sum of, each times its weight, by what it teaches; here that is ``action`` alone."""
        loss, metrics = self.loss(inputs, targets)
        return {"action": loss}, metrics

    def shared(self) -> list[nn.Parameter]:
        """The parameters that more than one of `terms` teaches, or may."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @abstractmethod
    def predict(self, inputs: Inputs) -> Prediction:
        """The chunk for each sample, and what the model believes beside it; of a model in evaluation mode."""

    def write(self, name: str, inputs: Inputs) -> Written:
        """What the writer ``name`` writes for each sample; of a model in evaluation mode."""
        raise ConfigError(f"a model of kind {self.config.kind} writes actions and nothing else; train one with writers")

    @torch.inference_mode()
    def act(self, inputs: Inputs) -> Prediction:
        """`predict` without gradients and dropout, whatever mode the model is in; no gradient takes the answer."""
        # Not merely without gradients: in the loops of small models a sixth of the time goes into keeping versions.
        training = self.training
        if training:
            self.eval()
        try:
            return self.predict(inputs)
        finally:
            if training:
                self.train()

    def begin(self) -> None:
        """Take what was made elsewhere, weights or image codecs, for a run that begins; a state brings its own."""

    def meaning(self, name: str) -> str:
        """The name of a tensor with names in the place of numbers that differ between models, such as a camera's."""
        return name

    def rows(self, words: Sequence[str], robots: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """What each row of a tensor stands for, where that differs between models: ``words`` by id, ``robots``."""
        return {}

    def blocks(self) -> list[nn.Module]:
        """The units of sharding, checkpointing and compiling, in the order in which they run."""
        return []

    def matrices(self) -> set[str]:
        """Names of the parameters that an optimiser for matrices takes: the products inside of transformer blocks."""
        # Muon orthogonalises updates, which means something for products inside of blocks only: tables, positions and
        # norms go to AdamW.
        return {name for name, p in self.named_parameters() if p.ndim == 2 and ".blocks." in name}
