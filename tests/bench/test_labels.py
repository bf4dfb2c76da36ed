"""What labels are worth: what is asked for is there, and what labels from logs bring is a share of the simulator's."""

from pathlib import Path

import pytest

from vla.bench.labels import _recovered, bench_labels
from vla.bench.settings import LabelsConfig
from vla.core.errors import ConfigError


@pytest.mark.parametrize(("logs", "ratio", "passes"), [(0.8, 0.75, True), (0.602, 0.5025, True), (0.4, 0.25, False)])
def test_what_is_recovered_is_a_share_of_the_simulators_lift(logs: float, ratio: float, passes: bool) -> None:
    results = {
        "none": [{"success": 0.1}, {"success": 0.3}],
        "simulator": [{"success": 1.0}],
        "logs": [{"success": logs}],
    }
    (row,) = _recovered(results)
    assert row.ratio == pytest.approx(ratio)
    assert row.passes is passes


def test_no_lift_is_no_ratio() -> None:
    (row,) = _recovered({kind: [{"success": 0.5}] for kind in ("none", "simulator", "logs")})
    assert (row.ratio, row.passes) == (None, None)


def test_a_dataset_without_labels_is_refused(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="has no signal gripper_event, only grounding"):
        bench_labels(LabelsConfig(dataset=str(dataset)), print)
    with pytest.raises(ConfigError, match="which dataset"):
        bench_labels(LabelsConfig(), print)
