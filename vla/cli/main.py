"""The ``vla`` command: one file a verb, imported only when it is called."""

import importlib
import os
import sys
import warnings

VERBS = {
    "demo": "collect, train, evaluate and report, from nothing to a policy",
    "collect": "record demonstrations of a scripted expert into a dataset",
    "train": "train a policy on a dataset, as a recipe says",
    "eval": "run a policy in closed loop and report its success rate",
    "report": "put results of evaluations on one page and into Markdown",
    "data": "inspect, check, repair, convert, edit and replay datasets",
    "tower": "make a folder of a pretrained tower that a package ships",
    "codes": "make codes of pictures, and say how good they are",
    "ask": "ask a checkpoint about what it sees",
    "imagine": "let a checkpoint draw what it will see when it is done",
    "search": "find frames and episodes by words or by a picture",
    "explain": "report what happened in an episode of an evaluation",
    "info": "say what a checkpoint is",
    "upgrade": "convert a checkpoint that an earlier version wrote",
    "teleop": "drive a robot by keys or a leader arm, and record what you do into a dataset",
    "run": "let a policy drive a robot, real or simulated",
    "emulate": "emulate servos on a line that any program can open",
    "serve": "serve a policy to robots and simulators over a websocket",
    "envs": "list the environments",
    "compare": "train and measure kinds of multimodal models on one task",
    "recommend": "say which kind of multimodal model a task wants, and why",
    "bench": "measure speed against peers and floors",
}
_MODULES = {
    "data": "data.group",
    "codes": "codes.group",
    "ask": "writing.ask",
    "imagine": "writing.imagine",
    "explain": "writing.explain",
    "compare": "paradigms.compare",
    "recommend": "paradigms.recommend",
    "search": "towers.search",
}
"""Of verbs that are a folder of verbs, with a module ``group`` that chooses among them, and of those that share one."""
_EXAMPLES = """examples:
  vla demo
  vla collect data/place --episodes 2000
  vla data info data/place
  vla train demo --data.path data/place --out runs/place
  vla eval runs/place/checkpoint --episodes 100 --language-test
  vla serve runs/place/checkpoint --port 8000
"""


def main() -> int:
    """Run one verb; errors that a user can act on become one line and exit code 2."""
    argv = sys.argv[1:]
    name = argv[0] if argv else "--help"
    from vla.core.lookup import lookup
    from vla.core.machine.memory import collect_seldom
    from vla.core.machine.stopping import exit_code, interrupt, requests_go_to

    collect_seldom()
    warnings.showwarning = _one_line  # type: ignore[assignment]  # its other arguments are not used
    try:
        if name in ("-h", "--help", "--version"):
            print(_version() if name == "--version" else _help(), flush=True)
            return 0 if argv else 2
        lookup("command", name, VERBS)
        verb = importlib.import_module(f"vla.cli.{_MODULES.get(name, name)}")
        with requests_go_to(interrupt):
            return int(verb.main(argv[1:]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it exits
        return 1
    except KeyboardInterrupt as stopped:
        print(f"vla {name}: {str(stopped) or 'interrupted'}", file=sys.stderr)
        return exit_code(stopped)
    except Exception as error:
        from vla.core.machine.failures import explain

        said = explain(error)
        if said is None:
            raise
        print(f"vla {name}: {said}", file=sys.stderr)
        return 2


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    """A warning without the line of source that caused it."""
    print(f"vla: {' '.join(str(message).split())}", file=sys.stderr)


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
