"""Which way up a file's pictures are: written by some programs, known to the user, and never guessed."""

from collections.abc import Mapping
from pathlib import Path

from vla.core.errors import DatasetError
from vla.datasets.formats.robomimic.header import Header
from vla.datasets.formats.source import Hints, check_flips, turned_note


def orientation(
    headers: Mapping[Path, Header], cameras: Mapping[str, str], hints: Hints, notes: list[str]
) -> dict[Path, tuple[str, ...]]:
    """For each file the cameras whose row 0 is at the bottom: those that the user names, else what the file says.

    LIBERO stores pictures upside down and writes so. Files that look like its own and do not say it are a
    `DatasetError` that asks; files of other programs are kept as they are stored, with a note.
    """
    if hints.flip_images is not None:
        check_flips(hints.flip_images, tuple(cameras))
        notes.append(turned_note(hints.flip_images))
        return dict.fromkeys(headers, hints.flip_images)
    turned = {path: tuple(cameras) if header.upside_down else () for path, header in headers.items()}
    if not cameras:
        return turned
    if any(turned.values()):
        notes.append("Frames are stored with row 0 at the bottom (macros_image_convention is opengl) and are turned.")
    silent = [path for path, header in headers.items() if header.upside_down is None]
    for path in silent:
        if _looks_like_libero(headers[path], cameras):
            raise DatasetError(
                f"{path}: which way up its pictures are is not written (no attribute macros_image_convention), and "
                "LIBERO stores them upside down: look at one, and give --flip-images with the cameras that are "
                f"({' '.join(cameras)}), or with no name if none is"
            )
    if silent:
        notes.append(
            f"Which way up pictures are is not written in {len(silent)} of {len(headers)} files: they are kept as "
            f"stored; look at one, and give --flip-images with those of {' '.join(cameras)} that are upside down."
        )
    return turned


def _looks_like_libero(header: Header, cameras: Mapping[str, str]) -> bool:
    named = header.env_name.lower().startswith("libero") or bool(header.problem_info)
    return named or "bddl_file_name" in header.origin or any(key.endswith("_rgb") for key in cameras.values())
