"""Records survive JSON and columns, and the content hash sees what it should."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.store.content import PictureDigest, content_hash, motion_hash
from vla.datasets.store.records import EDITABLE, EpisodeIndex, EpisodeRecord, encode_records, record_of

MakeEpisode = Callable[..., Episode]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)  # UTF-8 has no lone surrogates
counts = st.dictionaries(st.sampled_from(["fast", "slow"]), st.integers(1, 1000))
provenance = st.dictionaries(text, text | st.integers() | st.none() | st.lists(st.booleans(), max_size=2), max_size=2)


fields = st.fixed_dictionaries(
    {
        "length": st.integers(1, 2**40),
        "instruction": text,
        "instruction_alternatives": st.lists(text, max_size=2).map(tuple),
        "task": text,
        "success": st.sampled_from([True, False, None]),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "split": st.sampled_from(["train", "val", ""]),
        "content_hash": st.integers(0, 2**128 - 1).map("{:032x}".format),
        "frames": counts,
        "sim_state": st.booleans(),
        "model": st.sampled_from(["", "0123456789abcdef"]),
        "provenance": provenance,
    }
)
segments = st.lists(st.lists(fields, max_size=3), min_size=1, max_size=3)


def records_of(shares: list[list[dict[str, Any]]]) -> list[list[EpisodeRecord]]:
    """The records of some segments; starts count within each, uids are unique and of different lengths."""
    found = []
    for segment, share in enumerate(shares):
        records, start = [], 0
        for number, known in enumerate(share):
            records.append(EpisodeRecord(uid=f"{segment:016x}-{number:06d}"[number % 4 :], start=start, **known))
            start += records[-1].length
        found.append(records)
    return found


def build(shares: list[list[EpisodeRecord]]) -> EpisodeIndex:
    return EpisodeIndex.build([(f"segment {i}", encode_records(records)) for i, records in enumerate(shares)])


def laid_out(records: list[EpisodeRecord]) -> list[EpisodeRecord]:
    """With the starts that they have one after another in a dataset."""
    starts = np.cumsum([0, *(record.length for record in records)])
    return [replace(record, start=int(start)) for record, start in zip(records, starts, strict=False)]


@given(drawn=segments)
def test_records_round_trip(drawn: list[list[dict[str, Any]]]) -> None:
    shares = records_of(drawn)
    flat = [record for records in shares for record in records]
    index = build(shares)
    assert list(index) == index[:] == laid_out(flat)
    assert len(index) == len(flat)
    assert index.segments.tolist() == [i for i, records in enumerate(shares) for _ in records]
    assert index.numbers.tolist() == [i for records in shares for i in range(len(records))]
    assert index.offsets.tolist() == [record.start for record in flat]
    for name in ("instruction", "instruction_alternatives", "task", "split"):
        distinct, codes = index.column(name)
        assert [distinct[code] for code in codes] == [getattr(record, name) for record in flat]
        assert len(set(distinct)) == len(distinct)


@given(drawn=segments, data=st.data())
def test_take(drawn: list[list[dict[str, Any]]], data: st.DataObject) -> None:
    shares = records_of(drawn)
    index = build(shares)
    chosen = data.draw(st.lists(st.integers(0, len(index) - 1))) if len(index) else []
    taken = index.take(np.array(chosen, np.int64))
    assert list(taken) == laid_out([index[number] for number in chosen])
    for name in ("segments", "numbers", "offsets"):
        assert getattr(taken, name).tolist() == getattr(index, name)[chosen].tolist()
    assert list(index) == list(build(shares))  # the old one stays


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "instruction": text,
    "instruction_alternatives": st.lists(text, max_size=2),
    "task": text,
    "success": st.sampled_from([True, False, None]),
    "split": text,
}


@given(drawn=segments, data=st.data())
def test_override(drawn: list[list[dict[str, Any]]], data: st.DataObject) -> None:
    shares = records_of(drawn)
    index = build(shares)
    before = list(index)
    uids = [record.uid for record in before]
    assert CHANGES.keys() == set(EDITABLE)
    changes = st.fixed_dictionaries({}, optional=CHANGES)
    said = data.draw(st.dictionaries(st.sampled_from([*uids, "unknown"]), changes, max_size=4))
    chosen = data.draw(st.lists(st.sampled_from(range(len(index))), unique=True)) if len(index) else []
    taken = index.take(np.array(chosen, np.int64))
    taken.override(json.loads(json.dumps(said)))
    expected = []
    for record in laid_out([before[number] for number in chosen]):
        fields = dict(said.get(record.uid, {}))
        if "instruction_alternatives" in fields:
            fields["instruction_alternatives"] = tuple(fields["instruction_alternatives"])
        expected.append(replace(record, **fields))
    assert list(taken) == expected
    assert list(index) == before  # another version of the dataset is not touched
    for record in taken:
        assert isinstance(record.instruction_alternatives, tuple)


def test_reads_like_a_list(make_episode: MakeEpisode) -> None:
    records = [record_of(make_episode(2, seed), content="0" * 32, uid=f"u{seed}", start=2 * seed) for seed in range(4)]
    index = build([records])
    assert index[-1] == records[-1]
    assert index[np.int64(1)] == records[1]
    assert index[1:3] == records[1:3]
    assert index[::-2] == records[::-2]
    assert records[2] in index
    assert index.index(records[2]) == 2
    for number in (4, -5):
        with pytest.raises(IndexError):
            index[number]


def test_an_index_without_episodes() -> None:
    for index in (EpisodeIndex.build([]), build([[]])):
        assert list(index) == []
        assert index.starts.tolist() == []
        assert list(index.take(np.zeros(0, np.int64))) == []
        index.override({"u": {"task": "x"}})


def test_a_million_episodes_fit(make_episode: MakeEpisode) -> None:
    """100 thousand here: columns, not objects."""
    record = record_of(make_episode(), content="0" * 32, uid="0123456789abcdef-01234567-000000", start=0)
    value = json.loads(encode_records([record]))
    many = {name: column * 100_000 for name, column in value.items() if name != "extra"} | {"extra": {}}
    index = EpisodeIndex.build([("x", json.dumps(many).encode())])
    names = ("starts", "lengths", "segments", "numbers", "offsets", "seeds", "success", "uids", "hashes")
    size = sum(getattr(index, name).nbytes for name in names) + sum(index.column("task")[1].nbytes for _ in range(4))
    assert size / len(index) < 150
    assert index[99_999].task == "put"


def test_record_of(make_rich_episode: MakeEpisode) -> None:
    episode = make_rich_episode(5, 3, success=False)
    record = record_of(episode, uid="u", content=content_hash(episode), start=9, model="abc")
    assert (record.length, record.success, record.seed, record.model) == (5, False, 3, "abc")
    assert record.frames == {name: len(times) for name, times in episode.image_time_ns.items()}
    assert record.sim_state
    assert record.provenance == episode.provenance
    assert build([[replace(record, start=0)]])[0] == replace(record, start=0)


@pytest.mark.parametrize("name", ["uid", "length", "instruction", "seed", "content_hash", "extra"])
def test_a_missing_column(make_episode: MakeEpisode, name: str) -> None:
    value = json.loads(encode_records([record_of(make_episode(), content="0" * 32, uid="u", start=0)]))
    del value[name]
    with pytest.raises(DatasetError, match=f"segment 7: episodes lack {name}"):
        EpisodeIndex.build([("segment 7", json.dumps(value).encode())])


def test_columns_that_are_not_known_are_left_alone(make_episode: MakeEpisode) -> None:
    record = record_of(make_episode(), content="0" * 32, uid="u", start=0)
    value = {**json.loads(encode_records([record])), "later": [1]}
    assert list(EpisodeIndex.build([("x", json.dumps(value).encode())])) == [record]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": [1]},
        {"length": [0, 1]},
        {"length": [-1, 3]},
        {"length": []},
        {"length": ["1", None]},
        {"length": [1, None]},
    ],
)
def test_columns_that_do_not_fit(make_episode: MakeEpisode, change: dict[str, Any]) -> None:
    records = [record_of(make_episode(seed=seed), content="0" * 32, uid=f"u{seed}", start=0) for seed in range(2)]
    value = {**json.loads(encode_records(records)), **change}
    with pytest.raises(DatasetError, match="segment 7"):
        EpisodeIndex.build([("segment 7", json.dumps(value).encode())])


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"null", b"\xff", b'{"uid": 3}'])
def test_what_is_no_file_of_records(data: bytes) -> None:
    with pytest.raises(DatasetError, match="segment 7"):
        EpisodeIndex.build([("segment 7", data)])


def test_what_json_cannot_hold_is_not_written(make_episode: MakeEpisode) -> None:
    record = record_of(make_episode(provenance={"x": float("nan")}), content="0" * 32, uid="u", start=0)
    with pytest.raises(ValueError, match="JSON"):
        encode_records([record])


def test_the_hash_is_of_all_that_was_recorded_and_of_no_label(make_rich_episode: MakeEpisode) -> None:
    episode = make_rich_episode()
    assert content_hash(episode) == content_hash(make_rich_episode())
    assert len(content_hash(episode)) == 32
    for name in ("state", "action", "action_executed", "time_ns", "command_time_ns", "reward", "done", "valid"):
        array = getattr(episode, name)
        for row in (0, -1):
            changed = array.copy()
            changed[row] = ~changed[row] if changed.dtype == bool else changed[row] + 1
            assert content_hash(episode) != content_hash(replace(episode, **{name: changed}))
    for camera in episode.images:
        frames = episode.images[camera].copy()
        frames[-1, -1, -1, -1] ^= 1
        assert content_hash(episode) != content_hash(replace(episode, images={**episode.images, camera: frames}))
    assert content_hash(episode) != content_hash(replace(episode, sim_state=None))
    other = replace(episode, instruction="other", task="other", split="other", success=None, provenance={"x": 1})
    assert content_hash(episode) == content_hash(other)


def test_digests_of_pictures_stand_for_them(make_rich_episode: MakeEpisode) -> None:
    episode = make_rich_episode()
    digests = {camera: PictureDigest(frames).hexdigest() for camera, frames in episode.images.items()}
    assert content_hash(replace(episode, images={}), digests) == content_hash(episode)
    assert content_hash(replace(episode, images={})) != content_hash(episode)


def test_the_hash_of_older_datasets(make_rich_episode: MakeEpisode) -> None:
    episode = make_rich_episode()
    images = {camera: np.zeros_like(frames) for camera, frames in episode.images.items()}
    other = replace(episode, images=images, sim_state=None, reward=episode.reward + 1)
    assert motion_hash(episode) == motion_hash(other) != content_hash(other)


def test_the_hash_sees_shapes_and_not_layout(make_episode: MakeEpisode) -> None:
    episode = make_episode(4)
    fortran = replace(episode, state=np.asfortranarray(episode.state))
    assert content_hash(fortran) == content_hash(episode)
    before = content_hash(episode)
    object.__setattr__(episode, "state", episode.state.reshape(5, 4))  # the same bytes
    assert content_hash(episode) != before
