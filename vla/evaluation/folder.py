"""The folder of an evaluation: every episode is in it as soon as it has ended, so that a stopped one can be resumed.

FOLDER/
evaluation.json   what is evaluated: anything else is refused here
episodes.log      one checksummed line for each session and each episode
result.json       the summary, once all episodes have ended
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from vla.core.errors import VlaError
from vla.core.files import NotPlainError, read_below, write_atomic, write_json
from vla.core.log import CheckedLog, read_log
from vla.core.sealed import MOST_BYTES, DamageError, begins_with, decode, encode, measure, parse_files, parse_json
from vla.evaluation.result import EvaluationResult, Result, result_from_json
from vla.evaluation.run import Outcome
from vla.evaluation.runner import Origin
from vla.evaluation.trials import Condition, EpisodeResult, Trial

SETTINGS, EPISODES, RESULT = "evaluation.json", "episodes.log", "result.json"


class ResultFolder:
    """A folder that is being filled; use as a context."""

    def __init__(self, path: Path, identity: Mapping[str, Any], session: Mapping[str, Any]) -> None:
        """``identity`` is what must agree for episodes to belong together; ``session`` is this command's origin."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._log = CheckedLog(path / EPISODES)
        try:
            _claim(path / SETTINGS, dict(identity))
            self._log.append({"session": dict(session)})
        except BaseException:
            self._log.close()
            raise
        self.outcome = Outcome()
        """What earlier sessions have brought."""
        for entry in self._log.entries:
            if "origin" in entry:
                origin = Origin(**entry["origin"])
                self.outcome.origins[origin.env] = origin
            if "episode" in entry:
                trial, result = _read(entry)
                self.outcome.results[trial.key] = (trial, result)
        self._origins = dict(self.outcome.origins)

    def append(self, trial: Trial, result: EpisodeResult) -> None:
        """Keep one episode, and before the first of an environment what that says of itself."""
        env = trial.condition.env
        origin, known = self.outcome.origins.get(env), self._origins.get(env)
        if origin is not None and origin != known:
            if known is not None:
                lines = "; ".join(_differences(asdict(known), asdict(origin)))
                raise VlaError(f"{self.path} holds episodes of another {env}: {lines}. Choose another --out")
            self._origins[env] = origin
            self._log.append({"origin": asdict(origin)})
        self._log.append({"episode": {"trial": asdict(trial), "result": result.to_record()}})

    def __enter__(self) -> "ResultFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()


def read_episodes(folder: Path) -> list[tuple[Trial, EpisodeResult]]:
    """All episodes of a folder, with the actions that replay them; other ones than its result is of are refused."""
    if (folder / RESULT).exists():
        _read_result(folder / RESULT)
    return [_read(entry) for entry in read_log(folder / EPISODES) if "episode" in entry]


def sessions(folder: Path) -> list[dict[str, Any]]:
    """The origin of each command that added episodes."""
    return [entry["session"] for entry in read_log(folder / EPISODES) if "session" in entry]


def write_result(folder: Path, result: Result) -> None:
    """Put the summary beside the episodes, sealed, with the size and checksum of what it is a summary of."""
    log = measure(folder, EPISODES)._asdict() if (folder / EPISODES).exists() else None
    write_atomic(folder / RESULT, encode({**result.to_json(), _LOG: log}, _SEAL))


def read_result(path: Path) -> Result:
    """A result, from its file or its folder."""
    if path.is_dir() and not (path / RESULT).exists() and (path / SETTINGS).exists():
        raise VlaError(f"{path} holds an evaluation that is not finished: run its command again to go on")
    file = path / RESULT if path.is_dir() else path
    return result_from_json(_read_result(file), where=str(file))


_SEAL, _LOG = "1.0", "log"


def _read_result(file: Path) -> dict[str, Any]:
    """What a result says; one that an evaluation folder holds must be as it was sealed, and its episodes too."""
    data = _read_bytes(file)
    try:
        if not re.search(rb'"(checksum|format_version)": "', data):
            return parse_json(data)  # a file of --json
        value = decode(data, lambda version: None)
        log = value.pop(_LOG, None)
        if log is not None and not begins_with(file.parent, EPISODES, parse_files({EPISODES: log})[EPISODES]):
            raise DamageError(f"{EPISODES} is not the one that it is a summary of")
    except (DamageError, NotPlainError) as error:
        raise VlaError(f"{file} is damaged: {error}; evaluate again, or copy the whole folder") from None
    except FileNotFoundError:
        raise VlaError(f"{file.parent / EPISODES} is missing; copy the whole folder") from None
    return value


def results_of(digest: str, folders: Iterable[Path]) -> list[tuple[Path, EvaluationResult]]:
    """The finished evaluations in and below ``folders`` of the policy whose files have this digest, by their paths.

    What is no result, or of another policy, is passed over: a run's folder holds much else.
    """
    found = []
    for file in sorted({path for folder in folders for path in folder.rglob(RESULT)}):
        try:
            result = read_result(file)
        except VlaError:
            continue
        if isinstance(result, EvaluationResult) and result.policy.digest == digest:
            found.append((file.parent, result))
    return found


def _read(entry: Mapping[str, Any]) -> tuple[Trial, EpisodeResult]:
    value = entry["episode"]
    trial = Trial(condition=Condition(**value["trial"]["condition"]), seed=value["trial"]["seed"])
    return trial, EpisodeResult.from_record(value["result"])


def _read_bytes(path: Path) -> bytes:
    try:
        return read_below(path.parent, path.name, MOST_BYTES)
    except FileNotFoundError:
        raise VlaError(f"{path} does not exist; give the --out folder of vla eval, or the file of its --json") from None


def _read_json(path: Path) -> Any:
    try:
        return parse_json(_read_bytes(path))
    except DamageError as error:
        raise VlaError(f"{path} is not valid JSON ({error}); the file is damaged") from None


def _claim(path: Path, identity: dict[str, Any]) -> None:
    """Say what this folder is for, or compare with what it was for."""
    if not path.exists():
        write_json(path, identity)
        return
    lines = list(_differences(_read_json(path), identity))
    if lines:
        raise VlaError(
            f"{path.parent} holds episodes of another evaluation: {'; '.join(lines)}. "
            "Choose another --out, or remove the folder"
        )


def _differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """Each disagreement as ``key: old there, new now``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(n for n in new if n not in old)]:
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield f"{key}: {old!r} there, {new!r} now"
