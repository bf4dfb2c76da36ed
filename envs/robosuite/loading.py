"""Importing robosuite without its noise, and building one of its environments."""

import importlib
import logging
import os
import warnings
from typing import Any

import mujoco  # noqa: F401  (first: it reads MUJOCO_GL when it is imported, and robosuite writes to it)

from vla.core.errors import VlaError

_LOGGER = "robosuite_logs"


def import_robosuite() -> Any:
    """The package, imported once and quietly; `VlaError` where it is missing or does not load."""
    logger = logging.getLogger(_LOGGER)
    muted, wanted_gl = logger.disabled, os.environ.get("MUJOCO_GL")
    logger.disabled = True  # its level is set, and a handler added, while it is imported: a level would not last
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module("robosuite")
    except ImportError as error:
        raise VlaError(
            f"environments robosuite/…: robosuite 1.5 is needed and cannot be imported ({error}); "
            "pip install 'vla[robosuite]'"
        ) from error
    finally:
        logger.disabled = muted
        # It sets MUJOCO_GL=egl for the whole process, which would take OSMesa from every other renderer.
        if wanted_gl is None:
            os.environ.pop("MUJOCO_GL", None)
        else:
            os.environ["MUJOCO_GL"] = wanted_gl
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
