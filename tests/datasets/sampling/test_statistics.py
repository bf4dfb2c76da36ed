"""Statistics of whole datasets against chunks that windows make, and what is stored of them."""

import dataclasses
import json
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vla.core.action_transform import ActionTransform
from vla.core.contract import Contract
from vla.core.errors import ContractError, DatasetError
from vla.core.scaling import compute_statistics
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.sampling.statistics import DatasetStatistics, compute, drift, load_or_compute, recompute, scale_of
from vla.datasets.sampling.windows import Windows, spacing
from vla.datasets.store.documents import encode
from vla.datasets.store.manifest import publish, publish_change
from vla.datasets.store.segment import SegmentWriter

MakeDataset = Callable[[Sequence[Sequence[int]]], Dataset]
MakeEpisode = Callable[..., Episode]
LENGTHS = [[3, 5, 1], [7, 4]]
RELATIVE = ActionTransform(relative_to=(2, None, 0, 2))


def _write(root: Path, contract: Contract, episodes: Sequence[Sequence[Episode]]) -> Dataset:
    create_dataset(root, contract)
    for segment in episodes:
        with SegmentWriter(root, contract, {}) as writer:
            for episode in segment:
                writer.append(episode)
            publish(root, [writer.seal()], "test")
    return Dataset.open(root)


def _stored(data: Dataset) -> list[Path]:
    return sorted(Path(data.url, "stats").glob("*.json"))


@pytest.mark.parametrize("horizon", [1, 3, 50])
@pytest.mark.parametrize("episodes", [None, [4, 0, 1]])
@pytest.mark.parametrize("hz", [None, 20.0, 10.0, 7.0])
@pytest.mark.parametrize("transform", [RELATIVE, ActionTransform(relative_to=(None,) * 4)])
def test_exactly_what_windows_show(
    make_dataset: MakeDataset, horizon: int, episodes: list[int] | None, hz: float | None, transform: ActionTransform
) -> None:
    data = make_dataset(LENGTHS)
    windows = Windows(data, horizon, episodes, cameras=[], hz=hz)
    batch = windows.batch(np.arange(len(windows)))
    state = batch["state"][:, -1]
    chunks = transform.apply(state, batch["actions"])[batch["action_valid"]]
    statistics = compute(data, transform, horizon, episodes, hz=hz)
    for ours, rows in ((statistics.state, state), (statistics.action, chunks)):
        theirs = compute_statistics(rows)
        assert (ours.count, ours.min, ours.max, ours.q01, ours.q99, ours.kind) == (
            len(rows), theirs.min, theirs.max, theirs.q01, theirs.q99, theirs.kind,
        )  # fmt: skip
        np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.std, theirs.std, rtol=1e-12)
    assert statistics.episodes == len(episodes or data.episodes)
    assert (statistics.transform, len(statistics.ahead)) == (transform, horizon)


def test_progress(make_dataset: MakeDataset) -> None:
    seen: list[tuple[int, int]] = []
    compute(make_dataset(LENGTHS), RELATIVE, 3, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(i, 9) for i in range(1, 10)]


def test_the_hash_names_what_the_numbers_depend_on(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    reference = compute(data, RELATIVE, 3).hash
    others = [
        compute(data, RELATIVE, 4),
        compute(data, RELATIVE, 3, hz=10.0),
        compute(data, ActionTransform.absolute(data.contract), 3),
        compute(data, RELATIVE, 3, [0, 1, 2, 3]),
    ]
    assert len({reference, *(s.hash for s in others)}) == 5
    assert compute(data, RELATIVE, 3, [4, 2, 3, 1, 0], hz=20.0).hash == reference


def test_which_steps_count_is_part_of_the_hash(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    """The content hash of an episode does not cover it."""
    every, most = (np.arange(7) < n for n in (7, 6))
    hashes = {
        compute(_write(tmp_path / name, contract, [[make_episode(valid=valid)]]), RELATIVE, 3).hash
        for name, valid in (("every", every), ("most", most))
    }
    assert len(hashes) == 2


def test_merged_in_another_order_and_relabelled_they_are_the_same_to_the_bit(
    tmp_path: Path, contract: Contract, make_episode: MakeEpisode
) -> None:
    a, b, c = (make_episode(n, seed) for n, seed in ((40, 0), (30, 1), (50, 2)))
    one = _write(tmp_path / "one", contract, [[a, b], [c]])
    relabelled = [dataclasses.replace(e, instruction="tue es", split="test") for e in (c, a, b)]
    other = _write(tmp_path / "other", contract, [relabelled])
    assert compute(one, RELATIVE, 5) == compute(other, RELATIVE, 5)
    uid = one.episodes[0].uid
    publish_change(
        one.url, lambda latest: dataclasses.replace(latest, overrides={uid: {"instruction": "新しい"}}), "relabel"
    )
    assert load_or_compute(one, RELATIVE, 5) == load_or_compute(Dataset.open(one.url), RELATIVE, 5)
    assert len(_stored(one)) == 1


def test_an_episode_of_another_split_is_left_out(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    assert compute(data, RELATIVE, 3, [0, 4]).state.count == data.valid[:3].sum() + data.valid[-4:].sum()


def test_stored_ones_are_read_and_not_computed(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    computed = load_or_compute(data, RELATIVE, 3)
    assert computed == compute(data, RELATIVE, 3)
    assert [path.name for path in _stored(data)] == [f"{computed.hash}.json"]
    loaded = load_or_compute(data, RELATIVE, 3, progress=lambda done, of: pytest.fail("computed again"))
    assert loaded == computed
    assert recompute(data, RELATIVE, 3) == (computed, None)
    load_or_compute(data, RELATIVE, 4)
    assert len(_stored(data)) == 2


def _flip(path: Path) -> None:
    text = bytearray(path.read_bytes())
    place = text.index(b'"std"') + 12
    text[place] = ord("7") if text[place] != ord("7") else ord("6")
    path.write_bytes(text)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _lose_a_key(path: Path) -> None:
    value = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("checksum", "action")}
    path.write_bytes(encode(value))


@pytest.mark.parametrize("damage", [_flip, _truncate, _lose_a_key])
def test_a_damaged_file_is_an_error_that_names_the_fix(
    make_dataset: MakeDataset, damage: Callable[[Path], None]
) -> None:
    data = make_dataset(LENGTHS)
    computed = load_or_compute(data, RELATIVE, 3)
    (path,) = _stored(data)
    good = path.read_bytes()
    damage(path)
    bad = path.read_bytes()
    with pytest.raises(DatasetError, match=rf"{computed.hash}\.json.*vla data stats --recompute"):
        load_or_compute(data, RELATIVE, 3)
    again, wrong = recompute(data, RELATIVE, 3)
    assert again == computed
    assert wrong is not None
    assert path.name in wrong
    assert path.read_bytes() == good
    assert Path(data.url, "quarantine", f"stats-{computed.hash}-0.json").read_bytes() == bad
    damage(path)
    recompute(data, RELATIVE, 3)
    assert Path(data.url, "quarantine", f"stats-{computed.hash}-1.json").read_bytes() == bad


def test_wrong_numbers_with_a_valid_checksum_are_replaced(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    computed = load_or_compute(data, RELATIVE, 3)
    (path,) = _stored(data)
    forged = dataclasses.replace(computed, state=dataclasses.replace(computed.state, mean=(0.5,) * 5))
    path.write_bytes(encode(forged.to_json()))
    assert load_or_compute(data, RELATIVE, 3) == forged
    assert recompute(data, RELATIVE, 3) == (computed, f"{path}: the numbers do not follow from the episodes")
    assert load_or_compute(data, RELATIVE, 3) == computed


def test_a_renamed_file_is_noticed(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    load_or_compute(data, RELATIVE, 3)
    (path,) = _stored(data)
    path.rename(path.with_name(f"{compute(data, RELATIVE, 4).hash}.json"))
    with pytest.raises(DatasetError, match="it was renamed"):
        load_or_compute(data, RELATIVE, 4)


def test_a_dataset_that_cannot_be_written_still_has_statistics(make_dataset: MakeDataset, tmp_path: Path) -> None:
    data = make_dataset(LENGTHS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # as a full disk; root may write to read-only folders
    try:
        with pytest.warns(UserWarning, match="cannot be stored .* computed each time"):
            found = load_or_compute(data, RELATIVE, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found == compute(data, RELATIVE, 3)


def test_json(make_dataset: MakeDataset) -> None:
    statistics = compute(make_dataset(LENGTHS), RELATIVE, 3)
    value = json.loads(json.dumps(statistics.to_json()))
    assert DatasetStatistics.from_json(value, where="here") == statistics
    for damaged in ({**value, "state": 3}, {**value, "ahead": None}, {k: value[k] for k in value if k != "episodes"}):
        with pytest.raises(DatasetError, match=r"here: the statistics are damaged"):
            DatasetStatistics.from_json(damaged, where="here")
    with pytest.raises(ContractError, match="here: relative_to"):
        DatasetStatistics.from_json({**value, "transform": {"relative_to": "all"}}, where="here")


def test_errors(make_dataset: MakeDataset, tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    data = make_dataset(LENGTHS)
    for horizon, hz, message in ((0, None, "horizon"), (1, 21.0, "at most 20"), (1, 0.0, "at most 20")):
        with pytest.raises(DatasetError, match=message):
            compute(data, RELATIVE, horizon, hz=hz)
    for wrong in ((None,) * 3, (None, None, None, 5)):
        with pytest.raises(DatasetError, match="of another robot"):
            compute(data, ActionTransform(relative_to=wrong), 1)
    useless = _write(tmp_path / "useless", contract, [[make_episode(valid=np.zeros(7, bool))]])
    for chosen in (compute, load_or_compute):
        with pytest.raises(DatasetError, match="at least 1 step to learn from, got none of 7"):
            chosen(useless, RELATIVE, 3)


def test_problems_name_the_dimension(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(30, seed) for seed in range(4)]
    for episode in episodes:
        episode.action[:, 1] = 0.25
    problems = compute(_write(tmp_path / "d", contract, [episodes]), RELATIVE, 3).problems(contract)
    assert len(problems) == 1
    assert problems[0].startswith("action a1 never changes: it is 0.25 in all ")


def test_drift(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    transform = ActionTransform.absolute(contract)
    rng = np.random.default_rng(0)

    def uniform(width: int) -> np.ndarray:
        return rng.uniform(-1, 1, (50, width)).astype(np.float32)

    episodes = [make_episode(50, seed, state=uniform(5), action=uniform(4)) for seed in range(12)]
    odd = [make_episode(50, seed, state=uniform(5), action=uniform(4)) for seed in range(20, 32)]
    for episode in odd:
        episode.state[:, 3] += 2.0
        episode.state[:, 4] += 0.6
        episode.action[:, 0] *= 3.0
    data = _write(tmp_path / "d", contract, [episodes, odd])
    whole = compute(data, transform, 3, range(12))
    assert drift(whole, whole, contract) == []
    assert drift(compute(data, transform, 3, range(6)), whole, contract) == []
    found = drift(compute(data, transform, 3, range(12, 24)), whole, contract)
    assert [line.split(":")[0] for line in found] == ["state s3"] * 2 + ["state s4"] * 2 + ["action a0"]
    assert "standard deviations away from" in found[0]
    assert "by more than 10 %" in found[1]
    alone = drift(compute(data, transform, 3, [12]), whole, contract)  # one standard deviation is chance
    assert [line.split(" ")[3] for line in alone if line.startswith("state s4")] == ["range"]


def test_drift_where_nothing_moved(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    transform = ActionTransform.absolute(contract)
    episodes = [make_episode(50, seed) for seed in range(2)]
    episodes[0].action[:, 2], episodes[1].action[:, 2] = 0.1, 0.4
    data = _write(tmp_path / "d", contract, [episodes])
    still, other = (compute(data, transform, 1, [i]) for i in range(2))
    found = [line for line in drift(other, still, contract) if line.startswith("action a2")]
    assert found[0] == "action a2: its mean 0.4 is 0.3, where nothing moved, away from 0.1"
    assert len(found) == 2


def test_spacing() -> None:
    assert spacing(4, 20.0, None).tolist() == [0, 1, 2, 3]
    assert spacing(4, 20.0, 5.0).tolist() == [0, 4, 8, 12]
    assert spacing(4, 10.0, 5.0).tolist() == [0, 2, 4, 6]
    assert spacing(4, 15.0, 10.0).tolist() == [0, 2, 3, 4]
    assert spacing(0, 15.0, 10.0).tolist() == []


def test_datasets_of_one_robot_are_pooled_exactly(
    tmp_path: Path, contract: Contract, make_episode: MakeEpisode
) -> None:
    """Every value counts as often as it was recorded: as if all episodes were in one dataset."""
    a, b, c, d = (make_episode(n, seed) for n, seed in ((40, 0), (30, 1), (5, 2), (9, 3)))
    first, second = _write(tmp_path / "first", contract, [[a, b]]), _write(tmp_path / "second", contract, [[c], [d]])
    whole = compute(_write(tmp_path / "whole", contract, [[a, b], [c, d]]), RELATIVE, 6)
    pooled = scale_of([(first, None, None), (second, None, None)], RELATIVE, 6)
    for ours, theirs in ((pooled.state, whole.state), (pooled.action, whole.action)):
        assert (ours.count, ours.min, ours.max, ours.q01, ours.q99, ours.kind) == (
            theirs.count, theirs.min, theirs.max, theirs.q01, theirs.q99, theirs.kind,
        )  # fmt: skip
        np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.std, theirs.std, rtol=1e-12)
    assert pooled.hashes == (compute(first, RELATIVE, 6).hash, compute(second, RELATIVE, 6).hash)
    assert not _stored(first)
    assert not _stored(second)


def test_pools_choose_episodes_and_rates(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    """The second robot's steps are nearer to each other: at half its rate, its chunks are those of every other step."""
    first, second = (_write(tmp_path / str(i), contract, [[make_episode(40, i), make_episode(30, 9)]]) for i in (0, 1))
    pooled = scale_of([(first, [0], None), (second, [0], 10.0)], RELATIVE, 3)
    rows = []
    for data, hz in ((first, None), (second, 10.0)):
        windows = Windows(data, 3, [0], cameras=[], hz=hz)
        batch = windows.batch(np.arange(len(windows)))
        rows.append(RELATIVE.apply(batch["state"][:, -1], batch["actions"])[batch["action_valid"]])
    expected = compute_statistics(np.concatenate(rows))
    assert (pooled.action.count, pooled.action.q01, pooled.action.q99) == (
        len(rows[0]) + len(rows[1]),
        expected.q01,
        expected.q99,
    )


def test_one_dataset_is_no_pool_and_is_stored(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    scale = scale_of([(data, [0, 1], 10.0)], RELATIVE, 3)
    stored = load_or_compute(data, RELATIVE, 3, [0, 1], hz=10.0)
    assert (scale.state, scale.action, scale.hashes) == (stored.state, stored.action, (stored.hash,))
    assert len(_stored(data)) == 1


def test_a_pool_without_steps_is_refused(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    nothing = np.zeros(7, bool)
    empty = [_write(tmp_path / name, contract, [[make_episode(valid=nothing)]]) for name in ("one", "two")]
    with pytest.raises(DatasetError, match=r"one and .*two: expected at least 1 step to learn from, got none"):
        scale_of([(data, None, None) for data in empty], RELATIVE, 3)
