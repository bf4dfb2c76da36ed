"""The ``vla`` command: one file a verb, imported only when it is called."""

import errno
import importlib
import os
import sys

VERBS = {
    "demo": "collect, train, evaluate and report, from nothing to a policy",
    "collect": "record demonstrations of a scripted expert into a dataset",
    "train": "train a policy on a dataset, as a recipe says",
    "eval": "run a policy in closed loop and report its success rate",
    "report": "put results of evaluations on one page and into Markdown",
    "data": "inspect, check, repair, convert, edit and replay datasets",
    "info": "say what a checkpoint is",
    "upgrade": "convert a checkpoint that an earlier version wrote",
    "run": "let a policy drive a robot, real or simulated",
    "serve": "serve a policy to robots and simulators over a websocket",
    "envs": "list the environments",
    "bench": "measure speed against peers and floors",
}
GROUPS = {"data"}
"""Verbs that are a folder of verbs, each with a module ``<verb>_group`` that chooses among them."""
_EXAMPLES = """examples:
  vla demo --minutes 3
  vla collect data/place --episodes 2000
  vla data info data/place
  vla train configs/demo.yaml --data.path data/place --out runs/place
  vla eval runs/place/checkpoint --episodes 100 --language-test
  vla serve runs/place/checkpoint --port 8000
"""


def main() -> int:
    """Run one verb; errors that a user can act on become one line and exit code 2."""
    argv = sys.argv[1:]
    name = argv[0] if argv else "--help"
    from vla.core.errors import VlaError
    from vla.core.lookup import lookup
    from vla.core.machine.stopping import exit_code, interrupt, requests_go_to

    try:
        if name in ("-h", "--help", "--version"):
            print(_version() if name == "--version" else _help(), flush=True)
            return 0 if argv else 2
        lookup("command", name, VERBS)
        verb = importlib.import_module(f"vla.cli.{name}_group" if name in GROUPS else f"vla.cli.{name}")
        with requests_go_to(interrupt):
            return int(verb.main(argv[1:]))
    except VlaError as error:
        print(f"vla {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it exits
        return 1
    except OSError as error:
        print(f"vla {name}: {_explain(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"vla {name}: {str(stopped) or 'interrupted'}", file=sys.stderr)
        return exit_code(stopped)


def _explain(error: OSError) -> str:
    """What the operating system refused, and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{where}disk full; free space and run the same command again, all that was finished is kept"
    return f"{where}{error.strerror or error}"


def _version() -> str:
    from importlib.metadata import version

    return f"vla {version('vla')}"


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in VERBS.items())
    usage = "usage: vla COMMAND ...\n\nTrain, evaluate and serve robot policies."
    return f"{usage}\n\n{verbs}\n\n{_EXAMPLES}\nvla COMMAND --help tells more."


if __name__ == "__main__":
    sys.exit(main())
