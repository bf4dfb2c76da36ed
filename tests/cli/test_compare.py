"""``vla compare``: what it wants to be told, and tables of what is measured already."""

import json
from collections.abc import Callable
from pathlib import Path

from vla.core.config import to_dict
from vla.core.files import write_json
from vla.evaluation.statistics import Difference, success_rate
from vla.paradigms.framework import FUSION, UNIFIED
from vla.paradigms.measuring import FILE, Asking, Measurement


def _measured(folder: Path, paradigm: str, successes: int) -> Path:
    rate = success_rate(successes, 100)
    found = Measurement(
        name=folder.name,
        paradigm=paradigm,
        checkpoint=str(folder / "checkpoint"),
        digest="0123",
        kind="unified",
        samples=96_000,
        training_s=200.0,
        parameters=1_900_000,
        trainable=1_900_000,
        asking=Asking(),
        success=rate,
        binding=rate,
        blank=Difference(difference=0.5, low=0.4, high=0.6),
        wrong=rate,
        unsaid=success_rate(0, 100),
        decision_ms=3.0,
        decision_p99_ms=4.0,
        probes={"side": rate},
        blind={"side": success_rate(50, 100)},
        probed_by="answers",
        writes=("answer",),
    )
    folder.mkdir()
    write_json(folder / FILE, to_dict(found))
    return folder


def test_tables_of_what_is_measured_already(call: Callable, tmp_path: Path) -> None:
    runs = _measured(tmp_path / "one", UNIFIED, 97), _measured(tmp_path / "llava", FUSION, 61)
    files = {name: tmp_path / f"compared.{name}" for name in ("html", "markdown", "json", "measured")}
    options = [word for name, file in files.items() for word in (f"--{name}", file)]
    ran = call("compare", "--runs", *runs, *options)
    assert ran.code == 0, ran.err
    as_said, otherwise = ran.out.replace("\n", " ").split("Otherwise than it is said:")
    assert "spatial reasoning of unified (“Best”)" in as_said
    assert "spatial reasoning of fusion (“Good”)" in otherwise
    assert "| one | unified | 97" in files["markdown"].read_text()
    assert "llava" in files["html"].read_text()
    value = json.loads(files["json"].read_text())
    verdicts = {(cell["dimension"], cell["paradigm"]): cell["verdict"] for cell in value["cells"]}
    assert verdicts["Spatial reasoning", "two-tower"] == "not measured"
    assert verdicts["Spatial reasoning", "fusion"] == "does not hold"
    assert json.loads(files["measured"].read_text())["paradigms"]["fusion"]["run"] == "llava"


def test_what_is_missing_is_said(call: Callable, tmp_path: Path) -> None:
    assert "give --data and --out" in call("compare").err
    (tmp_path / "empty").mkdir()
    assert "holds no measurement" in call("compare", "--runs", tmp_path / "empty").err
    said = call("compare", "--data", tmp_path, "--out", tmp_path, "--only", "lava").err
    assert "did you mean 'llava'" in said
    (tmp_path / FILE).write_text("{")
    assert "is damaged" in call("compare", "--runs", tmp_path).err
