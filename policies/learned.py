"""A trained model of any kind as a policy."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from vla.core.contract import Contract
from vla.core.errors import ContractError
from vla.core.types import ActionChunk, Observation
from vla.models.checkpoint import load_model
from vla.models.device import choose_device
from vla.models.runtime import Compile, acting
from vla.policies.acting import Acting

Precision = Literal["float32", "bfloat16"]


class LearnedPolicy(Acting):
    """Loads a checkpoint and answers observations; between them it keeps what each slot draws by, and nothing else."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        robot: Contract | None = None,
        device: str = "auto",
        precision: Precision = "float32",
        compile: Compile = "none",
    ) -> None:
        """Of several robots, the one that fits ``robot``, by default the first; ``device`` is auto, cpu or cuda.

        ``robot`` may have its cameras and joints in another order, in which it is then answered. ``precision`` is that
        of matrix products; weights and sums stay in float32. ``compile`` is none, default or graphs; see
        `vla.models.runtime`.
        """
        self._device = choose_device(device)
        self._bfloat16 = precision == "bfloat16"
        blueprint, self._model = load_model(checkpoint, self._device)
        self._answer = acting(self._model, compile, self._device)
        self._preprocessor = blueprint.preprocessor
        try:
            self._embodiment = 0 if robot is None else self._preprocessor.embodiment_for(robot)
        except ContractError as error:
            raise ContractError(f"checkpoint {checkpoint} does not fit: {error}") from None
        super().__init__(blueprint.contract_of(self._embodiment), robot)

    def _write(self, live: Sequence[Observation], seeds: Int64[Tensor, " b"]) -> Sequence[ActionChunk]:
        """See `Acting._write`."""
        inputs = replace(self._preprocessor.observations(live, self._embodiment), seeds=seeds).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            answer = self._answer(inputs)
        return self._preprocessor.chunks(answer, live, self._embodiment)
