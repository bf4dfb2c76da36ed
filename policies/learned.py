"""A trained model of any kind as a policy."""

from collections.abc import Sequence
from pathlib import Path

from vla.core.contract import Contract
from vla.core.errors import ContractError
from vla.core.fit import check_chunk
from vla.core.types import ActionChunk, Observation
from vla.models.checkpoint import load_model
from vla.models.device import choose_device


class LearnedPolicy:
    """Loads a checkpoint and answers observations; it keeps nothing between them."""

    def __init__(self, checkpoint: Path, *, robot: Contract | None = None, device: str = "auto") -> None:
        """Of several robots, the one that fits ``robot``, by default the first; ``device`` is auto, cpu or cuda."""
        self._device = choose_device(device)
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
        wanted = self._preprocessor.chunks(self._model.act(inputs), live, self._embodiment)
        chunks = iter([check_chunk(chunk, self._contract, who="the policy") for chunk in wanted])
        return [None if observation is None else next(chunks) for observation in observations]
