"""The sizes of the tabletop's policy, and a random batch of them: what speed is measured with."""

import torch

from vla.core.contract import Dimension
from vla.models.trunk.inputs import Batch, Inputs, Targets
from vla.models.trunk.interface import Interface

INTERFACE = Interface(
    cameras=("front", "wrist"),
    history=1,
    state=8,
    action=8,
    horizon=8,
    words=512,
    text=32,
    embodiments=1,
    signals={"grounding": tuple(Dimension(name=f"d{i}", unit="m", low=-1.0, high=1.0) for i in range(5))},
)
_PIXELS = 64


def random_batch(b: int) -> Batch:
    """As training takes it, of noise."""
    i = INTERFACE
    ones = torch.ones
    return Batch(
        inputs=Inputs(
            images=torch.randint(0, 256, (b, i.history, len(i.cameras), _PIXELS, _PIXELS, 3), dtype=torch.uint8),
            camera_valid=ones(b, len(i.cameras), dtype=torch.bool),
            state=torch.rand(b, i.history, i.state),
            state_valid=ones(b, i.state, dtype=torch.bool),
            observed=ones(b, i.history, dtype=torch.bool),
            text=torch.randint(0, i.words, (b, i.text)),
            text_valid=ones(b, i.text, dtype=torch.bool),
            embodiment=torch.zeros(b, dtype=torch.long),
        ),
        targets=Targets(
            actions=torch.rand(b, i.horizon, i.action) * 2 - 1,
            valid=ones(b, i.horizon, i.action, dtype=torch.bool),
            signals={name: torch.rand(b, len(of)) for name, of in i.signals.items()},
        ),
    )
