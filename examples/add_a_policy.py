"""A policy of your own: it holds still.

Any class with `contract`, `reset` and `act` is a policy. On the command line it goes by module:Name, or by the name
that your package gives it under the entry point group `vla.policies`:

    vla eval add_a_policy:HoldStill --episodes 5
"""

from collections.abc import Sequence

import numpy as np

from vla import evaluate
from vla.core.contract import Contract
from vla.core.types import ActionChunk, Observation


class HoldStill:
    """Commands the state, where an action has a state of the same name, and the middle of its range elsewhere."""

    def __init__(self, contract: Contract, horizon: int = 4) -> None:
        self.contract, self._horizon = contract, horizon

    def reset(self, slot: int) -> None:
        """Remembers nothing."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """The same command for the whole chunk."""
        return [None if seen is None else self._chunk(seen) for seen in observations]

    def _chunk(self, seen: Observation) -> ActionChunk:
        names = [d.name for d in self.contract.state]
        targets = [
            np.clip(seen.state[names.index(d.name)], d.low, d.high) if d.name in names else (d.low + d.high) / 2
            for d in self.contract.action
        ]
        return ActionChunk(actions=np.tile(np.float32(targets), (self._horizon, 1)), time_ns=seen.time_ns)


if __name__ == "__main__":
    result = evaluate(HoldStill, env="tabletop/place", episodes=2, settings={"image_size": 32})
    print(f"success {result.success.successes} of {result.success.episodes}: holding still moves nothing")
