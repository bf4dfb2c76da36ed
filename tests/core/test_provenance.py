"""Results carry their origin, as JSON."""

import json
from pathlib import Path

from vla.core.provenance import folder_digest, provenance, versions


def test_provenance_is_json_and_complete() -> None:
    value = json.loads(json.dumps(provenance(seed=3)))
    assert value["seed"] == 3
    assert {"command", "created", "git", "versions", "hardware"} <= value.keys()
    assert value["hardware"]["cores"] >= 1


def test_versions_name_what_is_installed() -> None:
    assert {"python", "vla", "torch", "numpy"} <= versions().keys()


def test_a_folder_is_named_by_what_is_in_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_text("same")
    assert folder_digest(tmp_path / "a") == folder_digest(tmp_path / "b")
    (tmp_path / "b" / "deep" / "file").write_text("else")
    assert folder_digest(tmp_path / "a") != folder_digest(tmp_path / "b")
    (tmp_path / "a" / "deep" / "file").rename(tmp_path / "a" / "file")
    assert len({folder_digest(tmp_path / "a"), folder_digest(tmp_path / "b"), folder_digest(tmp_path)}) == 3
