"""Importing robosuite is quiet, leaves the process as it was, and fails with a clear message."""

import subprocess
import sys

import pytest

from vla.core.errors import VlaError
from vla.envs.registry import ENVS
from vla.envs.robosuite.loading import import_robosuite
from vla.envs.robosuite.table import ROBOSUITE
from vla.envs.robosuite.words import WORDS


def test_importing_says_nothing_and_does_not_choose_a_renderer() -> None:
    code = (
        "import os; from vla.envs.gl import settle_gl; from vla.envs.robosuite.loading import make_suite_env; "
        "settled = settle_gl().name or 'off'; "
        "make_suite_env('Lift', robot='Panda', control_hz=20.0); assert os.environ['MUJOCO_GL'] == settled"
    )
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        env=environ,
        timeout=200,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_without_robosuite_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "robosuite", None)
    with pytest.raises(VlaError, match=r"pip install 'vla\[robosuite\]'"):
        import_robosuite()


def test_the_table_is_light_and_complete() -> None:
    code = "import sys; import vla.envs.robosuite.table; assert not {'mujoco', 'robosuite', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert set(ROBOSUITE) == {f"robosuite/{task}" for task in WORDS} <= set(ENVS)
    for words in WORDS.values():
        assert len(set(words.phrases)) == len(words.phrases) >= 5
        assert all(set(phrase) <= set(" ,abcdefghijklmnopqrstuvwxyz") for phrase in words.phrases)
