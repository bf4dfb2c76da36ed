"""``vla serve``: several policies, a newer checkpoint while clients ask, what is kept and asked again, and a shadow."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import running
from vla.core.sealed import seal_folder
from vla.deploy.client import PolicyClient
from vla.deploy.recording.frames import read_frames
from vla.deploy.requests import neutral_observation
from vla.deploy.serving.server import DEFAULT

_TOLD = "tests.deploy.policies:ToldPolicy"


@contextmanager
def serving(folder: Path, *arguments: object) -> Iterator[tuple[str, int]]:
    """The address and the process of ``vla serve``, which Ctrl-C must end cleanly; its output goes to a file."""
    ready, said = folder / "ready.json", folder / "served.txt"
    ready.unlink(missing_ok=True)
    options = ("--port", "0", "--json", ready, "--limits.clients", "4")
    command = [sys.executable, "-m", "vla.cli.main", "serve", *map(str, (*arguments, *options))]
    with said.open("w") as out, running(command, stdout=out, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: ready.exists() or process.poll() is not None)
            assert process.poll() is None, process.communicate()[1]
            yield json.loads(ready.read_text())["address"], process.pid
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode in (0, 130)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def version(address: str, name: str) -> float:
    with urllib.request.urlopen(address.replace("ws://", "http://") + "/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    line = f'vla_policy_version{{policy="{name}"}}'
    return next(float(found.rpartition(" ")[2]) for found in lines if found.startswith(line))


def message(client: PolicyClient, number: int) -> dict[str, Any]:
    from vla.core.contract import Contract

    seen = neutral_observation(Contract.from_json(client.metadata["contract"], where="test"))
    rng = np.random.default_rng(number)
    images = {name: rng.integers(0, 256, image.shape).astype(image.dtype) for name, image in seen.images.items()}
    return {"images": images, "state": seen.state, "prompt": "put the red block on the blue plate"}


def ask(address: str, times: int) -> list[int]:
    with PolicyClient(address) as client:
        client.reset()
        return [client.infer(message(client, number))["policy_version"] for number in range(times)]


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "checkpoint"))


def test_a_newer_checkpoint_takes_over_and_all_is_kept_and_asked_again(
    call: Callable, checkpoint: Path, trained: Path, tmp_path: Path
) -> None:
    served = ("place=" + str(checkpoint), f"told={_TOLD}", "--record", tmp_path / "kept", "--shadow", trained)
    with serving(tmp_path, *served) as (address, pid):
        assert ask(f"{address}/place", 3) == [1, 1, 1]
        os.kill(pid, signal.SIGHUP)  # the checkpoint is the same; the module may not be
        wait_until(lambda: version(address, "told") == 2)
        assert version(address, "place") == 1
        (checkpoint / "provenance.json").write_text("{}")
        seal_folder(checkpoint)
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: version(address, "place") == 2)
        assert ask(address, 2) == [2, 2]
    assert f"{trained} beside it" in (tmp_path / "served.txt").read_text().replace("\n", " ")
    told = call("serve", "--replay", tmp_path / "kept" / "place", "--json", tmp_path / "replayed.json")
    assert told.code == 0, told.err + told.out
    assert f"of {checkpoint}: all the same bits" in told.out
    (result,) = json.loads((tmp_path / "replayed.json").read_text()).values()
    assert (result["answers"], result["differing"], len(result["digests"])) == (6, 0, 2)
    told = call("serve", _TOLD, "--replay", tmp_path / "kept")
    assert told.code == 2
    assert "does not fit the record" in told.err


def test_answers_that_differ_are_an_exit_code(call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = tmp_path / "number"
    number.write_text("0.25")
    monkeypatch.setenv("VLA_TEST_NUMBER", str(number))
    with serving(tmp_path, "tests.deploy.policies:told_number", "--record", tmp_path / "kept") as (address, _):
        assert ask(address, 2) == [1, 1]
    assert sum(value["kind"] == "batch" for value in read_frames(tmp_path / "kept" / DEFAULT)) == 3
    assert call("serve", "--replay", tmp_path / "kept").code == 0
    number.write_text("0.5")
    told = call("serve", "--replay", tmp_path / "kept")
    assert told.code == 1
    assert "3 differ, first in batch 1; most: shoulder 0.25, elbow 0.25" in told.out


def test_names_are_asked_for_where_there_are_several(call: Callable, tmp_path: Path) -> None:
    for given, says in (
        ((), "which policy?"),
        ((_TOLD, _TOLD), "several policies have names, as in place="),
        ((f"a={_TOLD}", f"a={_TOLD}"), "a policy of that name already"),
        ((f"metrics={_TOLD}",), "expected NAME=POLICY"),
        (("--replay", tmp_path), "holds no record"),
    ):
        told = call("serve", *given)
        assert told.code == 2
        assert says in told.err
