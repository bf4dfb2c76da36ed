"""Whose a run folder is: one recipe's, and one fit's to one data; neither is ever exchanged in silence.

A run may be made longer; nothing else of its recipe may change. The learning rate follows the length: what has been
trained so far is what a run of the new length trains only where the rate had not begun to fall under either.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vla.core.config import from_dict, to_dict
from vla.core.contract import Contract, differences, read_contract
from vla.core.errors import CheckpointError, ConfigError, ContractError, DatasetError
from vla.core.files import write_atomic, write_json
from vla.core.sealed import DamageError, decode, encode
from vla.models.checkpoint import open_checkpoint, read_object
from vla.sound.bank import SpeechBank
from vla.training.recipe import TrainConfig
from vla.training.state import Position, newest_state, position_of, states
from vla.training.step import lr_scale

_VERSION = "1.0"
_LENGTH = ("steps", "minutes")


@dataclass(frozen=True, kw_only=True)
class Prolonged:
    """One time that a run was made longer, or shorter."""

    step: int
    """Where it stood."""
    steps: int
    minutes: float
    """What it was to be before."""
    exact: bool
    """The result is that of a run which had the new length from the start."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What ``recipe.json`` says."""

    recipe: TrainConfig
    prolonged: tuple[Prolonged, ...] = ()


def claim_run(
    run: Path, config: TrainConfig, *, prolong: bool = False, note: Callable[[str], None] = lambda text: None
) -> None:
    """Make ``run`` the folder of this recipe; one that holds a run of another is refused.

    With ``prolong`` the length may differ, and is from now on that of ``config``.
    """
    path = run / "recipe.json"
    if not (states(run) or (run / "checkpoint").exists()):
        _write(path, Claim(recipe=config))
        return
    theirs = read_claim(run)
    changed = _changes(to_dict(theirs.recipe), to_dict(config))
    other = [line for key, line in changed.items() if line != _pinned(run) and not (prolong and key in _LENGTH)]
    if other:
        fix = "choose another --out, or delete it"
        if changed.keys() <= set(_LENGTH):
            asked = " ".join(f"--{key} {getattr(config, key):g}" for key in changed)
            fix = f"make the run longer with: vla train --resume {run} {asked}"
        raise CheckpointError(f"{run} holds a run of another recipe ({'; '.join(other[:4])}); {fix}")
    if prolong:
        _write(path, _prolong(run, theirs, config, note))


def read_claim(run: Path) -> Claim:
    """The recipe that a run folder belongs to, and its lengths so far; a damaged one is a `CheckpointError`."""
    path = run / "recipe.json"

    def check_version(version: object) -> None:
        if version is None:
            raise DamageError("it has no checksum, nor have the states beside it: vla 2.0 or older wrote them")
        if version != _VERSION:
            raise DamageError(f"version {version!r}, this software reads {_VERSION}")

    fix = f"put it back, or start from the weights with --init {run / 'checkpoint'} and another --out"
    try:
        value = decode(path.read_bytes(), check_version)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path} does not exist, so nothing tells which recipe trained here; {fix}") from None
    except DamageError as error:
        raise CheckpointError(f"{path}: {error}; {fix}") from None
    return Claim(
        recipe=from_dict(TrainConfig, value.get("recipe"), where=str(path)),
        prolonged=tuple(Prolonged(**entry) for entry in value.get("prolonged", ())),
    )


def _write(path: Path, claim: Claim) -> None:
    lengths = [asdict(entry) for entry in claim.prolonged]
    write_atomic(path, encode({"recipe": to_dict(claim.recipe), "prolonged": lengths}, _VERSION))


def _prolong(run: Path, theirs: Claim, config: TrainConfig, note: Callable[[str], None]) -> Claim:
    state = newest_state(run)
    if state is None:
        raise CheckpointError(
            f"{run} has a checkpoint, but no states to go on from; start from its weights with "
            f"--init {run / 'checkpoint'} and another --out"
        )
    at, before = position_of(state), theirs.recipe
    if progress(config, at.step, at.seconds) >= 1:
        raise ConfigError(
            f"{run} has trained {at.step} steps in {at.seconds / 60:.1f} minutes, so steps={config.steps} and "
            f"minutes={config.minutes:g} leave nothing to train; give more of what is used up"
        )
    if all(getattr(before, key) == getattr(config, key) for key in _LENGTH):
        return theirs
    then, now = (_last_rate(length, at) for length in (before, config))
    entry = Prolonged(step=at.step, steps=before.steps, minutes=before.minutes, exact=then == now)
    told = "what it has trained is what a run of this length trains"
    if not entry.exact:
        told = (
            f"its learning rate had come to {then:.0%} and goes on from {now:.0%}: the result is not that of a run "
            "which had this length from the start"
        )
    note(f"{run}: at step {at.step} made a run of {config.steps} steps instead of {before.steps}; {told}")
    return Claim(recipe=config, prolonged=(*theirs.prolonged, entry))


def progress(config: TrainConfig, step: int, seconds: float) -> float:
    """How far a run is, from 0 to 1 and beyond: by its time or by its steps, whichever is further."""
    return max(seconds / (60 * config.minutes), step / config.steps)


def _last_rate(config: TrainConfig, at: Position) -> float:
    """Of the last step that was done, as a share of the height: it never rises again, so it tells of all before."""
    fraction = min(1.0, progress(config, max(0, at.step - 1), at.seconds))
    return lr_scale(config.warmup_steps, fraction, warmup_steps=config.warmup_steps, constant=config.constant)


def finished(run: Path, config: TrainConfig) -> bool:
    """Whether all that is left of a run is the checkpoint that it ended with; one of another length is refused."""
    if states(run) or not (run / "checkpoint").exists():
        return False
    origin = read_object(open_checkpoint(run / "checkpoint"), "provenance.json")
    # Read as a recipe is: what the version that wrote it did not know has its default.
    theirs = from_dict(TrainConfig, origin.get("recipe") or {}, where=str(run / "checkpoint" / "provenance.json"))
    if to_dict(theirs) != to_dict(config):
        raise CheckpointError(
            f"{run} has a checkpoint, but no states to go on from; start from its weights with "
            f"--init {run / 'checkpoint'} and another --out"
        )
    return True


def claim_data(run: Path, contract: Contract, *, write: bool) -> None:
    """Make ``run`` the folder of what was fitted to this data; states or a checkpoint of other data are refused.

    Weights mean nothing without the statistics and limits that they were trained with, and a recipe that takes the
    latest version of a dataset fits others once it grows. One worker of a run may ``write``.
    """
    path = run / "contract.json"
    if not states(run):
        if write:
            write_json(path, contract.to_json())
        return
    for place in (path, run / "checkpoint" / "contract.json"):
        if place == path or place.exists():
            _require_same_data(contract, read_contract(place), place)


def claim_bank(run: Path, folder: str, *, write: bool) -> SpeechBank | None:
    """The speech bank in ``folder``, where instructions are spoken; one that changed since ``run`` began is refused.

    Which sound a sample has is drawn from all that there are, so a run that goes on with others is another run.
    """
    if not folder:
        return None
    bank, path = SpeechBank.open(Path(folder)), run / "speech.json"
    if not states(run):
        if write:
            write_json(path, {"bank": folder, "digest": bank.digest, "sounds": len(bank.sounds)})
        return bank
    then = json.loads(path.read_text()) if path.exists() else None
    if then is not None and then["digest"] != bank.digest:
        raise DatasetError(
            f"speech bank {folder} is another one than when {run} began ({then['sounds']} sounds, digest "
            f"{then['digest'][:12]}; here {len(bank.sounds)}, {bank.digest[:12]}); restore it, or choose another --out"
        )
    return bank


def _require_same_data(ours: Contract, theirs: Contract, place: Path) -> None:
    """Raise `ContractError` that names what differs, the statistics first."""
    specs = [c.policy for c in (theirs, ours)]
    hashes = [", ".join(spec.statistics) if spec else "none" for spec in specs]
    bare = [replace(c, policy=c.policy and replace(c.policy, statistics=(), preprocessor="")) for c in (theirs, ours)]
    lines = differences(*bare, scope="all")
    if hashes[0] != hashes[1]:
        lines.insert(0, f"statistics of the training data: {hashes[0]} there, {hashes[1]} here")
    elif not lines and len({spec.preprocessor for spec in specs if spec}) > 1:
        lines.append("preprocessor.json: another one there")
    if not lines:
        return
    then, now = ([v.manifest for v in spec.datasets] if spec else [] for spec in specs)
    fix = f"resume on version {then[0]} of the dataset (--data.manifest {then[0]})" if len(then) == 1 else ""
    if not fix or then == now:
        fix = "restore the dataset or the checkpoint that belongs here"
    raise ContractError(f"{place} was fitted to other data ({'; '.join(lines)}); {fix}, or choose another --out")


def _pinned(run: Path) -> str | None:
    """The one change of a recipe that changes nothing: naming the version that was the latest when the run began."""
    path = run / "contract.json"
    spec = read_contract(path).policy if path.exists() else None
    if spec is None or len(spec.datasets) != 1:
        return None
    return f"data.manifest: None there, {spec.datasets[0].manifest!r} here"


def _changes(old: Any, new: Any, key: str = "") -> dict[str, str]:
    """Each difference by its dotted key."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, str] = {}
        for name in sorted(old.keys() | new.keys()):
            found |= _changes(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return found
    return {} if old == new else {key: f"{key}: {old!r} there, {new!r} here"}
