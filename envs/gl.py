"""Which OpenGL renders cameras here: tried once, in a process of its own, before MuJoCo is imported.

MuJoCo and PyOpenGL read the environment while they are imported and cannot change their minds later; a driver that is
broken can take its process along. What was found is handed to MuJoCo, to suites that render themselves, and to the
processes that this one starts by the environment.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from vla.core.errors import RenderError

BACKENDS = ("egl", "osmesa", "glfw")
"""In the order in which they are tried."""
_ALIASES = {"glx": "glfw"} | dict.fromkeys(("enable", "enabled", "on", "true", "1"), "")
_OFF = ("disable", "disabled", "off", "false", "0")
_FOUND = "VLA_GL"
_DECIDES = ("MUJOCO_EGL_DEVICE_ID", "DISPLAY", "LD_LIBRARY_PATH", "__EGL_VENDOR_LIBRARY_FILENAMES", "GALLIUM_DRIVER")
"""What else a driver reads: with other values, what was found does not count."""
_SECONDS = 60.0
_NO_LIBRARY = "its library is not installed"
_INSTALL = {
    "egl": "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri",
    "osmesa": "apt-get install libosmesa6",
    "glfw": "a screen (DISPLAY), as xvfb-run gives one",
}
_PROBE = """
import importlib, sys, warnings
if sys.argv[1] == "glfw":
    warnings.simplefilter("error")
kind = importlib.import_module("mujoco." + sys.argv[1]).GLContext
kind._context = None
context = kind(8, 8)
context.make_current()
from OpenGL import GL
assert GL.glGetString(GL.GL_RENDERER), "it names no renderer"
context.free()
"""


@dataclass(frozen=True)
class GL:
    """What was asked for, and what came of it."""

    where: tuple[str | None, ...]
    """The variables that decide, as they were."""
    name: str = ""
    """One of `BACKENDS`; empty where there is none."""
    problem: str = ""
    """Why there is none, and what to do."""


def settle_gl() -> GL:
    """Find the OpenGL to render with, and tell MuJoCo and PyOpenGL; without one, MuJoCo is told to do without.

    Having none is no error yet: what has no cameras needs none. See `require_gl`.
    """
    _load_triton()
    asked, where = os.environ.get("MUJOCO_GL", ""), tuple(os.environ.get(name) for name in _DECIDES)
    before = _recall()
    if before is not None and asked == (before.name or "off") and where == before.where:
        return before
    name, problem = _find(asked, os.environ.get("MUJOCO_EGL_DEVICE_ID"))
    found = GL(where, name, problem)
    os.environ["MUJOCO_GL"] = found.name or "off"
    if found.name:
        os.environ["PYOPENGL_PLATFORM"] = _platform(found.name)
    os.environ[_FOUND] = json.dumps(asdict(found))
    return found


def require_gl() -> str:
    """The name of the OpenGL that works here, or `RenderError` with what stands in the way of each."""
    found = settle_gl()
    if not found.name:
        raise RenderError(found.problem)
    return found.name


def make_context(name: str, width: int, height: int) -> Any:
    """A context of the OpenGL that `require_gl` named, made current."""
    try:
        kind = importlib.import_module(f"mujoco.{name}").GLContext
        kind._context = None  # its __del__ reads it, also after an __init__ that failed, and complains on stderr
        context = kind(width, height)
        context.make_current()
    except Exception as error:  # PyOpenGL raises whatever a library leads to
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise RenderError(
            f"OpenGL ({name}) works in a process of its own and not in this one ({reason}): another OpenGL was loaded "
            f"here before, or the driver has no room for one more; set MUJOCO_GL={name} before Python starts, or run "
            "fewer workers"
        ) from error
    return context


def _load_triton() -> None:
    """Triton comes with CUDA builds of PyTorch, and has an LLVM of its own: loaded after that of Mesa, it crashes.

    PyTorch loads it when the first optimiser is built, so training after rendering ended by a segmentation fault.
    """
    with suppress(ImportError, OSError):
        importlib.import_module("triton")


def _recall() -> GL | None:
    """What this process, or the one that started it, found."""
    try:
        said = json.loads(os.environ[_FOUND])
        return GL(tuple(said["where"]), said["name"], said["problem"])
    except (KeyError, ValueError, TypeError):
        return None


def _find(asked: str, device: str | None) -> tuple[str, str]:
    """Name and problem, of which one is empty."""
    wanted = asked.strip().lower()
    wanted = _ALIASES.get(wanted, wanted)
    if wanted in _OFF:
        return "", f"MUJOCO_GL={asked} switches off what cameras need: unset it, or set it to {_or(BACKENDS)}"
    failures: dict[str, str] = {}
    for name in [wanted] if wanted in BACKENDS else BACKENDS:
        why = _try(name)
        if why is None:
            works = wanted in ("", name)
            return (name, "") if works else ("", f"{_unknown(asked)}: {_choose([name])}")
        if device is not None and name == "egl" and ("MUJOCO_EGL_DEVICE_ID" in why or "int()" in why):
            return "", f"MUJOCO_EGL_DEVICE_ID={device} is no device of this machine ({why}): unset it"
        failures[name] = why
    tried = "; ".join(f"{name}: {why}" for name, why in failures.items())
    if wanted in BACKENDS:
        others = [name for name in BACKENDS if name != wanted and _try(name) is None]
        advice = _choose(others) if others else _fix(failures)
        return "", f"MUJOCO_GL={asked} does not work here ({tried}): {advice}"
    wrong = f"{_unknown(asked)}, and " if wanted else ""
    return "", f"{wrong}there is no OpenGL to render cameras with ({tried}): {_fix(failures)}"


def _try(name: str) -> str | None:
    """Why a context of this kind cannot be made, in a process of its own; None where it can."""
    environment = os.environ | {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": _platform(name)}
    command = [sys.executable, "-P", "-c", _PROBE, name]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_SECONDS:g} s"
    if done.returncode < 0:
        return f"its driver ended the process by signal {-done.returncode}"
    return _cause(done.stderr) if done.returncode else None


def _cause(said: str) -> str:
    """The last line of a traceback, in words where PyOpenGL has none."""
    lines = [line for line in said.splitlines() if line and not line[0].isspace() and "Exception ignored" not in line]
    last = " ".join((lines or ["it failed without a word"])[-1].split())
    if last.startswith("AttributeError: 'NoneType'") or "has no attribute 'OSMesa" in last:
        return _NO_LIBRARY
    return (last.partition(": ")[2] or last)[:240].rstrip(".")


def _fix(failures: Mapping[str, str]) -> str:
    """What follows from the causes."""
    if any("No module named" in why for why in failures.values()):
        return "pip install 'vla[sim]'"
    lacking = [name for name, why in failures.items() if why == _NO_LIBRARY]
    return f"what helps: {_or([_INSTALL[name] for name in lacking or failures])}"


def _unknown(asked: str) -> str:
    return f"MUJOCO_GL={asked} is none of {_or(BACKENDS)}"


def _choose(working: Sequence[str]) -> str:
    return f"{_or(working)} works; unset MUJOCO_GL or set it to {working[0]}"


def _or(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _platform(name: str) -> str:
    """What PyOpenGL calls it."""
    return "glx" if name == "glfw" else name
