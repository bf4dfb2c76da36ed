"""Whether a demonstration succeeded, as far as its file says it.

``dones`` says that an episode ended, and not how: the object may have fallen. A reward of 0 throughout may be a failure
or a reward that nobody computed. So neither is an answer.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla.datasets.formats.robomimic.header import as_count

ATTRIBUTE = "success"
"""Isaac Lab writes it with each demonstration, and so do exports of ours."""


def success_of(attributes: Mapping[str, Any], reward: np.ndarray | None) -> tuple[bool | None, str]:
    """The answer, and a few words for where it comes from: the attribute, else rewards that are 0 until they are 1."""
    written, solved = _written(attributes.get(ATTRIBUTE)), _solved(reward)
    if written is None:
        odd = f", and the attribute {ATTRIBUTE} is neither yes nor no" if ATTRIBUTE in attributes else ""
        if solved:
            return True, f"from a reward of 1 after rewards of 0{odd}"
        return None, f"since no reward goes from 0 to 1 and no attribute {ATTRIBUTE} says it{odd and ' as yes or no'}"
    if solved and not written:
        return False, f"from the attribute {ATTRIBUTE}, which disagrees with a reward of 1"
    return written, f"from the attribute {ATTRIBUTE}"


def _solved(reward: np.ndarray | None) -> bool:
    """Sparse rewards of a task that was not solved at its start; 1 from the first step on is for being there."""
    if reward is None or not np.isin(reward, (0, 1)).all():
        return False
    return bool(reward.any() and reward[0] == 0)


def _written(value: Any) -> bool | None:
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    number = as_count(value)
    return None if number not in (0, 1) else bool(number)
