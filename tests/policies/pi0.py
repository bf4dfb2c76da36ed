"""A π0 of a few thousand random weights as transformers saves it, its contract file, and what it answers by hand."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from tests.tiny import random_pi0
from vla.core.types import Observation
from vla.envs.registry import env_spec
from vla.models.heads.noise import seeded_normal

ENV, SETTINGS = "tabletop/place", {"image_size": 16, "max_steps": 4}
SIDE, PATCHES, IMAGE, WORDS = 8, 4, 60, 61
HORIZON, STATE, ACTION = 4, 11, 10
_EPSILON = 1e-6
_GEMMA: dict[str, Any] = {
    **{"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6},
    **{"intermediate_size": 20, "vocab_size": WORDS},
}


def write_pi0(folder: Path) -> Path:
    """Model and tokenizer."""
    sizes = {"chunk_size": HORIZON, "max_state_dim": STATE, "max_action_dim": ACTION, "num_inference_steps": 3}
    model = random_pi0(_GEMMA, image_token=IMAGE, image_size=SIDE, patch_size=4, **sizes)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, *, last: int = IMAGE - 1, begin: bool = True) -> None:
    """Of the words that the scenes use; a newline is one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    colours = ("red", "green", "blue", "yellow", "orange", "purple", "white", "grey")
    words = ("put", "the", *colours, "block", "on", "plate", "pick", "up", "move", "to")
    known = {word: number for number, word in enumerate(["<unk>", "<bos>", "\n", *words])}
    tokenizer = Tokenizer(models.WordLevel(known | {"<last>": last}, unk_token="<unk>"))
    split = [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    special: dict[str, Any] = {"bos_token": "<bos>"} if begin else {}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special).save_pretrained(folder)


def write_contract(path: Path, settings: dict[str, int] = SETTINGS, **changes: Any) -> Path:
    """Of the tabletop arm, its cameras and joints in another order than the environment's."""
    env = env_spec(ENV).make(settings)
    robot = env.contract.to_json()
    env.close()
    rng = np.random.default_rng(0)
    said: dict[str, Any] = {key: robot[key] for key in ("robot", "control_hz", "gripper", "state", "action", "cameras")}
    said["cameras"] = said["cameras"][::-1]
    said["action"] = [said["action"][i] for i in (7, 0, 1, 2, 3, 4, 5, 6)]
    said["state"] = [said["state"][i] for i in (1, 0, 2, 3, 4, 5, 6, 7)]
    said["relative"] = [f"joint{i}" for i in range(1, 8)]
    low, high = np.sort(rng.uniform(-0.05, 0.05, (2, 8)), axis=0)
    low[0], high[0] = 0.0, 0.08
    mean, std = rng.uniform(-0.5, 0.5, 8), rng.uniform(0.3, 2.0, 8)
    said["statistics"] = {
        "state": {"mean": mean.tolist(), "std": std.tolist(), "epsilon": 1e-8},
        "action": {"q01": low.tolist(), "q99": high.tolist(), "epsilon": _EPSILON},
    }
    said |= {"horizon": HORIZON, "execute": 2, "image_size": [SIDE, SIDE], "text_tokens": 20} | changes
    path.write_text(yaml.safe_dump(said))
    return path


@dataclass
class ByHand:
    """What one would write around `PI0ForConditionalGeneration` oneself: one observation at a time, and no padding."""

    folder: Path
    file: Path
    model: Any = field(init=False)
    tokenizer: Any = field(init=False)

    def __post_init__(self) -> None:
        from transformers import AutoTokenizer, PI0ForConditionalGeneration

        self.model = PI0ForConditionalGeneration.from_pretrained(self.folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)

    def chunk(self, seen: Observation, draw: int, *, clip: bool = True) -> np.ndarray:
        """float32 (h, d), in the order of the environment, within its limits."""
        said = yaml.safe_load(self.file.read_text())
        words = self.tokenizer(f"{seen.instruction}\n", add_special_tokens=False).input_ids
        ids = torch.tensor([[IMAGE] * (2 * PATCHES) + [self.tokenizer.bos_token_id] + words])
        frames = [
            Image.fromarray(seen.images[name]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            for name in ("wrist", "front")
        ]
        pixels = (torch.tensor(np.stack(frames)).permute(0, 3, 1, 2)[None] / 255 - 0.5) / 0.5
        names = [f"joint{i}" for i in range(1, 8)] + ["gripper"]
        numbers = dict(zip(names, seen.state.tolist(), strict=True))
        scale = said["statistics"]["state"]
        state = torch.zeros(1, STATE)
        for i, (d, mean, std) in enumerate(zip(said["state"], scale["mean"], scale["std"], strict=True)):
            state[0, i] = (numbers[d["name"]] - mean) / (std + 1e-8)
        written = self.model.sample_actions(
            state=state,
            input_ids=ids,
            attention_mask=torch.ones_like(ids),  # without one, words and actions count their places differently
            pixel_values=pixels,
            pixel_attention_mask=torch.ones(1, 2, dtype=torch.bool),
            noise=seeded_normal(torch.tensor([draw]), HORIZON, ACTION),
        )[0]
        columns = {}
        scale = said["statistics"]["action"]
        for i, (d, low, high) in enumerate(zip(said["action"], scale["q01"], scale["q99"], strict=True)):
            command = (written[:, i].numpy().astype(np.float64) + 1) / 2 * (high - low + _EPSILON) + low
            if d["name"] != "gripper":
                command = command + numbers[d["name"]]
            columns[d["name"]] = np.clip(command, d["low"], d["high"]) if clip else command
        return np.stack([columns[name] for name in names], axis=1).astype(np.float32)
