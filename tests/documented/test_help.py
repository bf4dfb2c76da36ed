"""Every example that a ``--help`` shows does what it says."""

from importlib.util import find_spec
from typing import Any

import pytest

from vla.cli.data_group import VERBS as DATA_VERBS
from vla.cli.main import VERBS


@pytest.mark.parametrize("verb", ["", *VERBS, *(f"data {verb}" for verb in DATA_VERBS)])
def test_the_examples_run(verb: str, shell: Any) -> None:
    examples = shell.examples(*verb.split())
    assert examples
    for command in examples:
        if command.endswith(".rrd") and find_spec("rerun") is None:
            continue  # an extra of its own, which is not in the lock
        shell.run(command)
