"""Tiny models that several folders of tests begin with: a recipe that trains for two steps, and a random π0."""

from typing import Any

TINY: dict[str, Any] = {
    "model": {
        "trunk": {"width": 32, "layers": 1, "heads": 2},
        "readers": {"text": {"heads": 2}, "images": {"channels": 8, "tokens": 4}},
        "head": {"bins": 16},
        "auxiliaries": {"grounding": {"bins": 8}},
    },
    "engine": "inline",
    "workers": 1,
    "batch": 4,
    "steps": 2,
    "log_steps": 1,
}


def random_pi0(gemma: dict[str, Any], *, image_token: int, image_size: int, patch_size: int, **sizes: int) -> Any:
    """Transformers' π0 of a few thousand random weights; norms are no ones, so that each weight matters."""
    import torch
    from transformers import PI0Config, PI0ForConditionalGeneration

    vision = {"model_type": "siglip_vision_model", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 1, "image_size": image_size, "patch_size": patch_size, "vision_use_head": False}
    config = PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": {"model_type": "gemma", "hidden_size": 16, **gemma},
            "vision_config": vision,
            **{"projection_dim": 16, "image_token_id": image_token},
        },
        dit_config={"model_type": "gemma", "hidden_size": 10, **gemma},
        **sizes,
    )
    torch.manual_seed(0)
    model = PI0ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model
