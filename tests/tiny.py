"""A recipe of a tiny model that trains for two steps: what several folders of tests begin with."""

from typing import Any

TINY: dict[str, Any] = {
    "model": {
        "trunk": {"width": 32, "layers": 1, "heads": 2},
        "readers": {"text": {"heads": 2}, "images": {"channels": 8, "tokens": 4}},
        "head": {"bins": 16},
        "auxiliaries": {"grounding": {"bins": 8}},
    },
    "engine": "inline",
    "workers": 1,
    "batch": 4,
    "steps": 2,
    "log_steps": 1,
}
