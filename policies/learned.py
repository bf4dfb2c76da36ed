"""A trained model of any kind as a policy."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vla.core.contract import Contract
from vla.core.errors import ConfigError, ContractError
from vla.core.types import ActionChunk, Observation
from vla.models.checkpoint import load_model
from vla.models.device import choose_device
from vla.models.runtime import Compile, acting
from vla.models.trunk.inputs import Written
from vla.models.unified import UnifiedTransformer
from vla.models.writers.config import WRITERS
from vla.models.writers.picture import PictureWriter
from vla.models.writers.writer import Writer
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
        self._checkpoint, self._bfloat16 = checkpoint, precision == "bfloat16"
        blueprint, self._model = load_model(checkpoint, self._device)
        if not blueprint.config.acts:
            raise ConfigError(
                f"checkpoint {checkpoint} embeds, and does not act: it was trained with model.action=0; train one that "
                "does, or use it with vla search and vla data relabel --success-by"
            )
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

    def ask(self, seen: Sequence[Observation], questions: Sequence[str], *, blind: bool = False) -> list[str]:
        """What a checkpoint with a writer of answers says to a question about each observation; ``blind`` sees none."""
        asked = [
            replace(moment, instruction=question, speech=None) for moment, question in zip(seen, questions, strict=True)
        ]
        return self._preprocessor.said(self._written("answer", asked, blind))

    def imagine(self, seen: Sequence[Observation], *, blind: bool = False) -> UInt8[np.ndarray, "b y x 3"]:
        """What a checkpoint with a writer of pictures believes that its camera will see when it is done.

        ``blind`` is a picture of the words alone.
        """
        pictures: np.ndarray = self._written("goal", seen, blind).value[:, 0].cpu().numpy()
        return pictures

    def coded(self, pictures: UInt8[np.ndarray, "b y x 3"]) -> UInt8[np.ndarray, "b y x 3"]:
        """What is left of pictures in the codes of a `PictureWriter`: no picture that it imagines can be better."""
        writer = self._writer("goal")[1]
        assert isinstance(writer, PictureWriter)
        with torch.inference_mode():
            ids = writer.codec.encode(torch.from_numpy(pictures).to(self._device))
            found: np.ndarray = writer.codec.decode(ids).cpu().numpy()
        return found

    @property
    def writes(self) -> frozenset[str]:
        """What it was trained to write beside actions: ``answer``, ``goal``."""
        model = self._model
        writers = model.writers.values() if isinstance(model, UnifiedTransformer) else ()
        return frozenset(writer.target for writer in writers)

    @property
    def camera(self) -> str:
        """The camera whose pictures `imagine` writes."""
        return self._preprocessor.interface.cameras[self._writer("goal")[1].camera]

    def _written(self, target: str, observations: Sequence[Observation], blind: bool) -> Written:
        name, _ = self._writer(target)
        inputs = self._preprocessor.observations(self._seen(observations), self._embodiment).to(self._device)
        if blind:
            inputs = replace(inputs, camera_valid=torch.zeros_like(inputs.camera_valid))
        autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16)
        with torch.inference_mode(), autocast:
            return self._model.write(name, inputs)

    def _writer(self, target: str) -> tuple[str, Writer]:
        """The writer of ``target``, and its name; without one, a `ConfigError`."""
        model = self._model
        for name, writer in model.writers.items() if isinstance(model, UnifiedTransformer) else ():
            if writer.target == target:
                return name, writer
        kinds = [name for name, writer in WRITERS.items() if writer.target == target]
        raise ConfigError(
            f"checkpoint {self._checkpoint}: it was not trained to write its {target}; train one with a writer of kind "
            f"{' or '.join(kinds)} under model.writers, as configs/modalities.yaml does"
        )
