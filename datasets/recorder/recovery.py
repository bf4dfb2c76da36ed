"""Makes a segment of what a dead recorder left: its shards up to the last whole step of its journal."""

from pathlib import Path
from typing import Any

import google_crc32c

from vla.core.contract import Contract
from vla.datasets.frames.shard_writer import ShardWriter
from vla.datasets.recorder.journal import read_journal
from vla.datasets.recorder.recording import Recording, seal_recording
from vla.datasets.store.layout import read_description
from vla.datasets.store.segment import image_array
from vla.datasets.store.staging import JOURNAL, StagedSegment


def recover(staged: StagedSegment) -> str | None:
    """Seal what a dead recorder left, up to its last whole step; its uid, or None if it had none.

    The episode is marked ``recovered`` in its provenance, and its success is unknown.
    """
    contract = read_description(staged.storage).contract
    entries = read_journal(staged.folder / JOURNAL)
    about = next(entries, None)
    if about is None:
        return None
    recording, sizes = _replay(staged.folder, contract, about, entries)
    if not recording.steps:
        return None
    recording.about["provenance"] = {"recovered": True}
    shards = {}
    for camera in contract.cameras:
        array = image_array(staged.folder, camera.name, 0)
        shards[camera.name] = ShardWriter(array, camera, about["codecs"][camera.name])
        shards[camera.name].resume(sizes[camera.name])
    return seal_recording(staged, contract, shards, recording.episode(contract, None), about)


def _replay(
    folder: Path, contract: Contract, about: dict[str, Any], entries: Any
) -> tuple[Recording, dict[str, list[int]]]:
    """The whole steps of a journal, and the sizes of the frames that belong to them."""
    own_clock = [camera.name for camera in contract.cameras if camera.hz is not None]
    recording = Recording(about=about, frame_times={name: [] for name in own_clock})
    sizes: dict[str, list[int]] = {camera.name: [] for camera in contract.cameras}
    paths = {name: image_array(folder, name, 0) / "c/0/0/0/0" for name in sizes}
    if not all(path.exists() for path in paths.values()):
        return recording, sizes  # it died before it began
    files = {name: path.open("rb") for name, path in paths.items()}
    try:
        for entry in entries:
            chunks = {name: files[name].read(size) for name, (size, _) in entry["frames"].items()}
            if any(google_crc32c.value(chunks[name]) != crc for name, (_, crc) in entry["frames"].items()):
                break  # its bytes had not reached the disk
            for name, (size, _) in entry["frames"].items():
                sizes[name].append(size)
            if "step" in entry:
                recording.steps.append(entry["step"])
            else:
                (name,) = entry["frames"]
                recording.frame_times[name].append(entry["time_ns"])
    finally:
        for file in files.values():
            file.close()
    return recording, sizes
