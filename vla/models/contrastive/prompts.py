"""Classes that nobody was taught, each by sentences that say it: the one that is nearest to a picture is its class."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from vla.core.errors import ConfigError
from vla.models.contrastive.embedder import Embedder


class ZeroShot:
    """A class is the mean of its sentences' vectors, brought to length one (CLIP, arXiv 2103.00020, section 3.1.4)."""

    def __init__(self, embedder: Embedder, classes: Mapping[str, Sequence[str]]) -> None:
        """Less than two classes, one without a sentence, or a word that was never learned is a `ConfigError`."""
        if len(classes) < 2:
            raise ConfigError(
                f"prompts: expected two classes or more to choose among, got {', '.join(classes) or 'none'}; say what "
                "else a picture may show"
            )
        for name, sentences in classes.items():
            if not sentences:
                raise ConfigError(f"prompts: class {name} has no sentence; give one or more")
            if unknown := embedder.unknown(sentences):
                raise ConfigError(
                    f"prompts: class {name} has words that the checkpoint was never told: {', '.join(unknown)}; say it "
                    "in words of the captions that it learned from"
                )
        means = [embedder.texts(list(sentences)).mean(axis=0) for sentences in classes.values()]
        self.names = tuple(classes)
        self.vectors: Float32[np.ndarray, "c e"] = np.stack([mean / np.linalg.norm(mean) for mean in means])

    def cosines(self, images: Float32[np.ndarray, "b e"]) -> Float32[np.ndarray, "b c"]:
        """How near each picture's vector is to each class."""
        near: np.ndarray = images @ self.vectors.T
        return near

    def classes(self, images: Float32[np.ndarray, "b e"]) -> list[str]:
        """The nearest class of each picture."""
        return [self.names[number] for number in self.cosines(images).argmax(axis=1)]
