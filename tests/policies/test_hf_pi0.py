"""π0 of transformers as a policy: what it answers is what one computes by hand, through every door."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.policies.pi0 import ENV, SETTINGS, WORDS, ByHand, write_contract, write_pi0, write_tokenizer
from vla.core.action_transform import ActionTransform
from vla.core.contract import Contract
from vla.core.errors import CheckpointError, ConfigError, ContractError, VlaError
from vla.core.provenance import folder_digest
from vla.core.types import ActionChunk, ClosablePolicy, Observation, Policy, SeededPolicy
from vla.deploy.remote import RemotePolicy
from vla.deploy.serving.server import PolicyServer
from vla.envs.registry import env_spec
from vla.envs.spec import to_observation
from vla.evaluation.baselines import SameBatch
from vla.evaluation.evaluate import compare, evaluate
from vla.evaluation.settings import RunConfig
from vla.policies import hf_pi0
from vla.policies.checker import check_policy
from vla.policies.contract_file import Scale
from vla.policies.hf_pi0 import HfPi0Policy
from vla.policies.table import build_policy, files_of, find_policy, version_of

pytest.importorskip("transformers.models.pi0", reason="π0 is transformers'")
_MOST = 1 << 20
"""Chunk i of seed s is drawn by s times this, plus i."""
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models of this size only lose by sharing their work among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pi0(tmp_path_factory.mktemp("pi0"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_contract(tmp_path_factory.mktemp("contract") / "pi0.yaml")


@pytest.fixture(scope="module")
def name(folder: Path, file: Path) -> str:
    return f"hf-pi0,folder={folder},contract={file}"


@pytest.fixture(scope="module")
def by_hand(folder: Path, file: Path) -> ByHand:
    return ByHand(folder, file)


@pytest.fixture(scope="module")
def scene() -> Any:
    """The robot's contract, and three observations."""
    env = env_spec(ENV).make(SETTINGS)
    observations = [to_observation(*env.reset(seed=seed)) for seed in range(3)]
    yield env.contract, [dataclasses.replace(seen, time_ns=7 + i) for i, seen in enumerate(observations)]
    env.close()


@pytest.fixture(scope="module")
def policy(name: str, scene: Any) -> HfPi0Policy:
    built = build_policy(find_policy(name), contract=scene[0])
    assert isinstance(built, HfPi0Policy)
    return built


def _apart(policy: HfPi0Policy, by_hand: ByHand, scene: Any) -> float:
    """Of slots 0 and 2 at once, with seeds of their own, the largest distance from what is computed by hand."""
    robot, seen = scene
    assert isinstance(policy, SeededPolicy)
    for slot, seed in ((0, 1), (2, 5)):
        policy.reset(slot)
        policy.seed(slot, seed)
    distances = []
    for drawn in range(2):
        chunks = policy.act([seen[0], None, seen[2]])
        assert chunks[1] is None
        for slot, seed in ((0, 1), (2, 5)):
            chunk, expected = chunks[slot], by_hand.chunk(seen[slot], seed * _MOST + drawn)
            assert chunk is not None
            assert chunk.time_ns == seen[slot].time_ns
            distances.append(float(np.abs(chunk.actions - expected).max()))
            low, high = robot.action_limits
            assert ((expected > low) & (expected < high)).mean() > 0.6, "what is clipped says nothing"
    return max(distances)


def test_answers_are_those_computed_by_hand(policy: HfPi0Policy, by_hand: ByHand, scene: Any) -> None:
    assert _apart(policy, by_hand, scene) < 1e-5


def _swapped(self: Any, seen: Observation, whole: Any = HfPi0Policy._pictures) -> np.ndarray:
    return np.ascontiguousarray(whole(self, seen)[::-1])


def _bicubic(image: np.ndarray, size: tuple[int, int], *, pad: bool, bicubic: bool, plain: Any = hf_pi0.fitted) -> Any:
    return plain(image, size, pad=pad, bicubic=not bicubic)


@pytest.mark.parametrize(
    ("where", "what", "mutant"),
    [
        (HfPi0Policy, "_pictures", _swapped),
        (Scale, "denormalise", lambda self, x: x),
        (Scale, "normalise", lambda self, x: x.astype(np.float32)),
        (ActionTransform, "undo", lambda self, state, actions: actions),
        (hf_pi0, "seeded_normal", lambda seeds, h, d: torch.zeros(len(seeds), h, d)),
        (hf_pi0, "worded", lambda instruction: instruction),
        (hf_pi0, "fitted", _bicubic),
        (None, "_state_in", list(range(8))),
        (None, "_action_out", list(range(8))),
    ],
    ids=["cameras", "undone", "done", "relative", "noise", "newline", "kernel", "order of states", "order of actions"],
)
def test_the_comparison_notices(
    where: Any, what: str, mutant: Any, policy: HfPi0Policy, by_hand: ByHand, scene: Any, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(where or policy._order, what, mutant)
    assert _apart(policy, by_hand, scene) > 1e-3


def test_it_keeps_what_policies_promise(policy: HfPi0Policy, scene: Any) -> None:
    check_policy(policy, scene[1])
    check_policy(SameBatch(policy, 4), scene[1])


class Watched:
    """A policy, and what each slot was shown and answered, by the seed of its episode."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._seeds, self.answers = policy, dict[int, list[int]](), list[tuple[int, Any, Any]]()

    @property
    def contract(self) -> Contract:
        return self._policy.contract

    def reset(self, slot: int) -> None:
        self._policy.reset(slot)
        self._seeds[slot] = [0, 0]

    def seed(self, slot: int, seed: int) -> None:
        if isinstance(self._policy, SeededPolicy):
            self._policy.seed(slot, seed)
            self._seeds[slot] = [seed, 0]

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        chunks = self._policy.act(observations)
        for slot, (seen, chunk) in enumerate(zip(observations, chunks, strict=True)):
            if seen is not None:
                seed, drawn = self._seeds[slot]
                self._seeds[slot][1] += 1
                self.answers.append((seed * _MOST + drawn, seen, chunk))
        return chunks


class WrittenByHand:
    """The same policy as one would write it oneself: `ByHand`, and seeds counted as they are here."""

    def __init__(self, contract: Contract, by_hand: ByHand) -> None:
        self.contract, self._by_hand, self._slots = contract, by_hand, dict[int, list[int]]()

    def reset(self, slot: int) -> None:
        self._slots[slot] = [0, 0]

    def seed(self, slot: int, seed: int) -> None:
        self._slots[slot] = [seed, 0]

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        return [None if seen is None else self._chunk(slot, seen) for slot, seen in enumerate(observations)]

    def _chunk(self, slot: int, seen: Observation) -> ActionChunk:
        seed, drawn = self._slots[slot]
        self._slots[slot][1] += 1
        return ActionChunk(actions=self._by_hand.chunk(seen, seed * _MOST + drawn, clip=False), time_ns=seen.time_ns)


_ONE = RunConfig(workers=1, batch=2)


def test_an_evaluation_executes_what_is_computed_by_hand(name: str, by_hand: ByHand) -> None:
    watched: list[Watched] = []

    def make(contract: Contract, batch: int) -> Watched:
        watched.append(Watched(build_policy(find_policy(name), contract=contract, batch=batch)))
        return watched[-1]

    evaluate(make, env=ENV, settings=SETTINGS, episodes=2, seed=40, run=_ONE)
    answers = [answer for one in watched for answer in one.answers]
    assert {draw // _MOST for draw, _, _ in answers} == {40, 41}
    assert len(answers) == 2 * SETTINGS["max_steps"] // 2  # the contract file says that two steps of each are executed
    for draw, seen, chunk in answers:
        np.testing.assert_allclose(chunk.actions, by_hand.chunk(seen, draw), atol=1e-5)


def test_a_comparison_with_what_is_written_by_hand_finds_no_difference(
    name: str, folder: Path, file: Path, by_hand: ByHand, scene: Any
) -> None:
    spec = build_policy(find_policy(name), contract=scene[0]).contract

    def theirs(contract: Contract) -> WrittenByHand:
        return WrittenByHand(spec, by_hand)

    result = compare(name, theirs, env=ENV, settings=SETTINGS, episodes=2, seed=60, run=_ONE)
    ours, others = (side.rows[0].episodes for side in (result.a, result.b))
    assert len(ours) == 2
    for a, b in zip(ours, others, strict=True):
        assert (a.seed, a.success, a.steps, a.clipped) == (b.seed, b.success, b.steps, b.clipped)
        assert a.best_progress == pytest.approx(b.best_progress, abs=1e-4)
    assert result.a.policy.name == name
    assert result.a.policy.digest == f"{folder_digest(folder)} {folder_digest(file)}"


def test_a_server_answers_what_is_computed_by_hand(name: str, by_hand: ByHand, scene: Any) -> None:
    """Each connection is a slot; nobody tells a server seeds, so its first chunk is that of seed 0."""
    robot, seen = scene
    with PolicyServer(build_policy(find_policy(name)), port=0).running() as address:
        remote = build_policy(find_policy(address))
        assert isinstance(remote, RemotePolicy)
        assert [camera.name for camera in remote.contract.cameras] == ["wrist", "front"]
        assert [d.name for d in remote.contract.action][:2] == ["gripper", "joint1"]
        remote.close()
        policy = build_policy(find_policy(address), env=ENV, contract=robot)  # whose order is another
        assert isinstance(policy, ClosablePolicy)
        for slot in range(3):
            policy.reset(slot)
        for one, chunk in zip(seen, policy.act(seen), strict=True):
            assert chunk is not None
            np.testing.assert_allclose(chunk.actions, by_hand.chunk(one, 0), atol=1e-5)
        policy.close()
        result = evaluate(address, env=ENV, settings=SETTINGS, episodes=2, seed=80, run=_ONE)
        assert [episode.crash for episode in result.rows[0].episodes] == [None, None]
        with pytest.raises(ContractError, match=r"cameras\.front: 16x16 ≠ 8x8"):
            evaluate(address, env=ENV, settings=SETTINGS | {"image_size": 8}, episodes=1, run=_ONE)


def test_the_name_says_which_files_it_is_read_from(name: str, folder: Path, file: Path) -> None:
    assert files_of(name) == (folder, file)
    assert version_of(name) == f"{folder_digest(folder)} {folder_digest(file)}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("", "policy hf-pi0 needs folder and contract: hf-pi0,folder=…,contract=…"),
        (",folder={folder}", "needs contract: hf-pi0,folder=.*,contract=…"),
        (",folder={folder}/nowhere,contract={file}", r"folder .*nowhere does not exist; nothing is downloaded"),
        (",folder={folder},contract={file}x", r"contract .*pi0.yamlx does not exist"),
        (",foldr={folder},folder={folder},contract={file}", "unknown key 'foldr': did you mean 'folder'"),
        (",folder={folder},contract", "'contract' must be key=value"),
    ],
)
def test_settings_that_are_wrong_are_told_before_anything_is_read(
    settings: str, message: str, folder: Path, file: Path
) -> None:
    with pytest.raises(VlaError, match=message):
        find_policy("hf-pi0" + settings.format(folder=folder, file=file))


def test_other_policies_have_no_settings() -> None:
    with pytest.raises(ConfigError, match="policy random has no settings, got speed=2"):
        find_policy("random,speed=2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 5}, r"horizon: 5 ≠ 4 \(chunk_size\)"),
        ({"image_size": [8, 16]}, r"image_size: \[8, 16\] ≠ \[8, 8\]"),
        ({"tokenizer": "nowhere"}, "tokenizer .*nowhere does not exist"),
        ({"tokenizer": "."}, "holds no tokenizer"),
        ({"control_hz": 20}, r"control_hz: 20.0 ≠ 10.0. Evaluate in the environment that the contract file describes"),
        ({"robot": "other"}, "robot: 'other' ≠ 'tabletop-panda'"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, folder: Path, tmp_path: Path, scene: Any
) -> None:
    file = write_contract(tmp_path / "pi0.yaml", **changes)
    with pytest.raises(VlaError, match=message):
        build_policy(find_policy(f"hf-pi0,folder={folder},contract={file}"), contract=scene[0])


def test_a_wider_robot_and_a_larger_tokenizer_are_refused_with_both_numbers(folder: Path, tmp_path: Path) -> None:
    wide = [{"name": f"joint{i}", "unit": "rad", "low": -1.0, "high": 1.0} for i in range(12)]
    scale = {"mean": [0.0] * 12, "std": [1.0] * 12}
    write_tokenizer(tmp_path / "words", last=WORDS)
    changes = {"state": wide, "action": wide, "statistics": {"state": scale, "action": scale}, "relative": []}
    file = write_contract(tmp_path / "pi0.yaml", **changes, gripper=None, tokenizer="words")
    with pytest.raises(ContractError) as caught:
        build_policy(find_policy(f"hf-pi0,folder={folder},contract={file}"))
    said = str(caught.value)
    assert "state: 12 dimensions, more than 11 (max_state_dim)" in said
    assert "action: 12 dimensions, more than 10 (max_action_dim)" in said
    assert f"tokenizer: ids up to {WORDS}, and embeddings for those below {WORDS} (vocab_size)" in said


def _with(folder: Path, tmp_path: Path, change: Callable[[Path], object]) -> Path:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    change(copy)
    return copy


def _rewrite(**changes: Any) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return rewrite


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return rewrite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is no configuration of π0"),
        (_rewrite(model_type="llama"), "model_type: expected pi0, got 'llama'"),
        (_rewrite(chunk_size="four"), "is no configuration of π0"),
        (lambda folder: (folder / "model.safetensors").unlink(), "its weights cannot be read"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"damaged"), "its weights cannot be read"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "holds no tokenizer"),
        (lambda folder: write_tokenizer(folder, begin=False), "has no bos_token"),
        (_weights(lambda weights: weights.pop("action_out_proj.bias")), r"missing \['action_out_proj.bias'\]"),
        (_weights(lambda weights: weights.update(adaptive=torch.ones(2))), r"too many \['adaptive'\]"),
        (
            _weights(lambda weights: weights.update({"action_out_proj.bias": torch.ones(3)})),
            r"wrong shape \[.*action_out_proj.bias.*3.*10",
        ),
    ],
)
def test_a_folder_that_is_no_pi0_is_refused(
    change: Callable[[Path], object], message: str, folder: Path, file: Path, tmp_path: Path
) -> None:
    model = _with(folder, tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        build_policy(find_policy(f"hf-pi0,folder={model},contract={file}"))


def test_statistics_beside_the_weights_of_older_checkpoints_are_no_weights(
    folder: Path, file: Path, tmp_path: Path
) -> None:
    old = {"normalize_inputs.buffer_observation_state.mean": torch.ones(8)}
    model = _with(folder, tmp_path, _weights(lambda weights: weights.update(old)))
    assert build_policy(find_policy(f"hf-pi0,folder={model},contract={file}")) is not None


def test_what_it_is_shown_and_told_is_checked(policy: HfPi0Policy, scene: Any) -> None:
    _, (seen, *_) = scene
    for change, message in (
        ({"instruction": "put the red block " * 9}, r"expected at most 20 tokens \(text_tokens of .*\), got 38"),
        ({"images": {"front": seen.images["front"]}}, "send wrist"),
        ({"images": {name: image[:8] for name, image in seen.images.items()}}, r"expected uint8 \(16, 16, 3\)"),
        ({"state": seen.state[:7]}, r"expected float32 \(8,\)"),
        ({"committed": np.zeros((1, 8), np.float32)}, "expected at most 0 steps"),
    ):
        with pytest.raises(ContractError, match=message):
            policy.act([dataclasses.replace(seen, **change)])


def test_a_picture_is_fitted_with_black_beside_it_or_stretched() -> None:
    wide = np.full((4, 8, 3), 200, np.uint8)
    padded = hf_pi0.fitted(wide, (8, 8), pad=True, bicubic=False)
    assert [row.max() for row in padded] == [0, 0, 200, 200, 200, 200, 0, 0]
    assert (hf_pi0.fitted(wide, (8, 8), pad=False, bicubic=False) == 200).all()
    assert hf_pi0.fitted(wide, (2, 8), pad=True, bicubic=True)[:, 2:6].min() == 200
    assert hf_pi0.worded(" pick_up the\ncup ") == "pick up the cup\n"
