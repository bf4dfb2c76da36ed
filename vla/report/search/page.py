"""A contact sheet of what a search has found, as one HTML file; a click opens the episode at the frame."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8

from vla.core.files import write_atomic
from vla.core.media.images import resize_frame
from vla.datasets.dataset import Dataset
from vla.datasets.storage.storage import location_name
from vla.report.episode.frames import encode_jpeg
from vla.report.episode.of_dataset import render_dataset_episode
from vla.report.template import render
from vla.search.hits import Hit

_WIDTH = 320
"""Pixels that a picture has at most on the sheet."""
_QUALITY = 92

Picture = UInt8[np.ndarray, "y x 3"]


def render_sheet(
    query: str | Picture, hits: Sequence[Hit], *, facts: Mapping[str, str], pages: Mapping[tuple[str, int], str]
) -> str:
    """The page; ``facts`` are listed under its origin, ``pages`` has the address of each episode's page."""
    datasets = list(dict.fromkeys(location_name(hit.dataset.url) for hit in hits))
    view = {
        "title": f"search in {', '.join(datasets)}" if datasets else "search",
        "words": query if isinstance(query, str) else "",
        "asked": "" if isinstance(query, str) else picture_address(query),
        "facts": facts,
        "cards": [_card(hit, pages) for hit in hits],
        "several": len(datasets) > 1,
        "best": max((hit.score for hit in hits), default=1.0),
    }
    return render("search/page.html.j2", view)


def write_sheet(path: Path, query: str | Picture, hits: Sequence[Hit], *, facts: Mapping[str, str]) -> None:
    """Write the sheet, and beside it a folder with a page of each episode that was found."""
    folder = path.with_name(f"{path.stem}-episodes")
    pages: dict[tuple[str, int], str] = {}
    for hit in hits:
        key = _key(hit)
        if key not in pages:
            name = f"{len(pages):03d}-{location_name(hit.dataset.url)}-{hit.episode}.html"
            write_atomic(folder / name, render_dataset_episode(hit.dataset, hit.episode).encode())
            pages[key] = f"{quote(folder.name)}/{quote(name)}"
    write_atomic(path, render_sheet(query, hits, facts=facts, pages=pages).encode())


def picture_address(picture: Picture) -> str:
    """A picture as an address that holds it."""
    height, width = picture.shape[:2]
    if width > _WIDTH:
        picture = resize_frame(picture, (max(1, round(height * _WIDTH / width)), _WIDTH))
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture, _QUALITY)).decode()


def _card(hit: Hit, pages: Mapping[tuple[str, int], str]) -> dict[str, object]:
    page = pages.get(_key(hit))
    return {
        **hit.facts(),
        "dataset": location_name(hit.dataset.url),
        "score": hit.score,
        "picture": picture_address(frame_of(hit.dataset, hit)),
        "address": f"{page}#step={hit.step}" if page else "",
    }


def frame_of(dataset: Dataset, hit: Hit) -> Picture:
    """What was found, as it was recorded."""
    return dataset.frame(hit.camera, int(dataset.episode_starts[hit.episode]) + hit.step)


def _key(hit: Hit) -> tuple[str, int]:
    return hit.dataset.url, hit.episode
