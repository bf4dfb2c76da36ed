"""Segments that several workers write at once: what was sealed is published, whatever else failed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from vla.core.machine.engines import EngineChoice, choose_engine
from vla.core.machine.processes import run_shares
from vla.datasets.storage.storage import Storage
from vla.datasets.store.manifest import Change, publish, publish_change

Share = TypeVar("Share")
Result = TypeVar("Result")


def write_segments(
    storage: Storage,
    write: Callable[[Share, Callable[[Any], None]], tuple[str | None, Result]],
    shares: Sequence[Share],
    reason: str,
    *,
    workers: int,
    engine: EngineChoice = "auto",
    seconds: float | None = None,
    on_report: Callable[[Any], None] | None = None,
    change: Callable[[Mapping[str, Share]], Change] | None = None,
    silence_s: float | None = None,
) -> tuple[int | None, list[Result]]:
    """Run ``write(share, report)`` for each share, publish what it sealed as one version, then raise what failed.

    ``write`` returns the id of the segment that it sealed, or None, and anything else. Returned are the version (None
    if nothing was sealed) and the anything else of each share. ``change`` makes a version of the segments, each with
    its share; by default they are added. ``seconds`` is what all shares would take in one process, if that is known.
    """
    chosen = choose_engine(engine, shares=len(shares), workers=workers, seconds=seconds)
    futures = run_shares(write, shares, workers=workers, engine=chosen, on_report=on_report, silence_s=silence_s)
    done = [(share, future.result()) for share, future in zip(shares, futures, strict=True) if not future.exception()]
    sealed = {segment: share for share, (segment, _) in done if segment is not None}
    version = None
    if sealed:
        reason = reason if len(done) == len(shares) else f"{reason}, in part"
        version = publish_change(storage, change(sealed), reason) if change else publish(storage, [*sealed], reason)
    for future in futures:
        future.result()  # raises what ended the first share that failed: nothing sealed depends on it any more
    return version, [result for _, (_, result) in done]
