"""``vla bench``: measured speed."""

from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vla.bench.measure import to_json
from vla.bench.table import BENCHES, Bench
from vla.cli.command import console, parse, show_config, write_result
from vla.core.config import to_dict
from vla.core.lookup import lookup

_EXAMPLES = """  vla bench loader --json loader.json
  vla bench loader --sizes 224 --budget 3
  vla bench index --episodes 100000
  vla bench codecs data/place --json codecs.json
  vla bench policy --json policy.json
  vla bench search data/place --checkpoint runs/two-tower/checkpoint --json search.json
  vla bench recorder --hz 50
  vla bench server --json server.json
  vla bench loop --seconds 60
  vla bench fuzz --json fuzz.json
  vla bench soak --minutes 20 --json soak.json
  vla bench damage --strict
  vla bench crash --kills 200 --strict --json crash.json"""


def _arguments(bench: Bench) -> Any:
    """What the command line of one measurement fills in."""
    config = Annotated[bench.config, tyro.conf.arg(name="")]  # type: ignore[name-defined]
    path = Annotated[Path | None, tyro.conf.arg(help="Write the rows and their origin to this file.")]
    flag = tyro.conf.FlagCreatePairsOff[Annotated[bool, tyro.conf.arg(help="Exit with 1 if a row falls short.")]]
    fields = [
        ("config", config, field(default_factory=bench.config)),
        ("json", path, field(default=None)),
        ("strict", flag, field(default=False)),
    ]
    kind = make_dataclass("Arguments", fields, frozen=True, kw_only=True)
    kind.__doc__ = f"Measure {bench.summary}."
    return kind


def main(argv: list[str]) -> int:
    """Measure what the first argument names."""
    if not argv or argv[0].startswith("-"):
        console().print(_help(), markup=False)
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    name = argv[0]
    bench = lookup("bench", name, BENCHES)
    arguments = parse(_arguments(bench), argv[1:], verb=f"bench {name}", examples=_EXAMPLES)
    show_config(f"bench {name}", arguments.config)
    rows = bench.run(arguments.config, lambda text: console().print(text, style="dim", markup=False))
    console().print(bench.show(rows))
    write_result(arguments.json, to_json(rows, bench=name, config=to_dict(arguments.config)))
    return 1 if arguments.strict and any(row.passes is False for row in rows) else 0


def _help() -> str:
    width = max(map(len, BENCHES))
    table = "\n".join(f"  {name:<{width}}  {bench.summary}" for name, bench in BENCHES.items())
    return (
        "usage: vla bench NAME [options] [--json FILE]\n\nMeasure speed against peers and floors; "
        f"vla bench NAME --help tells the options.\n\n{table}\n\nexamples:\n{_EXAMPLES}"
    )
