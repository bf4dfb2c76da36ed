"""A kind of model: linear in the state, and blind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from vla.models.config import ModelConfig
from vla.models.model import Model
from vla.models.trunk.inputs import Inputs, Prediction, Targets
from vla.models.trunk.interface import Interface


@dataclass(frozen=True, kw_only=True)
class LinearConfig(ModelConfig):
    """Has no sizes."""

    kind: str = "example-linear"

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> Model:
        """Nothing is fitted."""
        return Linear(self, interface)


class Linear(Model):
    """One matrix."""

    def __init__(self, config: LinearConfig, interface: Interface) -> None:
        super().__init__()
        self.config, self.interface = config, interface
        self.out = nn.Linear(interface.state, interface.horizon * interface.action)

    def loss(self, inputs: Inputs, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean square error over what may be learned."""
        error = (self.predict(inputs).actions - targets.actions) ** 2 * targets.valid
        loss = error.sum() / targets.valid.sum().clamp(min=1)
        return loss, {"action_loss": loss.detach()}

    def predict(self, inputs: Inputs) -> Prediction:
        """From the last state."""
        flat = self.out(inputs.state[:, -1])
        return Prediction(actions=rearrange(flat, "b (h d) -> b h d", d=self.interface.action))
