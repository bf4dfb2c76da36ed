"""``vla codes``: one file a verb, imported only when it is called."""

import importlib
from collections.abc import Sequence

VERBS = {
    "fit": "make a codec of a dataset's pictures: a codebook in seconds, or a learned one",
    "show": "say what a codec is, and how good it is on a dataset",
}
_EXAMPLES = """examples:
  vla codes fit data/place codes/place
  vla codes show codes/place
"""


def main(argv: Sequence[str]) -> int:
    """Run one verb."""
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        width = max(map(len, VERBS))
        verbs = "\n".join(f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items())
        print(
            f"usage: vla codes COMMAND ...\n\n{verbs}\n\n{_EXAMPLES}\nvla codes COMMAND --help tells more.", flush=True
        )
        return 0 if argv else 2
    from vla.core.lookup import lookup

    lookup("command", name, VERBS)
    return int(importlib.import_module(f"vla.cli.codes.{name}").main(list(argv[1:])))
