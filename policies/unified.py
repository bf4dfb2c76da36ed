"""A trained unified transformer as a policy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vla.core.contract import Contract
from vla.core.errors import ContractError
from vla.core.types import ActionChunk, Observation
from vla.models.checkpoint import load_model
from vla.models.grounding import SIGNALS


class UnifiedPolicy:
    """Loads a checkpoint and answers observations; it keeps nothing between them."""

    def __init__(self, checkpoint: Path) -> None:
        self._parts, self._model = load_model(checkpoint)
        self._cameras = {camera.name: (camera.height, camera.width, 3) for camera in self._parts.contract.cameras}

    @property
    def contract(self) -> Contract:
        """That of the checkpoint."""
        return self._parts.contract

    def reset(self, slot: int) -> None:
        """Nothing to forget."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One inference for all observations at once."""
        live = [observation for observation in observations if observation is not None]
        if not live:
            return [None] * len(observations)
        text, valid = self._parts.tokenizer.encode(
            [observation.instruction for observation in live], self._parts.config.text_tokens
        )
        batch = {
            "images": torch.from_numpy(np.stack([self._images(observation) for observation in live])),
            "state": torch.from_numpy(np.stack([self._state(observation) for observation in live])),
            "text": torch.from_numpy(text),
            "text_valid": torch.from_numpy(valid),
        }
        actions, grounding = self._model.act(batch)
        chunks = iter(
            ActionChunk(actions=a, time_ns=observation.time_ns, signals=self._signals(g))
            for a, g, observation in zip(actions.numpy(), grounding.numpy(), live, strict=True)
        )
        return [None if observation is None else next(chunks) for observation in observations]

    def _signals(self, believed: np.ndarray) -> dict[str, np.ndarray]:
        """The model's one vector, by signal."""
        known = {name: len(self.contract.signals[name]) for name in SIGNALS if name in self.contract.signals}
        return dict(zip(known, np.split(believed, np.cumsum(list(known.values()))[:-1]), strict=True)) if known else {}

    def _images(self, observation: Observation) -> np.ndarray:
        """uint8 (n, y, x, 3) in the order of the contract."""
        missing = [name for name in self._cameras if name not in observation.images]
        if missing:
            raise ContractError(
                f"the policy needs cameras {list(self._cameras)}, the observation has {sorted(observation.images)}; "
                f"send {', '.join(missing)}"
            )
        for name, shape in self._cameras.items():
            if observation.images[name].shape != shape:
                raise ContractError(
                    f"camera {name}: the policy needs an image of shape {shape}, got {observation.images[name].shape}"
                )
        return np.stack([observation.images[name] for name in self._cameras])

    def _state(self, observation: Observation) -> np.ndarray:
        expected = len(self._parts.contract.state)
        if observation.state.shape != (expected,):
            raise ContractError(f"the policy needs {expected} state values, got shape {observation.state.shape}")
        return observation.state.astype(np.float32)
