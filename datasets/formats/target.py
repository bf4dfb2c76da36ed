"""Where an export is written: beside its target, and renamed into place when it is whole."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vla.core.errors import DatasetError
from vla.core.files import sync_folder
from vla.datasets.dataset import Dataset


@contextmanager
def new_target(dataset: Dataset, out: Path) -> Iterator[Path]:
    """A path to write a file or folder at, in a folder of its own; it becomes ``out`` unless an exception is raised.

    An existing ``out``, and a dataset without episodes, are a `DatasetError`.
    """
    if out.exists():
        raise DatasetError(f"{out} exists; name another target, or remove it first")
    if not len(dataset.episodes):
        raise DatasetError("export: expected at least 1 episode, got none")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield folder / "target"
        if (folder / "target").is_file():
            with (folder / "target").open("rb") as written:
                os.fsync(written.fileno())
        os.rename(folder / "target", out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sync_folder(out.parent)
