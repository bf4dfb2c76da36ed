"""OpenGL is tried in a process of its own; a wrong choice of the user is named with what would work."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vla.core.errors import RenderError
from vla.envs.gl import BACKENDS, require_gl, settle_gl

_CODE = """
import json, os
from vla.envs.gl import settle_gl
found = settle_gl()
print(json.dumps([found.name, found.problem, os.environ["MUJOCO_GL"], os.environ.get("PYOPENGL_PLATFORM")]))
"""
_NO_EGL = {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent.json"}


def _settled(code: str = _CODE, **environment: str) -> Any:
    """What a fresh process with these variables finds."""
    clean = {key: value for key, value in os.environ.items() if key not in ("VLA_GL", "MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True, timeout=200
    )
    return json.loads(done.stdout)


def test_what_works_is_told_to_mujoco_and_pyopengl() -> None:
    name, problem, mujoco, platform = _settled()
    assert (name, problem, mujoco) == (name, "", name)
    assert name in BACKENDS
    assert platform == {"glfw": "glx"}.get(name, name)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MUJOCO_GL": "wrong"}, ("MUJOCO_GL=wrong is none of egl, osmesa or glfw", "works; unset MUJOCO_GL")),
        ({"MUJOCO_GL": "off"}, ("MUJOCO_GL=off switches off", "unset it")),
        ({"MUJOCO_GL": "glfw", "DISPLAY": ":99"}, ("MUJOCO_GL=glfw does not work here", "open display :99")),
        ({"MUJOCO_GL": "egl", **_NO_EGL}, ("MUJOCO_GL=egl does not work here", "Cannot initialize a EGL device")),
        ({"MUJOCO_EGL_DEVICE_ID": "99"}, ("MUJOCO_EGL_DEVICE_ID=99 is no device", "got 99", "unset it")),
        ({"MUJOCO_EGL_DEVICE_ID": "gpu"}, ("MUJOCO_EGL_DEVICE_ID=gpu is no device", "unset it")),
    ],
)
def test_a_wrong_choice_is_named_with_what_helps(environment: dict[str, str], words: tuple[str, ...]) -> None:
    name, problem, mujoco, _ = _settled(**environment)
    assert (name, mujoco) == ("", "off")  # so that MuJoCo can be imported all the same
    assert all(word in problem for word in words), problem
    if "MUJOCO_EGL_DEVICE_ID" in environment:
        assert "apt-get" not in problem


def test_a_device_counts_for_egl_alone() -> None:
    name, problem, *_ = _settled(MUJOCO_GL="osmesa", MUJOCO_EGL_DEVICE_ID="99")
    assert name == "osmesa" or "MUJOCO_EGL_DEVICE_ID" not in problem


def test_processes_that_are_started_do_not_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settle_gl()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried again")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert settle_gl() == before
    monkeypatch.setenv("MUJOCO_GL", "off")  # another wish is another question
    monkeypatch.setenv("VLA_GL", os.environ["VLA_GL"])
    with pytest.raises(RenderError, match="MUJOCO_GL=off"):
        require_gl()


def test_an_opengl_that_was_imported_before_is_named() -> None:
    code = """
import json, os, sys
for other in ("osmesa", "glx"):  # whichever there is
    os.environ["PYOPENGL_PLATFORM"] = other
    try:
        from OpenGL import GL
        break
    except (AttributeError, ImportError):
        for name in [name for name in sys.modules if name.startswith("OpenGL")]:
            del sys.modules[name]
os.environ["PYOPENGL_PLATFORM"] = ""
from vla.core.errors import RenderError
from vla.envs.gl import make_context
os.environ["PYOPENGL_PLATFORM"] = "egl"
try:
    make_context("egl", 8, 8)
    said = ""
except RenderError as error:
    said = str(error)
print(json.dumps(said))
"""
    assert "was loaded here before" in _settled(code)


@pytest.mark.parametrize("broken", [False, True])
def test_triton_is_loaded_before_opengl(broken: bool, tmp_path: Path) -> None:
    """Its LLVM and that of Mesa crash the other way round; one that cannot be loaded stands in nobody's way."""
    package = tmp_path / "triton"
    package.mkdir()
    fails = "raise OSError('libtriton.so: cannot open shared object file')" if broken else ""
    (package / "__init__.py").write_text(f"import sys\nprint('triton', 'OpenGL' in sys.modules)\n{fails}\n")
    code = "from vla.envs.gl import require_gl; require_gl(); import OpenGL; print('found')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["triton False", "found"]


def test_what_needs_triton_works_after_rendering() -> None:
    pytest.importorskip("triton", reason="Triton comes with CUDA builds of PyTorch")
    code = """
import mujoco
from vla.envs.rendering import CameraRenderer
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><camera name='above'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
CameraRenderer(model, 8, 8).render(data, "above")
import triton
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "alive"
