"""A trained model of any kind as a policy."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from vla.core.contract import Contract
from vla.core.errors import ContractError
from vla.core.fit import check_chunk, check_committed
from vla.core.types import ActionChunk, Observation
from vla.models.checkpoint import load_model
from vla.models.device import choose_device
from vla.models.runtime import Compile, acting
from vla.policies.draws import Draws

Precision = Literal["float32", "bfloat16"]


class LearnedPolicy:
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

        ``precision`` is that of matrix products; weights and sums stay in float32. ``compile`` is
        none, default or graphs; see `vla.models.runtime`.
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
        self._contract = blueprint.contract_of(self._embodiment)
        self._draws = Draws()

    @property
    def contract(self) -> Contract:
        """That of the robot it acts for."""
        return self._contract

    def reset(self, slot: int) -> None:
        """The episode draws as every first one does, until `seed` says otherwise."""
        self._draws.begin(slot)

    def seed(self, slot: int, seed: int) -> None:
        """Heads that draw, such as ``flow``, draw the episode's chunks by this seed."""
        self._draws.begin(slot, seed)

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One inference for all observations at once."""
        live = [observation for observation in observations if observation is not None]
        if not live:
            return [None] * len(observations)
        for observation in live:
            if observation.committed is not None:
                check_committed(observation.committed, self._contract, who="the policy")
        seeds = torch.tensor([self._draws.next(slot) for slot, shown in enumerate(observations) if shown is not None])
        inputs = replace(self._preprocessor.observations(live, self._embodiment), seeds=seeds).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            answer = self._answer(inputs)
        wanted = self._preprocessor.chunks(answer, live, self._embodiment)
        chunks = iter([check_chunk(chunk, self._contract, who="the policy") for chunk in wanted])
        return [None if observation is None else next(chunks) for observation in observations]
