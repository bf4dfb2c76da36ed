"""``vla data info``: what is in a dataset, in a screen."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import console, parse, write_result

if TYPE_CHECKING:
    from vla.datasets.dataset import Dataset

_EXAMPLES = """  vla data info data/place
  vla data info s3://lab/place --manifest 3 --json info.json
  vla data info data/place --episodes 20"""
_ROWS = 12


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Show what is in a dataset."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    manifest: int | None = None
    """Version; the latest by default."""
    episodes: int = 0
    """Also list so many episodes."""
    json: Path | None = None
    """Write it to this file."""


def main(argv: list[str]) -> int:
    """Open, count, print."""
    arguments = parse(Arguments, argv, verb="data info", examples=_EXAMPLES)
    from vla.datasets.dataset import Dataset

    dataset = Dataset.open(arguments.dataset, arguments.manifest)
    facts = describe(dataset)
    _print(dataset, facts)
    if arguments.episodes:
        _list(dataset, arguments.episodes)
    write_result(arguments.json, facts)
    return 0


def describe(dataset: "Dataset") -> dict[str, Any]:
    """Plain JSON facts of one version."""
    import numpy as np

    from vla.datasets.care.notes import import_notes

    contract, index = dataset.contract, dataset.episodes
    lengths = index.lengths
    return {
        "dataset": dataset.url,
        "version": dataset.manifest.number,
        "created": dataset.manifest.created,
        "reason": dataset.manifest.reason,
        "episodes": len(index),
        "steps": len(dataset),
        "hours": len(dataset) / contract.control_hz / 3600,
        "cameras": [
            {
                "name": camera.name,
                "height": camera.height,
                "width": camera.width,
                "kind": camera.kind,
                "fps": camera.hz or contract.control_hz,
                "codec": dataset.codecs[camera.name],
            }
            for camera in contract.cameras
        ],
        "robot": contract.robot,
        "fps": contract.control_hz,
        "state": [dimension.name for dimension in contract.state],
        "action": [dimension.name for dimension in contract.action],
        "signals": {name: [dimension.name for dimension in signal] for name, signal in contract.signals.items()},
        "gripper": contract.gripper,
        "policy": _policy(dataset),
        "instructions": _counts(dataset, "instruction"),
        "tasks": _counts(dataset, "task"),
        "splits": _counts(dataset, "split"),
        "success": {
            name: int((index.success == code).sum()) for name, code in (("yes", 1), ("no", 0), ("unknown", -1))
        },
        "length": {
            "min": int(lengths.min(initial=2**62)) if len(lengths) else 0,
            "median": float(np.median(lengths)) if len(lengths) else 0.0,
            "max": int(lengths.max(initial=0)),
        },
        "segments": len(dataset.manifest.segments),
        "bytes": sum(dataset.segment_bytes(number) for number in range(len(dataset.manifest.segments))),
        "dropped": len(dataset.manifest.dropped),
        "relabelled": len(dataset.manifest.overrides),
        "notes": import_notes(dataset),
        "episode_notes": sum(len(notes) for _, notes in index.notes()),
    }


def _policy(dataset: "Dataset") -> dict[str, Any]:
    """What a policy makes of the data when it is trained with the defaults."""
    from vla.core.action_transform import ActionTransform
    from vla.datasets.formats.description import origin_of_limits

    contract = dataset.contract
    reasons = ActionTransform.reasons(contract)
    segments = range(len(dataset.manifest.segments))
    return {
        "relative": [d.name for d, reason in zip(contract.action, reasons, strict=True) if not reason],
        "absolute": {d.name: reason for d, reason in zip(contract.action, reasons, strict=True) if reason},
        "gripper": contract.gripper,
        "limits": sorted({origin_of_limits(dataset.provenance(segment)) for segment in segments}),
        "cameras": [camera.name for camera in contract.cameras if camera.kind == "rgb"],
        "cameras_not_read": [camera.name for camera in contract.cameras if camera.kind != "rgb"],
        "action_limits": {d.name: [d.low, d.high, d.unit] for d in contract.action},
    }


def _counts(dataset: "Dataset", column: str) -> dict[str, int]:
    """Episodes of each value, the most frequent first."""
    import numpy as np

    values, codes = dataset.episodes.column(column)
    present, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {values[present[i]]: int(counts[i]) for i in order}


def _print(dataset: "Dataset", facts: dict[str, Any]) -> None:
    from rich.table import Table

    success, length = facts["success"], facts["length"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    rows = {
        "dataset": f"{facts['dataset']}, version {facts['version']} of {facts['created'][:19]} ({facts['reason']})",
        "episodes": f"{facts['episodes']:,}, {length['min']} to {length['max']} steps, median {length['median']:g}",
        "steps": f"{facts['steps']:,} at {facts['fps']:g} Hz: {facts['hours']:.2f} hours",
        "success": f"{success['yes']:,} yes, {success['no']:,} no, {success['unknown']:,} unknown",
        "robot": facts["robot"] + (f", gripper {facts['gripper']}" if facts["gripper"] else ""),
        "state": _wrapped(facts["state"]),
        "action": _wrapped(facts["action"]),
        "signals": "\n".join(f"{name} {_wrapped(names)}" for name, names in facts["signals"].items()) or "none",
        "cameras": "\n".join(
            f"{c['name']} {c['width']}x{c['height']} {c['kind']} at {c['fps']:g} Hz, {c['codec']}"
            for c in facts["cameras"]
        )
        or "none",
        "on disk": f"{facts['bytes'] / 1e6:,.1f} MB in {facts['segments']:,} segments",
    }
    if facts["dropped"] or facts["relabelled"]:
        rows["edited"] = f"{facts['dropped']:,} episodes dropped, {facts['relabelled']:,} relabelled"
    rows |= _policy_rows(facts["policy"])
    if facts["notes"] or facts["episode_notes"]:
        single = f"{facts['episode_notes']:,} of single episodes: vla data validate lists them"
        rows["notes"] = "\n".join([*facts["notes"], *([single] if facts["episode_notes"] else [])])
    for name, text in rows.items():
        table.add_row(name, text)
    console().print(table)
    for title in ("tasks", "splits", "instructions"):
        counts = facts[title]
        shown = Table(title, "episodes", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for value, count in list(counts.items())[:_ROWS]:
            shown.add_row(value, f"{count:,}")
        if len(counts) > _ROWS:
            shown.add_row(f"… and {len(counts) - _ROWS:,} more", "")
        console().print(shown)


def _policy_rows(policy: dict[str, Any]) -> dict[str, str]:
    """The same, in words."""
    absolute: dict[str, list[str]] = {}
    for name, reason in policy["absolute"].items():
        absolute.setdefault(reason, []).append(name)
    learned = [f"{_wrapped(policy['relative'])} relative to the state"] if policy["relative"] else []
    learned += [f"{_wrapped(names)} absolute: {reason}" for reason, names in absolute.items()]
    depth = policy["cameras_not_read"]
    return {
        "a policy learns": "\n".join(learned) or "no actions",
        "its gripper": policy["gripper"] or "none: no action is named as one",
        "its limits": "\n".join(policy["limits"]) or "none",
        "it sees": _wrapped(policy["cameras"]) + (f"; depth is not read: {', '.join(depth)}" if depth else ""),
    }


def _wrapped(names: list[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "none"


def _list(dataset: "Dataset", limit: int) -> None:
    from rich.table import Table

    table = Table("#", box=None, padding=(0, 2, 0, 0))
    table.add_column("uid", no_wrap=True)
    for title in ("steps", "success", "split", "task", "instruction"):
        table.add_column(title)
    for number, record in enumerate(dataset.episodes[:limit]):
        known = {True: "yes", False: "no", None: "?"}[record.success]
        table.add_row(str(number), record.uid, str(record.length), known, record.split, record.task, record.instruction)
    console().print(table)
