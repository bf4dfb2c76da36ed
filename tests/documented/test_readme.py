"""README, read from top to bottom in an empty folder: every command runs, and so do the lines of Python."""

import re
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.documented.conftest import ROOT, bare, readme_blocks
from vla.envs.registry import env_spec

_TARGETS = ("setup", "test")
"""What make does beside the demo; this suite runs under one of them."""


def _python(block: str, shell: Any) -> None:
    """Run a block as a program that has a robot's observation at hand."""
    env = env_spec("tabletop/place").make({})
    raw, _ = env.reset(seed=0)
    images = raw["images"]
    names = {
        "contract": replace(env.contract, signals={}),  # a robot says no more than it measures
        "images": images,
        **images,
        "state": raw["state"],
        "action": np.array([(d.low + d.high) / 2 for d in env.contract.action], np.float32),
        "time_ns": 1_700_000_000_000_000_000,
    }
    exec(compile(block.replace("8000", str(shell.port)), "README.md", "exec"), names)
    env.close()


@pytest.mark.timeout(1200)  # all of them in one test: minutes on a busy machine
@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")  # openpi-client's
def test_every_command_runs_in_the_order_shown(shell: Any) -> None:
    for made in ("data/place", "runs"):  # what README itself makes
        shutil.rmtree(made)
    makefile = (ROOT / "Makefile").read_text()
    ran = []
    for block in readme_blocks():
        if re.match(r"(from|import) ", block):
            _python(block, shell)
            ran.append("python")
            continue
        for line in block.splitlines():
            command = bare(line)
            if found := re.fullmatch(r"make (\w+)(?: ARGS=\"(.*)\")?", command):
                assert f"\n{found[1]}: " in makefile
                command = f"vla demo {found[2] or ''}".strip() if found[1] not in _TARGETS else ""
            if command.startswith("vla ") and "--help" not in command:
                shell.run(command)
                ran.append(command)
    assert len(ran) > 20
    assert ran.count("python") == 2
    assert any(command.startswith("vla serve") for command in ran)
