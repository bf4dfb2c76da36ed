"""How fast whole evaluations are: many episodes of an expert, and a network that answers many environments at once."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vla.bench.measure import Note, Row, compare, cpu_rates, in_fresh_process
from vla.bench.settings import EnvConfig
from vla.core.action_transform import ActionTransform
from vla.core.scaling import Statistics
from vla.core.types import Policy
from vla.envs.registry import env_spec
from vla.envs.spec import to_observation
from vla.evaluation.baselines import ExpertPolicy
from vla.evaluation.evaluate import evaluate
from vla.evaluation.settings import RunConfig

ENV = "tabletop/place"


def bench_evaluation(config: EnvConfig, note: Note) -> Iterator[Row]:
    """Wall time of the expert's episodes on two cores; episodes of a network against one environment at a time."""
    if config.episodes:
        note(f"evaluating {config.episodes} episodes of the expert")
        start = time.perf_counter()
        result = evaluate(ExpertPolicy, env=ENV, episodes=config.episodes, run=RunConfig(workers=2))
        assert len(result.rows[0].episodes) == config.episodes
        title = f"{config.episodes} episodes of the expert in {ENV} on two cores"
        bar = 60.0 if config.episodes == 100 else None
        yield Row(name=title, value=time.perf_counter() - start, unit="s", bar=bar)
    if config.batch:
        with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
            checkpoint = write_random_checkpoint(Path(folder) / "checkpoint", config.seed)
            note("asking a network")
            rates = in_fresh_process(inference_rates, checkpoint, config.batch, config.budget)
            title = f"a network answers {config.batch} observations of {ENV} at once, against one, one core"
            yield compare(title, rates["batch"], "observations/s", against=rates["single"], bar=2.0)
            note("evaluating a network, one environment at a time")
            single = in_fresh_process(network_episodes_per_s, checkpoint, config.network_episodes, 1, 1)
            note(f"evaluating a network, two processes of {config.batch} environments")
            batched = in_fresh_process(network_episodes_per_s, checkpoint, config.network_episodes, 2, config.batch)
        title = f"a network in {ENV} on two cores, 2 processes × {config.batch} environments, against one at a time"
        yield compare(title, batched, "episodes/s", against=single, bar=2.0)


def inference_rates(checkpoint: Path, batch: int, budget_s: float) -> dict[str, float]:
    """Observations that are answered in a CPU second, ``batch`` at once and one."""
    env = env_spec(ENV).build({})
    observations = [to_observation(*env.reset(seed=seed)) for seed in range(batch)]
    policy = _make_network(checkpoint)

    def several() -> int:
        return len(policy.act(observations))

    def one() -> int:
        return len(policy.act(observations[:1]))

    return cpu_rates({"batch": several, "single": one}, budget_s)


def network_episodes_per_s(checkpoint: Path, episodes: int, workers: int, batch: int) -> float:
    """Episodes of a network in a second, from nothing: its processes are started, and it is loaded."""
    run = RunConfig(workers=workers, batch=batch, execute=4)
    start = time.perf_counter()
    result = evaluate(partial(_make_network, checkpoint), env=ENV, episodes=episodes, run=run)
    assert len(result.rows[0].episodes) == episodes
    return episodes / (time.perf_counter() - start)


def _make_network(checkpoint: Path) -> Policy:
    import torch

    from vla.policies.learned import LearnedPolicy

    torch.set_num_threads(1)  # as the workers of an evaluation have it; on a busy machine two are slower than one
    return LearnedPolicy(checkpoint, device="cpu")


def write_random_checkpoint(path: Path, seed: int, settings: Mapping[str, Any] | None = None) -> Path:
    """A model of the default size with random weights, for the tabletop with these settings."""
    import torch

    from vla.models.checkpoint import Blueprint, write_checkpoint
    from vla.models.kinds.unified import UnifiedConfig
    from vla.models.preprocessor import Embodiment, Preprocessor
    from vla.models.text.config import WordsConfig
    from vla.models.text.plain import words_of

    env = env_spec(ENV).build(settings or {})
    env.reset(seed=seed)
    contract, words = env.contract, [env.instruction, *env.instruction_alternatives]
    env.close()
    config = UnifiedConfig()
    reach = [0.1] * len(contract.action)
    robot = Embodiment(
        contract=contract,
        cameras=tuple(camera.name for camera in contract.cameras),
        space=ActionTransform.of(contract),
        state=Statistics.between([d.low for d in contract.state], [d.high for d in contract.state]),
        action=Statistics.between([-r for r in reach], reach),
    )
    tokenizer = WordsConfig().fit(words)
    preprocessor = Preprocessor(
        embodiments=(robot,),
        tokenizer=tokenizer,
        words=tuple(sorted({word for sentence in words for word in words_of(sentence)})),
        text_tokens=tokenizer.room_for(words),
        image_size=(contract.cameras[0].height, contract.cameras[0].width),
        history=config.history,
        horizon=config.horizon,
    )
    torch.manual_seed(seed)
    chunks = torch.rand(100, config.horizon, len(reach)) * 2 - 1
    blueprint = Blueprint(preprocessor=preprocessor, config=config, fitted=config.fit(chunks))
    write_checkpoint(path, blueprint, blueprint.build().state_dict(), {})
    return path
