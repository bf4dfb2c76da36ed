"""A trained model of any kind as a policy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from vla.core.contract import Contract
from vla.core.errors import ContractError
from vla.core.fit import check_chunk
from vla.core.types import ActionChunk, Observation
from vla.models.checkpoint import load_model
from vla.models.device import choose_device

Precision = Literal["float32", "bfloat16"]


class LearnedPolicy:
    """Loads a checkpoint and answers observations; it keeps nothing between them."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        robot: Contract | None = None,
        device: str = "auto",
        precision: Precision = "float32",
    ) -> None:
        """Of several robots, the one that fits ``robot``, by default the first; ``device`` is auto, cpu or cuda.

        ``precision`` is that of matrix products; weights and sums stay in float32.
        """
        self._device = choose_device(device)
        self._bfloat16 = precision == "bfloat16"
        blueprint, self._model = load_model(checkpoint, self._device)
        self._preprocessor = blueprint.preprocessor
        try:
            self._embodiment = 0 if robot is None else self._preprocessor.embodiment_for(robot)
        except ContractError as error:
            raise ContractError(f"checkpoint {checkpoint} does not fit: {error}") from None
        self._contract = blueprint.contract_of(self._embodiment)

    @property
    def contract(self) -> Contract:
        """That of the robot it acts for."""
        return self._contract

    def reset(self, slot: int) -> None:
        """Nothing to forget."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One inference for all observations at once."""
        live = [observation for observation in observations if observation is not None]
        if not live:
            return [None] * len(observations)
        inputs = self._preprocessor.observations(live, self._embodiment).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            answer = self._model.act(inputs)
        wanted = self._preprocessor.chunks(answer, live, self._embodiment)
        chunks = iter([check_chunk(chunk, self._contract, who="the policy") for chunk in wanted])
        return [None if observation is None else next(chunks) for observation in observations]
