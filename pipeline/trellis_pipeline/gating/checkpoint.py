"""The fixed checkpoint of the regression session: random weights, tuned so that they give an asset that can be judged.

A random model's asset is scattered at the corners of the grid, half transparent, and coloured by noise, on which several
gates rightly fire. Three numbers are moved: the occupancy decoder's field is turned over, so that it peaks in the middle,
and cut where a given number of cells is left; its dependence on the latent is made small enough to keep them together
and large enough that another latent gives other cells; and alpha is opaque. All else is as random as it was.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..random_checkpoint import make_checkpoint
from ..weights import build

_STRUCTURE, _TEXTURE = "ss_dec_conv3d_16l8_fp16", "tex_dec_next_dc_f16c32_fp16"
_GRID, _CELLS = 32, 120
_LATENT = -1.35
"""What the structure latent of these weights is on average, whatever the seed of its noise."""


def make(folder: Path, *, seed: int = 0) -> Path:
    """Writes the checkpoint, about 1 MB, and returns its folder."""
    make_checkpoint(folder, "tiny", seed=seed)
    _rewrite(folder / "ckpts" / f"{_STRUCTURE}.safetensors", _centre)
    _rewrite(folder / "ckpts" / f"{_TEXTURE}.safetensors", _make_opaque)
    return folder


def _rewrite(path: Path, change: object) -> None:
    tensors = load_file(path)
    assert callable(change)
    change(tensors, json.loads(path.with_suffix(".json").read_text()))
    save_file(tensors, path)


@torch.no_grad()
def _centre(tensors: dict[str, torch.Tensor], config: dict[str, object]) -> None:
    tensors["input_layer.weight"][0, 0, 1, 1, 1] *= 0.05
    tensors["out_layer.2.weight"][0, 0] *= -1
    tensors["out_layer.2.bias"][0] = 0
    module = build(config)
    latent = torch.full((1, tensors["input_layer.weight"].shape[1], 8, 8, 8), _LATENT)
    logits = torch.func.functional_call(module, {k: v.float() for k, v in tensors.items()}, (latent,))
    cells = torch.nn.functional.max_pool3d(logits, logits.shape[2] // _GRID).flatten().sort(descending=True).values
    tensors["out_layer.2.bias"][0] = -float(cells[_CELLS - 1] + cells[_CELLS]) / 2


def _make_opaque(tensors: dict[str, torch.Tensor], config: dict[str, object]) -> None:
    tensors["output_layer.weight"][5] *= 0.02
    tensors["output_layer.bias"][5] = 2  # decoded as 1.5, of which 1 is opaque
    tensors["output_layer.weight"][:5] *= 0.5
