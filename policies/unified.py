"""A trained unified transformer as a policy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vla.core.contract import Contract
from vla.core.fit import check_observation
from vla.core.types import ActionChunk, Observation
from vla.models.checkpoint import load_model


class UnifiedPolicy:
    """Loads a checkpoint and answers observations; it keeps nothing between them."""

    def __init__(self, checkpoint: Path) -> None:
        self._parts, self._model = load_model(checkpoint)

    @property
    def contract(self) -> Contract:
        """That of the checkpoint."""
        return self._parts.contract

    def reset(self, slot: int) -> None:
        """Nothing to forget."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One inference for all observations at once."""
        live = [observation for observation in observations if observation is not None]
        for observation in live:
            check_observation(observation, self.contract, who="the observation")
        if not live:
            return [None] * len(observations)
        text, valid = self._parts.tokenizer.encode(
            [observation.instruction for observation in live], self._parts.config.text_tokens
        )
        batch = {
            "images": torch.from_numpy(np.stack([self._images(observation) for observation in live])),
            "state": torch.from_numpy(np.stack([observation.state for observation in live])),
            "text": torch.from_numpy(text),
            "text_valid": torch.from_numpy(valid),
        }
        actions, grounding = self._model.act(batch)
        chunks = iter(
            ActionChunk(actions=a, time_ns=observation.time_ns, grounding=g if len(g) else None)
            for a, g, observation in zip(actions.numpy(), grounding.numpy(), live, strict=True)
        )
        return [None if observation is None else next(chunks) for observation in observations]

    def _images(self, observation: Observation) -> np.ndarray:
        """uint8 (n, y, x, 3) in the order of the contract."""
        return np.stack([observation.images[camera.name] for camera in self.contract.cameras])
