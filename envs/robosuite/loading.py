"""Importing robosuite without its noise, and building one of its environments."""

import importlib
import logging
import os
import warnings
from typing import Any

from vla.core.machine.packages import needed_packages
from vla.envs.gl import settle_gl

_LOGGER = "robosuite_logs"


def import_robosuite() -> Any:
    """The package, imported once and quietly; `MissingPackageError` where it is missing or does not load."""
    settle_gl()
    logger = logging.getLogger(_LOGGER)
    muted, settled = logger.disabled, os.environ["MUJOCO_GL"]
    logger.disabled = True  # its level is set, and a handler added, while it is imported: a level would not last
    try:
        with warnings.catch_warnings(), needed_packages("environments robosuite/…", extra="robosuite"):
            warnings.simplefilter("ignore")
            module = importlib.import_module("robosuite")
    finally:
        logger.disabled = muted
        os.environ["MUJOCO_GL"] = settled  # it sets egl for the whole process, whatever works here
    logger.setLevel(logging.ERROR)
    return module


def make_suite_env(name: str, *, robot: str, control_hz: float) -> Any:
    """One of robosuite's environments without cameras of its own; sizes that it draws at loading come from seed 0."""
    suite = import_robosuite()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return suite.make(
            name,
            robots=robot,
            control_freq=control_hz,
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=False,
            hard_reset=False,
            ignore_done=True,
            renderer="mujoco",
            seed=0,
        )
