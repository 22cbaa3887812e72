"""Random checkpoints in the real layout, whose end-to-end run gives an asset: for tests (tiny) and benchmarks (full).

Weights are random, with three exceptions that make a run go through. The structure decoder blurs a constant whose
padding is zero, which gives a field that peaks in the middle of the grid, and its threshold is set for the wanted
number of voxels: a blob. Each upsampling of the shape decoder has logits in pairs of opposite signs, so that just four
of eight children stay, about what a surface has, and nearly always the four of one side, so that they are sheets. And
all edges count as crossed, so that voxels side by side make quads.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint import Checkpoint, parse
from .image.features import ImageEncoder
from .memory.residency import Weights
from .weights import NoInitialisation, build

_FLOW = {
    "resolution": 64, "in_channels": 32, "out_channels": 32, "model_channels": 1536, "cond_channels": 1024, "num_blocks": 30,
    "num_heads": 12, "mlp_ratio": 5.3334, "pe_mode": "rope", "share_mod": True, "initialization": "scaled",
    "qk_rms_norm": True, "qk_rms_norm_cross": True, "dtype": "bfloat16",
}  # fmt: skip
_DECODER = {
    "model_channels": [1024, 512, 256, 128, 64], "latent_channels": 32, "num_blocks": [4, 16, 8, 4, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 5, "up_block_type": ["SparseResBlockC2S3d"] * 4,
    "block_args": [{"use_checkpoint": False}] * 5, "use_fp16": True,
}  # fmt: skip
_STRUCTURE = {
    "out_channels": 1, "latent_channels": 8, "num_res_blocks": 2, "num_res_blocks_middle": 2, "channels": [512, 128, 32],
    "norm_type": "layer", "use_fp16": True,
}  # fmt: skip
_STEMS = {
    "sparse_structure_flow_model": "ckpts/ss_flow_img_dit_1_3B_64_bf16",
    "sparse_structure_decoder": "microsoft/TRELLIS-image-large/ckpts/ss_dec_conv3d_16l8_fp16",
    "shape_slat_flow_model_512": "ckpts/slat_flow_img2shape_dit_1_3B_512_bf16",
    "shape_slat_flow_model_1024": "ckpts/slat_flow_img2shape_dit_1_3B_1024_bf16",
    "shape_slat_decoder": "ckpts/shape_dec_next_dc_f16c32_fp16",
    "tex_slat_flow_model_512": "ckpts/slat_flow_imgshape2tex_dit_1_3B_512_bf16",
    "tex_slat_flow_model_1024": "ckpts/slat_flow_imgshape2tex_dit_1_3B_1024_bf16",
    "tex_slat_decoder": "ckpts/tex_dec_next_dc_f16c32_fp16",
}
SIZES = ("tiny", "full")
# Occupied cells of the 32^3 structure: an ordinary object has 2,400, a test is content with fewer.
_CELLS = {"tiny": 20, "full": 2400}
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_SMALL = 1 / 16  # of the structure decoder's field, which stays where SiLU is nearly linear


def public_configs(size: str = "full") -> dict[str, dict[str, Any]]:
    """The json of each role's model: "full" as the public checkpoint has it, "tiny" the same with few channels."""
    if size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    flow, decoder, structure = (copy.deepcopy(c) for c in (_FLOW, _DECODER, _STRUCTURE))
    if size == "tiny":
        flow |= {"model_channels": 48, "cond_channels": 32, "num_blocks": 2, "num_heads": 2, "dtype": "float32"}
        decoder |= {"model_channels": [32, 16, 16, 8, 8], "num_blocks": [1, 1, 0, 0, 0], "use_fp16": False}
        structure |= {"channels": [16, 8, 8, 8], "use_fp16": False}
    dense = {**flow, "resolution": 8 if size == "tiny" else 16, "in_channels": 8, "out_channels": 8}
    shape, texture = (
        {"name": "SLatFlowModel", "args": flow},
        {"name": "ElasticSLatFlowModel", "args": {**flow, "in_channels": 64}},
    )
    return {
        "sparse_structure_flow_model": {"name": "SparseStructureFlowModel", "args": dense},
        "sparse_structure_decoder": {"name": "SparseStructureDecoder", "args": structure},
        "shape_slat_flow_model_512": {"name": "SLatFlowModel", "args": {**flow, "resolution": 32}},
        "shape_slat_flow_model_1024": shape,
        "shape_slat_decoder": {"name": "FlexiDualGridVaeDecoder", "args": {**decoder, "resolution": 256}},
        "tex_slat_flow_model_512": {"name": "ElasticSLatFlowModel", "args": {**flow, "in_channels": 64, "resolution": 32}},
        "tex_slat_flow_model_1024": texture,
        "tex_slat_decoder": {
            "name": "SparseUnetVaeDecoder", "args": {**decoder, "out_channels": 6, "pred_subdiv": False},
        },
    }  # fmt: skip


def pipeline_json(size: str = "full", steps: int | None = None) -> dict[str, Any]:
    """``pipeline.json`` with the public samplers; the image encoder is the folder ``dinov3`` beside it."""

    def sampler(strength: float, rescale: float, low: float, high: float, rescale_t: float) -> dict[str, Any]:
        params = {
            "steps": steps or (2 if size == "tiny" else 12), "guidance_strength": strength, "guidance_rescale": rescale,
            "guidance_interval": [low, high], "rescale_t": rescale_t,
        }  # fmt: skip
        return {"name": "FlowEulerGuidanceIntervalSampler", "args": {"sigma_min": 1e-5}, "params": params}

    # Not 0 and 1, so that a normalisation that is forgotten shows.
    normal = {"mean": [0.1 * math.sin(i) for i in range(32)], "std": [1 + 0.1 * math.cos(i) for i in range(32)]}
    return {
        "name": "Trellis2ImageTo3DPipeline",
        "args": {
            "models": dict(_STEMS),
            "sparse_structure_sampler": sampler(7.5, 0.7, 0.6, 1.0, 5.0),
            "shape_slat_sampler": sampler(7.5, 0.5, 0.6, 1.0, 3.0),
            "tex_slat_sampler": sampler(1.0, 0.0, 0.6, 0.9, 3.0),
            "shape_slat_normalization": normal,
            "tex_slat_normalization": normal,
            "image_cond_model": {"name": "DinoV3FeatureExtractor", "args": {"model_name": "dinov3"}},
            "rembg_model": {"name": "BiRefNet", "args": {"model_name": "briaai/RMBG-2.0"}},
            "default_pipeline_type": "1024_cascade",
        },
    }  # fmt: skip


def make_checkpoint(folder: str | Path, size: str = "tiny", *, seed: int = 0, device: str = "cpu") -> Path:
    """Writes a random checkpoint in the layout of TRELLIS.2-4B, image encoder included, and returns its folder.

    Args:
        size: "tiny" (under 1 MB, float32) or "full" (the real shapes and dtypes, 17 GB).
        device: where the numbers are drawn.

    Raises:
        ValueError: another size.
        ImportError: transformers is not here, which the image encoder needs.
    """
    folder = Path(folder)
    (folder / "ckpts").mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.json").write_text(json.dumps(pipeline_json(size), indent=1))
    place = torch.device(device)
    with ThreadPoolExecutor(min(len(_STEMS), os.cpu_count() or 1)) as models:
        writing = []
        for role, config in public_configs(size).items():
            stem = folder / "ckpts" / _STEMS[role].rpartition("/")[2]
            stem.with_suffix(".json").write_text(json.dumps(config))
            writing.append(models.submit(_write, stem.with_suffix(".safetensors"), size, role, config, seed, place))
        encoder = _image_encoder(size, device)
        for done in writing:
            done.result()
    encoder.save_pretrained(folder / "dinov3")
    return folder


def _write(path: Path, size: str, role: str, config: dict[str, Any], seed: int, device: torch.device) -> None:
    """A model's file, whose values go into its mapped pages as they are drawn: several models are written at a time."""
    module = build(config)
    shapes, dtypes = module.state_dict(), stored_dtypes(module)
    header, end = {}, 0
    for key, meta in shapes.items():
        start, end = end, end + meta.numel() * dtypes[key].itemsize
        header[key] = {"dtype": _NAMES[dtypes[key]], "shape": list(meta.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    pages = torch.from_file(str(path), shared=True, size=8 + len(text) + end, dtype=torch.uint8)[8 + len(text) :]
    for key, value in _values(size, role, config, seed, device):
        start, stop = header[key]["data_offsets"]
        pages[start:stop].view(dtypes[key]).view(value.shape).copy_(value)


def random_models(
    size: str, roles: Iterator[str] | list[str], *, seed: int = 0, device: str = "cpu"
) -> tuple[Checkpoint, dict[str, Weights], ImageEncoder]:
    """The same without files, for benchmarks: what `Pipeline` is made of.

    Models of equal shape share their weights, and so do the blocks of a flow and of a level of a decoder: drawing,
    and carrying from the device, 12 GB of numbers would take longer than the benchmark.
    """
    configs, shared, weights = public_configs(size), {}, {}
    for role in roles:
        config = configs[role]
        key = json.dumps({**config["args"], "resolution": 0} if "Flow" in config["name"] else config, sort_keys=True)
        if key not in shared:
            shared[key] = _stored(size, role, config, seed, torch.device(device))
        weights[role] = Weights(role, build(config), shared[key])
    encoder = ImageEncoder(
        Weights.of_module("image encoder", _image_encoder(size, device, alike=True).eval().requires_grad_(False))
    )
    return parse("random", None, pipeline_json(size), Path("pipeline.json")), weights, encoder


def _image_encoder(size: str, device: str, *, alike: bool = False) -> Any:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = DINOv3ViTConfig(**(small if size == "tiny" else large), num_register_tokens=4, patch_size=16)
    with NoInitialisation():
        model = DINOv3ViTModel(config)
    generator = torch.Generator(device).manual_seed(0)
    drawn: dict[Any, torch.Tensor] = {}
    for key, value in model.named_parameters():
        name = _alike(key) if alike else key
        if name not in drawn:
            values = torch.randn(value.shape, generator=generator, device=device) * 0.02
            drawn[name] = (torch.ones_like(values) if "norm" in key or "scale" in key else values).cpu()
        value.data = drawn[name]
    return model


def _alike(key: str) -> str:
    """A key without the numbers of its block."""
    return re.sub(r"\d+", "#", key)


def _stored(size: str, role: str, config: dict[str, Any], seed: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Values for every key, in the dtypes in which public files store them, on the CPU.

    Keys that differ in the number of their block alone, with values of equal shape, share one tensor.
    """
    moved: dict[int, torch.Tensor] = {}
    values = dict(_values(size, role, config, seed, device, alike=True))  # all alive, so that each has its own id
    for value in values.values():
        if id(value) not in moved:
            moved[id(value)] = value.cpu().contiguous()
    return {key: moved[id(value)] for key, value in values.items()}


def _values(
    size: str, role: str, config: dict[str, Any], seed: int, device: torch.device, *, alike: bool = False
) -> Iterator[tuple[str, torch.Tensor]]:
    """Keys in their order with values on `device`, in the dtypes in which public files store them."""
    module = build(config)
    generator = torch.Generator(device).manual_seed(seed + sorted(_STEMS).index(role))
    alike = alike and config["name"] != "SparseStructureDecoder"
    special = config["name"] in ("SparseStructureDecoder", "FlexiDualGridVaeDecoder")
    dtypes = stored_dtypes(module)
    drawn: dict[Any, torch.Tensor] = {}
    tensors: dict[str, torch.Tensor] = {}
    for key, meta in module.state_dict().items():
        name = (_alike(key), tuple(meta.shape)) if alike else key
        value = drawn.get(name)
        if value is None:
            value = _draw(key, tuple(meta.shape), generator, device)
            value = value if special else value.to(dtypes[key])
            if alike:
                drawn[name] = value
        if special:
            tensors[key] = value
        else:
            yield key, value
    if config["name"] == "SparseStructureDecoder":
        _make_blob(module, tensors, device, size)
    if config["name"] == "FlexiDualGridVaeDecoder":
        _make_surface(tensors)
    converted: dict[tuple[int, torch.dtype], torch.Tensor] = {}
    for key, value in tensors.items():
        place = (id(value), dtypes[key])
        if place not in converted:
            converted[place] = value.to(dtypes[key])
        yield key, converted[place]


def stored_dtypes(module: nn.Module) -> dict[str, torch.dtype]:
    """The dtypes in which public files store a model: flows and sparse decoders wholly in their torso's, the dense
    decoder as it computes."""
    torso = getattr(module, "torso_dtype", None)
    return {k: v.dtype if torso is None else torso for k, v in module.state_dict().items()}


def _draw(key: str, shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    if key.endswith("bias"):
        return torch.zeros(shape, device=device)
    if key.endswith("gamma") or "norm" in key:
        return torch.ones(shape, device=device)
    fan_in = math.prod(shape[1:]) or 1
    scale = 0.02 if "adaLN" in key or key.endswith("modulation") else fan_in**-0.5
    return torch.randn(shape, generator=generator, device=device) * scale


def _make_surface(tensors: dict[str, torch.Tensor]) -> None:
    for key, value in tensors.items():
        if key.endswith("to_subdiv.weight"):
            value *= 0.1
            value[4:] = -value[:4].flip(0)  # child 7 - j is opposite to child j
            tensors[key.replace("weight", "bias")][:] = torch.tensor([1.0] * 4 + [-1.0] * 4, device=value.device)
    tensors["output_layer.weight"][3:6] *= 0.05
    tensors["output_layer.bias"][3:6] = 3


def _make_blob(module: nn.Module, tensors: dict[str, torch.Tensor], device: torch.device, size: str) -> None:
    """Channel 0 carries the field; channels 1 and 2 hold constants so large that norms leave the field's size alone."""

    def constant(width: int) -> float:
        return 8 * math.sqrt(width / 2)

    def box(gain: float) -> torch.Tensor:
        return torch.full((3, 3, 3), gain / 27, device=device)

    for key, value in tensors.items():
        if "norm" not in key and not key.startswith("out_layer.0"):
            value.zero_()
    width = tensors["input_layer.weight"].shape[0]
    tensors["input_layer.bias"][:3] = torch.tensor([_SMALL, constant(width), -constant(width)], device=device)
    # The latent moves the blob's surface: its differences do, as its mean would fill or empty the grid, and little, as
    # what random flows of the full size make of noise is many times as large as noise.
    gain = _SMALL * (0.3 if size == "tiny" else 0.02)
    tensors["input_layer.weight"][0, 0, 1, 1, 1] = gain
    if size != "tiny":
        tensors["input_layer.weight"][0, 0, 1, 1, 2] = -gain
    first = tensors["input_layer.weight"].shape[0]
    for key, value in tensors.items():
        if key.endswith("conv1.weight") and value.shape[0] == first:
            # The norm divides by 8 and SiLU by 2: a gain of 16 carries the field on as it is.
            value[0, 0] = box(16)
            bias = tensors[key.replace("weight", "bias")]
            bias[1], bias[2] = constant(first), -constant(first)
            tensors[key.replace("conv1", "conv2")][0, 0] = box(16)
        if key.endswith(".conv.weight"):  # an upsampling: eight children of each channel
            fine = value.shape[0] // 8
            value.view(fine, 2, 2, 2, *value.shape[1:])[0, :, :, :, 0] = _trilinear(device)
            bias = tensors[key.replace("weight", "bias")].view(fine, 8)
            bias[1], bias[2] = constant(fine), -constant(fine)
    tensors["out_layer.2.weight"][0, 0] = box(16)
    tensors["out_layer.2.bias"][0] = -_threshold(module, tensors, device, size)


def _trilinear(device: torch.device) -> torch.Tensor:
    """Kernels [2, 2, 2, 3, 3, 3] of the eight children: three quarters of the voxel, a quarter of the next, each axis."""
    axis = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]], device=device)
    return torch.einsum("ai,bj,ck->abcijk", axis, axis, axis)


@torch.no_grad()
def _threshold(module: nn.Module, tensors: dict[str, torch.Tensor], device: torch.device, size: str) -> float:
    values = {k: v.to(device=device, dtype=module.state_dict()[k].dtype) for k, v in tensors.items()}
    side = public_configs(size)["sparse_structure_flow_model"]["args"]["resolution"]
    latent = torch.zeros(1, tensors["input_layer.weight"].shape[1], side, side, side, device=device)
    logits = torch.func.functional_call(module, values, (latent,))
    pooled = nn.functional.max_pool3d(logits.float(), logits.shape[2] // 32)
    top = pooled.flatten().sort(descending=True).values
    low, high = top[_CELLS[size] - 1 : _CELLS[size] + 1].tolist()
    middle: float = (low + high) / 2
    return middle
