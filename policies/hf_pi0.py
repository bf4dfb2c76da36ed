"""π0 as transformers has it (arXiv 2410.24164), from a local folder and unchanged, as a policy.

    cameras, words ─▶ [ image (n k) | begin, instruction, newline | padding ]
    state ─▶ scaled, with zeros behind it (max_state_dim)                       ─▶ sample_actions
    noise of the slot's seed (h, max_action_dim)                                        │
                              ActionChunk ◀─ absolute ◀─ scaled back ◀─ the first d columns

What the weights do not say, the contract file does: see `vla.policies.contract_file`. Nothing is fetched from anywhere.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from vla.core.contract import Contract, require_match
from vla.core.errors import CheckpointError, ContractError
from vla.core.machine.packages import needed_packages
from vla.core.sealed import brief
from vla.core.types import ActionChunk, Observation
from vla.models.device import choose_device
from vla.models.heads.noise import seeded_normal
from vla.policies.acting import Acting
from vla.policies.contract_file import Stated, read_contract_file

if TYPE_CHECKING:
    from vla.policies.learned import Precision
    from vla.policies.table import HfPi0Settings

_STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
"""Where older checkpoints of lerobot keep numbers that are no weights, and that the contract file states."""
_FIX = "Evaluate in the environment that the contract file describes, or correct the file"


class HfPi0Policy(Acting):
    """Answers as `PI0ForConditionalGeneration.sample_actions` does; between answers it keeps what slots draw by."""

    def __init__(
        self,
        settings: "HfPi0Settings",
        *,
        robot: Contract | None = None,
        device: str = "auto",
        precision: "Precision" = "float32",
    ) -> None:
        """For ``robot``, by default the one of the contract file; it may list its cameras and joints in another order.

        A folder that does not exist, weights that are not all of this model's, or a file that does not fit them are a
        `CheckpointError` or a `ContractError`.
        """
        folder, file = settings.folder, settings.contract
        self._stated, self._file = read_contract_file(file), file
        self._device = choose_device(device)
        self._bfloat16 = precision == "bfloat16"
        config = _read_config(folder)
        self._tokenizer = _read_tokenizer(self._stated.tokenizer or folder)
        _require_fit(self._stated, config, self._tokenizer, file, folder)
        own = self._stated.contract(self._spec(folder, config), where=f"contract {file}")
        super().__init__(own, robot)
        if robot is not None:
            who = f"hf-pi0 with {file}"
            require_match(self.contract, robot, who=who, whom=f"robot {robot.robot}", fix=_FIX)
        self._model = _read_model(folder).to(self._device).eval()

    def _write(self, live: Sequence[Observation], seeds: Int64[Tensor, " b"]) -> Sequence[ActionChunk]:
        """See `Acting._write`."""
        written, state = self._sample(live, seeds), np.stack([seen.state for seen in live])
        actions = self._stated.space.undo(state, self._stated.statistics.action.denormalise(written))
        return [ActionChunk(actions=chunk, time_ns=seen.time_ns) for chunk, seen in zip(actions, live, strict=True)]

    @torch.inference_mode()
    def _sample(self, live: Sequence[Observation], seeds: Int64[Tensor, " b"]) -> Float32[np.ndarray, "b h d"]:
        """What the model writes, in its own numbers."""
        config = self._model.config
        ids, valid = self._prompts([seen.instruction for seen in live])
        pixels = torch.from_numpy(np.stack([self._pictures(seen) for seen in live]))  # (b, n, c, y, x)
        scaled = torch.from_numpy(self._stated.statistics.state.normalise(np.stack([seen.state for seen in live])))
        state = torch.zeros(len(live), config.max_state_dim)
        state[:, : scaled.shape[1]] = scaled
        noise = seeded_normal(seeds, config.chunk_size, config.max_action_dim)
        inputs = {
            "state": state,
            "input_ids": ids,
            "attention_mask": valid.long(),
            "pixel_values": pixels,
            "noise": noise,
        }
        inputs["pixel_attention_mask"] = torch.ones(pixels.shape[:2], dtype=torch.bool)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            actions = self._model.sample_actions(**{name: value.to(self._device) for name, value in inputs.items()})
        written: np.ndarray = actions[..., : len(self._own.action)].float().cpu().numpy()
        return written

    def _prompts(self, instructions: Sequence[str]) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Places for the pictures, then the words; padded to one length, so an answer does not rest on the others'."""
        vision = self._model.config.vlm_config
        patches = (vision.vision_config.image_size // vision.vision_config.patch_size) ** 2
        places, most = patches * len(self._own.cameras), self._stated.text_tokens
        ids = torch.zeros(len(instructions), places + most, dtype=torch.long)
        valid = torch.zeros_like(ids, dtype=torch.bool)
        ids[:, :places], valid[:, :places] = vision.image_token_id, True
        for row, instruction in enumerate(instructions):
            said = worded(instruction)
            words = [self._tokenizer.bos_token_id, *self._tokenizer.encode(said, add_special_tokens=False)]
            if len(words) > most:
                raise ContractError(
                    f"the policy: instruction: expected at most {most} tokens (text_tokens of {self._file}), got "
                    f"{len(words)}: {brief(instruction)}; say it shorter"
                )
            ids[row, places : places + len(words)] = torch.tensor(words)
            valid[row, places : places + len(words)] = True
        return ids, valid

    def _pictures(self, seen: Observation) -> Float32[np.ndarray, "n c y x"]:
        """Each camera's in the order of the file, from -1 to 1."""
        size, fit = (self._stated.image_size[0], self._stated.image_size[1]), self._stated
        shown = [
            fitted(seen.images[camera.name], size, pad=fit.fit == "pad", bicubic=fit.resample == "bicubic")
            for camera in self._own.cameras
        ]
        scaled: np.ndarray = np.stack(shown).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        return scaled

    def _spec(self, folder: Path, config: Any) -> dict[str, Any]:
        """The policy part of the contract."""
        stated = self._stated
        said = dataclasses.asdict(dataclasses.replace(stated, tokenizer=None))
        built = {name: value for name, value in config.to_dict().items() if name != "transformers_version"}
        return {
            "kind": "hf-pi0",
            "horizon": stated.horizon,
            "execute": stated.execute or stated.horizon,
            "relative_to": [d.name if d.name in stated.relative else None for d in stated.action],
            "robots": [stated.robot],
            "preprocessor": _digest(said),
            "tokenizer": _digest(self._tokenizer.get_vocab()),
            "model": {"folder": folder.resolve().name, "config": _digest(built)},
            "fitted": {"statistics": said["statistics"]},
        }


def worded(instruction: str) -> str:
    """An instruction as the published models were told it: one line, which ends."""
    return instruction.strip().replace("_", " ").replace("\n", " ") + "\n"


def fitted(
    image: UInt8[np.ndarray, "v u 3"], size: tuple[int, int], *, pad: bool, bicubic: bool
) -> UInt8[np.ndarray, "y x 3"]:
    """A picture in another size (y, x): stretched, or as large as it fits in the middle of black."""
    from PIL import Image

    y, x = image.shape[:2]
    share = min(size[0] / y, size[1] / x)
    inner = (max(1, round(y * share)), max(1, round(x * share))) if pad else size
    kernel = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    resized = image if inner == (y, x) else np.asarray(Image.fromarray(image).resize((inner[1], inner[0]), kernel))
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = resized
    return canvas


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _read_config(folder: Path) -> Any:
    """The configuration of a π0, from its folder."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json: give the folder of a π0 as save_pretrained writes it")
    with needed_packages("hf-pi0"):
        from transformers import PI0Config
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        if kind != PI0Config.model_type:
            raise CheckpointError(f"{folder}: model_type: expected {PI0Config.model_type}, got {brief(kind)}")
        return PI0Config.from_pretrained(folder, local_files_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a file of somebody else's, and whatever its reader says of it
        raise CheckpointError(f"{folder / 'config.json'} is no configuration of π0 ({_said(error)})") from None


def _read_tokenizer(folder: Path) -> Any:
    """A tokenizer that says what begins a sentence, from its folder."""
    if not folder.is_dir():
        raise CheckpointError(f"tokenizer {folder} does not exist; name its folder in the contract file")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise CheckpointError(
            f"{folder} holds no tokenizer ({_said(error)}); name its folder in the contract file, as tokenizer"
        ) from None
    if tokenizer.bos_token_id is None:
        raise CheckpointError(f"tokenizer {folder} has no bos_token, with which π0's instructions begin")
    return tokenizer


def _read_model(folder: Path) -> Any:
    """The weights, every one accounted for, in float32; nothing but safetensors is read."""
    from transformers import PI0ForConditionalGeneration
    from transformers.utils import logging

    how: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
    how |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # which are refused below, by their names
    shown, heard = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # verbs show their own, and errors are one line
    logging.set_verbosity_error()
    try:
        loaded: Any = PI0ForConditionalGeneration.from_pretrained(folder, **how)
    except Exception as error:
        raise CheckpointError(f"{folder}: its weights cannot be read ({_said(error)}); copy the whole folder") from None
    finally:
        logging.set_verbosity(heard)
        if shown:
            logging.enable_progress_bar()
    model, found = loaded
    surplus = [name for name in found["unexpected_keys"] if not name.startswith(_STATISTICS)]
    wrong = {"missing": found["missing_keys"], "too many": surplus, "wrong shape": found["mismatched_keys"]}
    if any(wrong.values()):
        said = ", ".join(f"{what} {sorted(map(str, names))[:3]}" for what, names in wrong.items() if names)
        raise CheckpointError(f"{folder}: the weights are not those of a π0 of its config.json: {said}")
    return model


def _require_fit(stated: Stated, config: Any, tokenizer: Any, file: Path, folder: Path) -> None:
    """Refuse a file that states what the model cannot be, with all differences."""
    vlm, size = config.vlm_config, config.vlm_config.vision_config.image_size
    vocabulary = vlm.text_config.vocab_size
    largest = max((number for number in tokenizer.get_vocab().values() if number != vlm.image_token_id), default=0)
    lines = [
        f"{name}: {len(dimensions)} dimensions, more than {most} (max_{name}_dim)"
        for name, dimensions, most in (
            ("state", stated.state, config.max_state_dim),
            ("action", stated.action, config.max_action_dim),
        )
        if len(dimensions) > most
    ]
    if stated.horizon != config.chunk_size:
        lines.append(f"horizon: {stated.horizon} ≠ {config.chunk_size} (chunk_size)")
    if tuple(stated.image_size) != (size, size):
        lines.append(f"image_size: {list(stated.image_size)} ≠ [{size}, {size}] (image_size)")
    if largest >= vocabulary:
        lines.append(f"tokenizer: ids up to {largest}, and embeddings for those below {vocabulary} (vocab_size)")
    if lines:
        raise ContractError(f"contract {file} does not fit the model in {folder}: {'; '.join(lines)}")
