"""DINOv3 as timm stores it, which needs no approval, put into transformers' model.

Keys of the file: diagnostics/trellis_doctor/facts/checkpoints/dinov3.keys.txt. timm keeps queries, keys and values in
one matrix and leaves out their biases, which are zero.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from ..errors import CheckpointError
from ..weights import NoInitialisation, read_header

_BLOCK = re.compile(r"(?:model\.)?layer\.(\d+)\.(.+)")
_INSIDE = {
    "norm1": "norm1", "norm2": "norm2", "attention.o_proj": "attn.proj", "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
}  # fmt: skip
_OUTSIDE = {
    "embeddings.cls_token": "cls_token", "embeddings.register_tokens": "reg_token",
    "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.bias": "patch_embed.proj.bias", "norm.weight": "norm.weight", "norm.bias": "norm.bias",
}  # fmt: skip
_HEAD = 64  # channels of a head in every DINOv3 ViT


def is_timm(folder: Path) -> bool:
    """Whether a folder holds DINOv3 as timm stores it."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return "dinov3" in str(config.get("architecture", "")) and (folder / "model.safetensors").is_file()


def load(path: Path) -> nn.Module:
    """transformers' DINOv3ViTModel with the values of a timm file.

    Raises:
        CheckpointError: keys or shapes that are not DINOv3's.
    """
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    header = read_header(path)
    try:
        hidden, _, patch, _ = header["patch_embed.proj.weight"].shape
        config = DINOv3ViTConfig(
            hidden_size=hidden, intermediate_size=header["blocks.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=1 + max(int(k.split(".")[1]) for k in header if k.startswith("blocks.")),
            num_attention_heads=hidden // _HEAD, num_register_tokens=header["reg_token"].shape[1], patch_size=patch,
            attn_implementation="sdpa",
        )  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: it is not DINOv3 as timm stores it: {error}") from None
    with NoInitialisation():
        model: Any = DINOv3ViTModel(config)
    left = set(header)
    values = {}
    with safe_open(path, framework="pt", device="cpu") as file:
        for key, old in model.state_dict().items():
            name, part = _source(key)
            if name is None:  # a bias that timm leaves out, or the mask token, which is for training
                values[key] = torch.zeros(old.shape)
                continue
            if name not in header:
                raise CheckpointError(f"{path}: it lacks {name}")
            value = file.get_tensor(name).float()
            value = value if part is None else value.chunk(3)[part].contiguous()
            if value.shape != old.shape:
                raise CheckpointError(f"{path}: {name} has shape {list(value.shape)}, expected {list(old.shape)}")
            values[key] = value
            left.discard(name)
    if left:
        raise CheckpointError(f"{path}: {len(left)} keys unexpected ({', '.join(sorted(left)[:3])})")
    model.load_state_dict(values, assign=True)
    return model.eval()  # type: ignore[no-any-return]


def _source(key: str) -> tuple[str | None, int | None]:
    """timm's name of a key of transformers, and which third of it; (None, None) for zeros."""
    if key == "embeddings.mask_token":
        return None, None
    found = _BLOCK.fullmatch(key)
    if not found:
        return _OUTSIDE[key], None
    block, rest = found.groups()
    for scale in ("1", "2"):
        if rest == f"layer_scale{scale}.lambda1":
            return f"blocks.{block}.gamma_{scale}", None
    owner, _, leaf = rest.rpartition(".")
    for third, name in enumerate(("q_proj", "k_proj", "v_proj")):
        if owner == f"attention.{name}":
            return (None, None) if leaf == "bias" else (f"blocks.{block}.attn.qkv.weight", third)
    return f"blocks.{block}.{_INSIDE[owner]}.{leaf}", None
