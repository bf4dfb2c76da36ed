"""An episode as a Rerun recording (.rrd): every frame at full size, every number, and a layout to look at them.

Needs ``rerun-sdk``; it is asked for only when a recording is written.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from vla.core.contract import Camera, Contract, Dimension
from vla.core.machine.packages import needed_packages
from vla.core.types import Episode
from vla.report.episode.frames import encode_jpeg, require_fit
from vla.report.episode.timing import measure, runs

RERUN_QUALITY = 95
"""Of JPEG frames; the store keeps the exact pixels."""
LEGEND_LINES = 8
"""A longer legend would hide its plot; a line says its name when pointed at."""
STEP, TIME = "step", "time"
"""The two time lines: steps from 0, and seconds since step 0."""


def write_rrd(episode: Episode, contract: Contract, path: Path, *, title: str) -> None:
    """Write the recording to ``path``, whole or not at all; `MissingPackageError` without ``rerun-sdk``.

    Depth stays exact. A camera with a clock of its own is logged at its own times, and at the first step that sees it.
    """
    require_fit(episode, contract)
    rr = _rerun(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".rrd")
    os.close(handle)
    try:
        stream = rr.RecordingStream("vla", recording_id=None)
        stream.save(name, default_blueprint=_layout(contract))
        stream.send_recording_name(title)
        _log_text(rr, stream, episode, contract)
        for camera in contract.cameras:
            _log_camera(rr, stream, episode, camera)
        for name, dimensions in _vectors(contract).items():
            _log_vector(rr, stream, episode, name, dimensions, getattr(episode, name))
        for name, dimensions in contract.signals.items():
            _log_vector(rr, stream, episode, f"signals/{_path(name)}", dimensions, episode.signals[name])
        _log_lines(rr, stream, episode, "reward", ["reward"], episode.reward[:, None])
        _log_lines(rr, stream, episode, "valid", ["valid"], episode.valid.astype(np.float32)[:, None])
        stream.flush()
        stream.disconnect()
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _rerun(path: Path) -> Any:
    """The SDK; it warns of numpy 1, with which everything that is used here is tested."""
    with warnings.catch_warnings(), needed_packages(f"{path}: a Rerun recording", extra="rerun"):
        warnings.filterwarnings("ignore", "numpy 1 detected", DeprecationWarning)
        import rerun
    return rerun


def _layout(contract: Contract) -> Any:
    """Cameras above; below them one plot for each unit of state and of action, then reward and words."""
    import rerun.blueprint as rrb

    cameras = [rrb.Spatial2DView(origin=f"cameras/{_path(c.name)}", name=c.name) for c in contract.cameras]
    plots = [
        rrb.TimeSeriesView(
            origin="/",
            contents=[f"/{vector}/{_path(unit)}" for vector in vectors],
            name=f"{title} [{unit}]",
            plot_legend=rrb.PlotLegend(visible=len(columns) <= LEGEND_LINES),
        )
        for title, vectors in (("state", ("state",)), ("action", ("action", "action_executed")))
        for unit, columns in _by_unit(_vectors(contract)[title]).items()
    ]
    events = rrb.TimeSeriesView(origin="/", contents=["/reward", "/valid"], name="reward, valid")
    words = rrb.Horizontal(
        rrb.TextDocumentView(origin="episode", name="episode"), rrb.TextLogView(origin="events", name="events")
    )
    rows = [rrb.Horizontal(*cameras)] if cameras else []
    return rrb.Blueprint(
        rrb.Vertical(*rows, rrb.Grid(*plots, events), words, row_shares=[3] * len(rows) + [3, 1]),
        rrb.TimePanel(state="collapsed"),
        collapse_panels=True,
    )


def _log_text(rr: Any, stream: Any, episode: Episode, contract: Contract) -> None:
    success = {None: "unknown", True: "yes", False: "no"}[episode.success]
    lines = [
        episode.instruction,
        *(f"or: {text}" for text in episode.instruction_alternatives),
        "",
        f"robot: {contract.robot}, {contract.control_hz:g} Hz, {len(episode)} steps",
        f"task: {episode.task}, split: {episode.split}, seed: {episode.seed}, success: {success}",
        *(f"{key}: {value}" for key, value in episode.provenance.items()),
    ]
    stream.log("episode", rr.TextDocument("\n".join(lines), media_type="text/plain"), static=True)
    for step, text in _events(episode, contract):
        _set_step(stream, episode, step)
        stream.log("events", rr.TextLog(text))


def _events(episode: Episode, contract: Contract) -> Iterator[tuple[int, str]]:
    for first, last in runs(~episode.valid):
        yield first, f"not to learn from, until step {last}"
    for step in np.flatnonzero(episode.reward > 0):
        yield int(step), f"reward {episode.reward[step]:g}"
    for step in np.flatnonzero(episode.done):
        yield int(step), "done"
    timing = measure(episode.time_ns, contract.control_hz)
    for step, seconds in zip(timing.gaps, timing.gap_s, strict=True):
        yield int(step), f"{seconds:.3f} s until the next step"


def _log_camera(rr: Any, stream: Any, episode: Episode, camera: Camera) -> None:
    entity = f"cameras/{_path(camera.name)}"
    clock = episode.image_time_ns.get(camera.name, episode.time_ns)
    first_seen = np.searchsorted(episode.time_ns, clock) if camera.name in episode.image_time_ns else range(len(clock))
    for frame, time_ns, step in zip(episode.images[camera.name], clock, first_seen, strict=True):
        stream.set_time(TIME, duration=np.timedelta64(int(time_ns - episode.time_ns[0]), "ns"))
        if step < len(episode):
            stream.set_time(STEP, sequence=int(step))
        else:
            stream.disable_timeline(STEP)  # captured after the last step
        if camera.kind == "depth":
            image = rr.DepthImage(np.ascontiguousarray(frame[..., 0]), meter=1000.0, colormap="viridis")
        else:
            image = rr.EncodedImage(contents=encode_jpeg(frame, RERUN_QUALITY), media_type="image/jpeg")
        stream.log(entity, image)


def _log_vector(
    rr: Any, stream: Any, episode: Episode, entity: str, dimensions: Sequence[Dimension], values: np.ndarray
) -> None:
    """Each unit apart; executed actions only where they differ from the label."""
    for unit, columns in _by_unit(dimensions).items():
        names = [dimensions[i].name for i in columns]
        if entity == "action_executed":
            names = [f"{name} (executed)" for name in names]
            if np.array_equal(values[:, columns], episode.action[:, columns]):
                continue
        _log_lines(rr, stream, episode, f"{entity}/{_path(unit)}", names, values[:, columns])


def _log_lines(
    rr: Any, stream: Any, episode: Episode, entity: str, names: Sequence[str], values: Float32[np.ndarray, "t d"]
) -> None:
    """One entity with a named line for each dimension."""
    stream.log(entity, rr.SeriesLines(names=list(names)), static=True)
    times: Int64[np.ndarray, " t"] = episode.time_ns - episode.time_ns[0]
    stream.send_columns(
        entity,
        indexes=[
            rr.TimeColumn(STEP, sequence=np.arange(len(episode))),
            rr.TimeColumn(TIME, duration=times.astype("timedelta64[ns]")),
        ],
        columns=rr.Scalars.columns(scalars=values.astype(np.float64).ravel()).partition(
            [values.shape[1]] * len(values)
        ),
    )


def _set_step(stream: Any, episode: Episode, step: int) -> None:
    stream.set_time(STEP, sequence=step)
    stream.set_time(TIME, duration=np.timedelta64(int(episode.time_ns[step] - episode.time_ns[0]), "ns"))


def _vectors(contract: Contract) -> dict[str, tuple[Dimension, ...]]:
    """The dimensions of each field of an episode that is drawn as lines."""
    return {"state": contract.state, "action": contract.action, "action_executed": contract.action}


def _by_unit(dimensions: Sequence[Dimension]) -> dict[str, list[int]]:
    """The columns of each unit: one plot cannot show radians and metres."""
    columns: dict[str, list[int]] = {}
    for i, dimension in enumerate(dimensions):
        columns.setdefault(dimension.unit, []).append(i)
    return columns


def _path(name: str) -> str:
    """One part of an entity path: what is not a letter, a digit or one of ``_-.`` is escaped by a backslash."""
    return "".join(letter if letter.isalnum() or letter in "_-." else f"\\{letter}" for letter in name)
