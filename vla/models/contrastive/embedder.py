"""A two-tower checkpoint outside of training: pictures and sentences in, vectors of length one out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vla.core.errors import CheckpointError, ContractError
from vla.models.checkpoint import load_model, open_checkpoint
from vla.models.contrastive.two_tower import TwoTower
from vla.models.device import choose_device
from vla.models.preprocessor import Preprocessor
from vla.models.text.plain import words_of

_BATCH = 256


class Embedder:
    """What belongs together has a large inner product; numbers of one checkpoint mean nothing to another."""

    def __init__(self, model: TwoTower, preprocessor: Preprocessor, *, digest: str) -> None:
        self._model, self._preprocessor = model.eval(), preprocessor
        self._device = next(model.parameters()).device
        self.digest = digest
        """Of the checkpoint's seal: it changes when anything in it does."""
        self.width = model.config.embedding
        """Numbers of a vector."""
        self.image_size = preprocessor.image_size
        """(y, x) of pictures."""
        self.camera = preprocessor.interface.cameras[model.config.camera]
        """Whose pictures it has learned to tell apart."""

    @staticmethod
    def open(checkpoint: Path, device: str = "auto") -> "Embedder":
        """Read a checkpoint of kind two-tower; one of another kind is a `CheckpointError`."""
        digest = open_checkpoint(checkpoint).digest
        blueprint, model = load_model(checkpoint, choose_device(device))
        if not isinstance(model, TwoTower) or model.contrast is None:
            raise CheckpointError(
                f"{checkpoint} embeds nothing: expected a model of kind two-tower that has learned what belongs "
                f"together, got kind {blueprint.config.kind}; train one with vla train two-tower"
            )
        return Embedder(model, blueprint.preprocessor, digest=digest)

    @torch.inference_mode()
    def images(self, pictures: UInt8[np.ndarray, "b y x 3"]) -> Float32[np.ndarray, "b e"]:
        """A vector of each picture of `camera`; those of another size are a `ContractError`."""
        if pictures.shape[1:3] != self.image_size:
            (y, x), (height, width) = pictures.shape[1:3], self.image_size
            raise ContractError(
                f"the checkpoint sees pictures of {height}x{width}, got {y}x{x}; render or resize them to that"
            )
        return self._together(self._seen(pictures[part]) for part in _batches(len(pictures)))

    @torch.inference_mode()
    def texts(self, sentences: Sequence[str]) -> Float32[np.ndarray, "b e"]:
        """A vector of each sentence; one that is longer than any that it has learned is a `ContractError`."""
        return self._together(self._read(sentences[part]) for part in _batches(len(sentences)))

    @torch.inference_mode()
    def logits(
        self, images: Float32[np.ndarray, "b e"], texts: Float32[np.ndarray, "c e"]
    ) -> Float32[np.ndarray, "b c"]:
        """How much each vector of a picture belongs to each of a sentence, on the scale that the loss has learned."""
        assert self._model.contrast is not None
        vectors = (torch.from_numpy(part).to(self._device) for part in (images, texts))
        found: np.ndarray = self._model.contrast.logits(*vectors).cpu().numpy()
        return found

    def unknown(self, sentences: Sequence[str]) -> list[str]:
        """The words of sentences that it was never told; none where its tower has read a language."""
        if self._model.config.sentences.knows_language:
            return []
        known = set(self._preprocessor.words)
        return sorted({word for sentence in sentences for word in words_of(sentence)} - known)

    def _seen(self, pictures: UInt8[np.ndarray, "b y x 3"]) -> Tensor:
        camera = torch.full((len(pictures),), self._model.config.camera, device=self._device)
        return self._model.images(torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device), camera)

    def _read(self, sentences: Sequence[str]) -> Tensor:
        text, valid = self._preprocessor.texts(sentences, self._model.longest)
        longest = max(1, int(valid.sum(dim=1).max()))
        return self._model.texts(text[:, :longest].to(self._device), valid[:, :longest].to(self._device))

    def _together(self, parts: Iterator[Tensor]) -> Float32[np.ndarray, "b e"]:
        empty = np.zeros((0, self.width), np.float32)
        found: np.ndarray = np.concatenate([empty, *(part.cpu().numpy() for part in parts)])
        return found


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, count, _BATCH))
