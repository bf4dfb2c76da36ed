"""Writers: what else than actions is written behind what has been read, in the same vocabulary, by the same trunk.

A writer extends the inputs as a head does, and neither sees what the other writes: so a model that answers and imagines
acts as it would without. Only the samples of a batch that have something to learn from are written for, and each loss
is a mean over its own tokens; the gradient of one therefore does not know how many samples another has.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from vla.models.trunk.attention import Transformer
from vla.models.trunk.inputs import Inputs, Metrics, Written
from vla.models.trunk.sequence import Prefix
from vla.models.trunk.vocabulary import TokenTable


class Writer(nn.Module, ABC):
    """Writes one thing, named ``target``, for each sample."""

    target: str
    weight: float
    """Of its loss."""
    ranges: Mapping[str, int] = {}
    """Ids that it needs in the vocabulary, by the names of their ranges."""
    camera: int = 0
    """The slot of the camera of which a picture is, where it writes one."""
    room: int = 0
    """Tokens that `write` reads behind the inputs, at most."""

    @property
    def measures(self) -> tuple[str, str]:
        """What `loss` logs: the loss, and the share of samples or tokens that it would write right."""
        return f"{self.target}_loss", f"{self.target}_right"

    def meanings(self) -> Mapping[str, str]:
        """Of parts and ranges whose content is not learned here but was made elsewhere: what they stand for."""
        return {}

    def begin(self) -> None:
        """Take what was made elsewhere for a run that begins; a state brings its own."""

    @abstractmethod
    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, written: Written, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """The mean loss behind ``prefix``, of samples that all have something to learn from, and what to log of it."""

    @abstractmethod
    def write(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Written:
        """What it writes for each sample, in the form that it learns from."""
