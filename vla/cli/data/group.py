"""``vla data``: one file a verb, imported only when it is called."""

import importlib
from collections.abc import Sequence

VERBS = {
    "info": "what is in a dataset, in a screen",
    "validate": "whether a dataset can be trusted: quickly, or --full, or --deep",
    "repair": "put a dataset in order after a crash or damage; nothing sealed is changed",
    "upgrade": "convert a dataset of an older format, in place",
    "stats": "statistics of states and actions, and what is odd about them",
    "mix": "what a mixture of datasets is made of",
    "convert": "import from, or export to, another format",
    "merge": "copy several datasets of one robot into one",
    "split": "assign episodes to splits, as a new version",
    "filter": "keep only some episodes, as a new version",
    "relabel": "change instructions, tasks or success, as a new version",
    "pack": "rewrite many small segments as few large ones, as a new version",
    "replay": "run episodes open loop in their environment and compare",
    "label": "add labels that follow from the logs: the gripper's next event, where it is seen, the coming path",
    "render": "render episodes anew from their simulator states, at another size",
    "view": "a web page of one episode, or a Rerun recording",
    "draw": "draw synthetic pictures with known findings, and their reports",
    "speak": "say the instructions aloud, by several voices, to learn to listen from",
    "bench": "how fast a dataset is read here",
}
CARE = ("validate", "repair", "upgrade", "pack")
"""Those that look after a dataset, in a folder of their own."""
_EXAMPLES = """examples:
  vla data info data/place
  vla data validate data/place --deep
  vla data convert demo.hdf5 data/lift
  vla data convert data/place out/place --to lerobot
  vla data view data/place --episode 3 --out episode.html
"""


def main(argv: Sequence[str]) -> int:
    """Run one verb."""
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        width = max(map(len, VERBS))
        verbs = "\n".join(f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items())
        print(f"usage: vla data COMMAND ...\n\n{verbs}\n\n{_EXAMPLES}\nvla data COMMAND --help tells more.", flush=True)
        return 0 if argv else 2
    from vla.core.lookup import lookup

    lookup("command", name, VERBS)
    folder = "vla.cli.data.care" if name in CARE else "vla.cli.data"
    return int(importlib.import_module(f"{folder}.{name}").main(list(argv[1:])))
