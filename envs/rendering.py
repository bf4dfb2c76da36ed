"""Rendering cameras without a screen, with the OpenGL that `vla.envs.gl` found."""

import atexit
import weakref
from typing import Any

import mujoco
import numpy as np

from vla.core.errors import RenderError
from vla.envs.gl import make_context, require_gl


class CameraRenderer:
    """Renders named cameras of one model as uint8 (y, x, 3), row 0 at the top, without shadows or reflections.

    On software GL the shadow map, multisampling and reflections are nearly all of the cost of a small scene,
    so a model should also set ``shadowsize`` and ``offsamples`` to 0.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        self.backend = require_gl()
        self._gl = make_context(self.backend, width, height)
        self._model = model
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        for flag in (
            mujoco.mjtRndFlag.mjRND_SHADOW,
            mujoco.mjtRndFlag.mjRND_REFLECTION,
            mujoco.mjtRndFlag.mjRND_SKYBOX,
        ):
            self._scene.flags[flag] = False
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        try:
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        except mujoco.FatalError as error:
            raise RenderError(f"{self.backend} has no room for pictures of {width}x{height} ({error})") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._finalizer = weakref.finalize(self, _free, self._context, self._gl)
        # At interpreter exit it must come before MuJoCo's own handler, which shuts EGL down: last in, first out.
        self._finalizer.atexit = False
        atexit.register(self._finalizer)

    @property
    def description(self) -> str:
        """The backend and the driver's own name: part of a result's provenance."""
        from OpenGL import GL

        self._gl.make_current()
        return f"{self.backend}: {GL.glGetString(GL.GL_RENDERER).decode()}"

    def render(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """One frame of ``camera``."""
        self._gl.make_current()
        self._camera.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        return self._pixels[::-1].copy()  # OpenGL's row 0 is at the bottom

    def close(self) -> None:
        """Free the GL context."""
        self._finalizer()
        atexit.unregister(self._finalizer)  # or the list of what is to be done at exit grows with each renderer


def _free(context: Any, gl: Any) -> None:
    try:
        gl.make_current()
    except Exception:  # garbage was collected by another thread than the one in which this context is current
        atexit.register(_free, context, gl)
        return
    context.free()
    gl.free()


def image_point(model: mujoco.MjModel, data: mujoco.MjData, camera: str, position_m: np.ndarray) -> np.ndarray:
    """(row, column) of a world position in a square image, -1 to 1 from its first to its last row and column.

    Points outside the image lie outside that range, at most at 2; those behind the camera are at (2, 2).
    """
    number = model.camera(camera).id
    x, y, z = data.cam_xmat[number].reshape(3, 3).T @ (position_m - data.cam_xpos[number])  # looks along -z
    if z > -1e-3:
        return np.array([2.0, 2.0])
    focal = 1.0 / np.tan(np.deg2rad(model.cam_fovy[number]) / 2)
    return np.clip([-focal * y / -z, focal * x / -z], -2.0, 2.0)
