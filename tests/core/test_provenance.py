"""Results carry their origin, as JSON."""

import json

from vla.core.provenance import provenance, versions


def test_provenance_is_json_and_complete() -> None:
    value = json.loads(json.dumps(provenance(seed=3)))
    assert value["seed"] == 3
    assert {"command", "created", "git", "versions", "hardware"} <= value.keys()
    assert value["hardware"]["cores"] >= 1


def test_versions_name_what_is_installed() -> None:
    assert {"python", "vla", "torch", "numpy"} <= versions().keys()
