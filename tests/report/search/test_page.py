"""A contact sheet shows the frames that were found, says what they are, and opens each episode at its frame."""

import base64
import io
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.search.colours import ColourEmbedder
from vla.datasets.dataset import Dataset
from vla.datasets.edit import relabel
from vla.report.search.page import frame_of, write_sheet
from vla.search.hits import Hit, find
from vla.search.session import open_searched
from vla.search.settings import Wanted

_PICTURE = re.compile(r'src="data:image/jpeg;base64,([^"]+)"')


@pytest.fixture
def found(dataset: Path, tmp_path: Path) -> list[Hit]:
    root = shutil.copytree(dataset, tmp_path / "place")
    opened = Dataset.open(root)
    first, second = (opened.episodes[number].uid for number in (0, 1))
    relabel(opened, {first: {"success": False, "instruction": "<b>put</b> & go"}, second: {"success": None}}, "test")
    embedder = ColourEmbedder()
    searched = open_searched([Dataset.open(root)], embedder, ColourEmbedder)
    return find(embedder.texts(["red"])[0], searched, Wanted(hits=12))


def test_the_sheet_shows_what_was_found_and_opens_it(found: list[Hit], tmp_path: Path) -> None:
    sheet = tmp_path / "out" / "red things.html"
    write_sheet(sheet, "red & <i>more</i>", found, facts={"model": "<model>"})
    text = sheet.read_text()
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in _PICTURE.findall(text)]
    assert len(pictures) == len(found) == 12
    for picture, hit in zip(pictures, found, strict=True):
        assert np.abs(picture.astype(int) - frame_of(hit.dataset, hit)).mean() < 8
    assert "red &amp; &lt;i&gt;more" in text
    assert "&lt;b&gt;put&lt;/b&gt; &amp; go" in text
    assert "<model>" not in text
    counts = [text.count(f'class="{kind}"') for kind in ("good", "bad", "none")]
    assert counts == [10, 1, 1]
    links = re.findall(r'<a href="([^"#]+)#step=(\d+)"', text)
    assert len(links) == 12
    for (address, step), hit in zip(links, found, strict=True):
        page = sheet.parent / unquote(address)
        assert int(step) == hit.step
        assert f"episode {hit.episode}" in page.read_text()
    assert not re.findall(r'(?:src|href)="https?:', text)


def test_a_picture_that_was_looked_for_is_shown(found: list[Hit], tmp_path: Path) -> None:
    asked = np.full((40, 700, 3), (200, 30, 30), np.uint8)
    write_sheet(tmp_path / "sheet.html", asked, found[:1], facts={})
    data = _PICTURE.findall((tmp_path / "sheet.html").read_text())
    assert len(data) == 2
    shown = Image.open(io.BytesIO(base64.b64decode(data[0])))
    assert shown.size == (320, 18)


def test_nothing_found_is_said(tmp_path: Path) -> None:
    write_sheet(tmp_path / "sheet.html", "a unicorn", [], facts={})
    assert "Nothing was found" in (tmp_path / "sheet.html").read_text()
