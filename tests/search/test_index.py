"""An index finds what is there, grows with its dataset, and is refused when it is another's or damaged."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.search.colours import ColourEmbedder, shares
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.core.errors import ConfigError, DatasetError, SearchError, UnknownNameError
from vla.datasets.dataset import Dataset
from vla.datasets.edit import keep_only, relabel
from vla.datasets.selection import Selection
from vla.datasets.store.manifest import publish_change
from vla.search import index as index_module
from vla.search import neighbours, update
from vla.search.embedding import chosen_steps
from vla.search.hits import Hit, Searched, find
from vla.search.index import SearchIndex
from vla.search.settings import FramesConfig, Wanted
from vla.search.update import Updating, index_folder, update_index

EVERY = FramesConfig(every=3)


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "place"))


@pytest.fixture
def embedder() -> ColourEmbedder:
    return ColourEmbedder()


def _update(root: Path, embedder: ColourEmbedder, **how: object) -> Searched:
    dataset = Dataset.open(root)
    folder = index_folder(dataset, embedder.digest, None)
    index = update_index(dataset, folder, embedder, ColourEmbedder, EVERY, Updating(**how))
    return Searched(dataset=dataset, index=index)


def _frames(searched: Searched) -> list[tuple[int, str, int]]:
    """What every row shows, by the numbers of the dataset."""
    episodes = searched.index.episodes(searched.dataset)
    places = [searched.index.place(row) for row in range(len(searched.index))]
    return [(int(e), p.camera, p.step) for e, p in zip(episodes, places, strict=True)]


def _picture(dataset: Dataset, episode: int, camera: str, step: int) -> np.ndarray:
    return dataset.frame(camera, int(dataset.episode_starts[episode]) + step)


def test_every_third_frame_is_there_and_the_first_and_the_last(copy: Path, embedder: ColourEmbedder) -> None:
    searched = _update(copy, embedder)
    lengths = searched.dataset.episode_lengths.tolist()
    expected = {
        (number, camera, step)
        for number, length in enumerate(lengths)
        for camera in ("front", "wrist")
        for step in {*range(0, length, 3), length - 1}
    }
    found = _frames(searched)
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert chosen_steps(1, 5) == [0]
    assert chosen_steps(7, 5) == [0, 5, 6]


def test_a_frame_finds_itself_wherever_it_is(copy: Path, embedder: ColourEmbedder) -> None:
    searched = _update(copy, embedder)
    for row in range(0, len(searched.index), 37):
        episode, camera, step = _frames(searched)[row]
        (vector,) = embedder.images(_picture(searched.dataset, episode, camera, step)[None])
        best = find(vector, [searched], Wanted(hits=1, by="frame"))[0]
        assert best.score == pytest.approx(1.0, abs=2e-3)
        shown = _picture(searched.dataset, best.episode, best.camera, best.step)
        assert (best.episode, best.camera, best.step) == (episode, camera, step) or np.allclose(
            embedder.images(shown[None]), vector, atol=2e-3
        )
        assert best.time_s == pytest.approx(best.step / searched.dataset.contract.control_hz, abs=1e-6)


@pytest.mark.parametrize("colour", ["red", "yellow"])
def test_words_find_the_episodes_that_show_it_most(copy: Path, embedder: ColourEmbedder, colour: str) -> None:
    searched = _update(copy, embedder)
    hits = find(embedder.texts([colour])[0], [searched], Wanted(hits=4))
    assert len({hit.episode for hit in hits}) == 4
    pictures = np.stack([_picture(searched.dataset, *frame) for frame in _frames(searched)])
    scores = embedder.images(pictures) @ embedder.texts([colour])[0]
    best = {}
    for (episode, _, _), score in zip(_frames(searched), scores.tolist(), strict=True):
        best[episode] = max(score, best.get(episode, -1.0))
    ordered = sorted(best.values(), reverse=True)[:4]
    assert [hit.score for hit in hits] == pytest.approx(ordered, abs=2e-3)
    number = ("red", "green", "blue", "yellow").index(colour)
    for hit in hits:
        assert shares(_picture(searched.dataset, hit.episode, hit.camera, hit.step)[None])[0].argmax() == number


def test_only_new_episodes_are_embedded_and_dropped_ones_vanish(copy: Path, embedder: ColourEmbedder) -> None:
    before = len(_update(copy, embedder).index)
    assert embedder.pictures == 0  # the share has opened its own
    counted: list[int] = []
    again = _update(copy, embedder, on_frames=counted.append)
    assert counted == []
    assert len(again.index) == before
    collect(CollectConfig(episodes=2, seed=900, workers=1, settings={"image_size": 32}), copy)
    grown = _update(copy, embedder, on_frames=counted.append)
    assert len(counted) == 2
    assert len(grown.index) == before + sum(counted)
    query = embedder.texts(["blue"])[0]
    gone = find(query, [grown], Wanted(hits=1))[0].facts()["uid"]
    kept = tuple(uid.decode() for uid in grown.dataset.episodes.uids.tolist() if uid.decode() != gone)
    keep_only(grown.dataset, Selection(uids=kept), "without the best")
    after = _update(copy, embedder, on_frames=counted.append)
    assert len(counted) == 2
    found = {hit.facts()["uid"] for hit in find(query, [after], Wanted(hits=100))}
    assert found == set(kept)


def test_what_was_finished_before_an_interruption_is_not_done_again(copy: Path, embedder: ColourEmbedder) -> None:
    dataset = Dataset.open(copy)
    folder = index_folder(dataset, embedder.digest, None)
    done: list[int] = []

    def stop(frames: int) -> None:
        done.append(frames)
        if len(done) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(
            dataset, folder, embedder, ColourEmbedder, EVERY, Updating(workers=4, engine="inline", on_frames=stop)
        )
    rest: list[int] = []
    searched = _update(copy, embedder, on_frames=rest.append)
    assert len(rest) == 12 - 6  # shares of three: two were sealed, the third was cut short
    assert len(set(_frames(searched))) == len(_frames(searched)) == sum(done[:6]) + sum(rest)


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_workers_embed_as_this_process_does(
    engine: str, copy: Path, embedder: ColourEmbedder, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_cluster")
    here = _update(copy, embedder, engine="inline")
    dataset = Dataset.open(copy)
    folder = tmp_path / "elsewhere"
    counted: list[int] = []
    how = Updating(workers=2, engine=engine, on_frames=counted.append)
    index = update_index(dataset, folder, embedder, ColourEmbedder, EVERY, how)
    assert len(counted) == 12
    there = Searched(dataset=dataset, index=index)
    query = embedder.texts(["green"])[0]
    wanted = Wanted(hits=20, by="frame")
    scores = [[hit.score for hit in find(query, [one], wanted)] for one in (here, there)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert set(_frames(here)) == set(_frames(there))


class TestFilters:
    """Hits are only of what was asked for, and there are as many as there can be."""

    @pytest.fixture
    def searched(self, copy: Path, embedder: ColourEmbedder) -> Searched:
        dataset = Dataset.open(copy)
        uids = [uid.decode() for uid in dataset.episodes.uids.tolist()]
        changes = {uid: {"success": False} for uid in uids[:3]} | {uids[5]: {"task": "other"}}
        relabel(dataset, changes, "for a test")
        return _update(copy, embedder)

    def _hits(self, searched: Searched, embedder: ColourEmbedder, **wanted: object) -> Sequence[Hit]:
        return find(embedder.texts(["red"])[0], [searched], Wanted(**wanted))

    def test_by_success_and_task(self, searched: Searched, embedder: ColourEmbedder) -> None:
        failed = self._hits(searched, embedder, select=Selection(success=False))
        assert {hit.episode for hit in failed} == {0, 1, 2}
        other = self._hits(searched, embedder, hits=3, by="frame", select=Selection(tasks=("other",)))
        assert [hit.episode for hit in other] == [5, 5, 5]
        assert all(hit.facts()["task"] == "other" for hit in other)

    def test_by_camera_and_robot(self, searched: Searched, embedder: ColourEmbedder) -> None:
        wrist = self._hits(searched, embedder, hits=40, by="frame", cameras=("wrist",))
        assert {hit.camera for hit in wrist} == {"wrist"}
        assert len(wrist) == 40
        assert len(self._hits(searched, embedder, hits=99, robots=("tabletop-panda",))) == 12

    def test_a_relabelled_episode_is_known_at_once(self, searched: Searched, embedder: ColourEmbedder) -> None:
        uid = searched.dataset.episodes[7].uid
        relabel(searched.dataset, {uid: {"success": False}}, "for a test")
        newer = Searched(dataset=Dataset.open(searched.dataset.url), index=searched.index)
        failed = self._hits(newer, embedder, select=Selection(success=False))
        assert {hit.episode for hit in failed} == {0, 1, 2, 7}

    @pytest.mark.parametrize(
        "wanted",
        [{"select": Selection(tasks=("tabletop/plase",))}, {"robots": ("panda",)}, {"cameras": ("fornt",)}],
    )
    def test_unknown_values_are_errors(self, searched: Searched, embedder: ColourEmbedder, wanted: dict) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown (task|robot|camera).*did you mean"):
            self._hits(searched, embedder, **wanted)

    def test_a_filter_that_leaves_nothing_finds_nothing(self, searched: Searched, embedder: ColourEmbedder) -> None:
        assert not self._hits(searched, embedder, select=Selection(min_length=10_000))


class TestRefused:
    """Each with one line that says what to do."""

    def test_an_index_of_another_model(self, copy: Path, embedder: ColourEmbedder) -> None:
        folder = _update(copy, embedder).index.folder
        other = ColourEmbedder()
        other.digest = "f" * 32
        with pytest.raises(SearchError, match=r"another model: expected f+, got c0105.*--index"):
            update_index(Dataset.open(copy), folder, other, ColourEmbedder, EVERY)

    def test_an_index_of_other_frames(self, copy: Path, embedder: ColourEmbedder) -> None:
        folder = _update(copy, embedder).index.folder
        with pytest.raises(ConfigError, match=r"other frames.*--index"):
            update_index(Dataset.open(copy), folder, embedder, ColourEmbedder, FramesConfig(every=4))

    def test_an_empty_dataset(self, copy: Path, embedder: ColourEmbedder) -> None:
        uids = tuple(uid.decode() for uid in Dataset.open(copy).episodes.uids.tolist())
        publish_change(Dataset.open(copy).storage, lambda latest: replace(latest, dropped=uids), "nothing")
        with pytest.raises(DatasetError, match="at least 1 episode to search, got none"):
            _update(copy, embedder)

    @pytest.mark.parametrize(
        "name", ["index.json", "vectors.npy", "rows.npy", "episodes.json", "COMMIT.json", "lists.faiss"]
    )
    @pytest.mark.parametrize("damage", ["flip", "cut"])
    def test_a_damaged_file(
        self, name: str, damage: str, copy: Path, embedder: ColourEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if name == "lists.faiss":
            _have_lists(monkeypatch)
        folder = _update(copy, embedder).index.folder
        path = next(path for path in sorted(folder.rglob(name)))
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle] ^= 1
        path.write_bytes(data if damage == "flip" else data[:middle])
        with pytest.raises(SearchError, match=rf"{name}.*; remove {folder}, and the next search makes it anew"):
            SearchIndex.open(folder, embedder.digest)

    def test_a_missing_part(self, copy: Path, embedder: ColourEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
        _have_lists(monkeypatch)
        folder = _update(copy, embedder).index.folder
        shutil.rmtree(next(iter((folder / "parts").iterdir())))
        with pytest.raises(SearchError, match=r"is of part .* which is not there"):
            SearchIndex.open(folder, embedder.digest)


def _have_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are many from now on."""
    for module in (neighbours, update):
        monkeypatch.setattr(module, "FLAT_MOST", 40, raising=False)
    monkeypatch.setattr(index_module, "EXACT_MOST", 20)


def test_lists_find_what_comparing_all_finds(
    copy: Path, embedder: ColourEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _update(copy, embedder)
    query = embedder.texts(["red and a little blue"])[0]
    wanted = [Wanted(hits=10, by="frame"), Wanted(hits=5), Wanted(hits=10, by="frame", cameras=("wrist",))]
    expected = [[hit.score for hit in find(query, [plain], one)] for one in wanted]
    _have_lists(monkeypatch)
    listed = _update(copy, embedder)
    assert listed.index.neighbours.probes > 0
    listed.index.neighbours.probes = listed.index.neighbours.index.nlist
    assert [[hit.score for hit in find(query, [listed], one)] for one in wanted] == [
        pytest.approx(scores, abs=1e-5) for scores in expected
    ]


def test_lists_grow_with_the_dataset_and_are_kept(
    copy: Path, embedder: ColourEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _have_lists(monkeypatch)
    first = _update(copy, embedder)
    made = first.index.neighbours.made_of
    (kept,) = (first.index.folder / "neighbours").iterdir()
    collect(CollectConfig(episodes=1, seed=901, workers=1, settings={"image_size": 32}), copy)
    second = _update(copy, embedder)
    assert second.index.neighbours.made_of == made  # the new rows were added to the lists that there were
    (newer,) = (second.index.folder / "neighbours").iterdir()
    assert newer != kept
    episode = len(second.dataset.episodes) - 1
    (vector,) = embedder.images(_picture(second.dataset, episode, "front", 3)[None])
    opened = Searched(dataset=second.dataset, index=SearchIndex.open(second.index.folder, embedder.digest))
    assert opened.index.kept == len(opened.index.parts)
    assert episode in {hit.episode for hit in find(vector, [opened], Wanted(hits=5))}
