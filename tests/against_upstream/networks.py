"""trellis2's models and samplers beside trellis_pipeline's, with the same random weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from harness import Finding, Setting, case, relative
from trellis_pipeline import models, sampling
from trellis_pipeline.sparse import SparseTensor

LIMIT = 2e-4


def _order(coords: torch.Tensor) -> torch.Tensor:
    key = coords[:, 0].long()
    for axis in range(1, 4):
        key = key * 4096 + coords[:, axis]
    return key.argsort()


def _gap(ours: SparseTensor, theirs: Any) -> float:
    """Relative difference of two sparse tensors whose voxels must be the same; not a number where they are not."""
    a, b = _order(ours.coords), _order(theirs.coords)
    if ours.coords.shape != theirs.coords.shape or not torch.equal(ours.coords[a].int(), theirs.coords[b].int()):
        return float("nan")
    return relative(ours.feats[a], theirs.feats[b])


def _pair(setting: Setting, name: str, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """Ours and theirs with equal weights, none of which is zero."""
    upstream = importlib.import_module("trellis2.models")
    theirs = getattr(upstream, name)(**arguments).to(setting.device).eval()
    torch.manual_seed(setting.seed)
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if parameter.dim() > 1 and "gamma" not in key:
                parameter.normal_(std=1.5 / math.sqrt(parameter[0].numel()))
            elif "weight" in key or "gamma" in key:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.1)
    ours = models.from_config({"name": name, "args": arguments}).to(setting.device).eval()
    state = {k: v for k, v in theirs.state_dict().items() if "rope_phases" not in k and "pos_emb" not in k}
    ours.load_state_dict(state, strict=True)
    return ours, theirs


def _voxels(setting: Setting, side: int, batch: int) -> torch.Tensor:
    """int32 [N, 4], each entry's rows together; neighbours are common."""
    rows = []
    for entry in range(batch):
        count = int(setting.random.integers(1, 60))
        at = np.clip(side / 2 + setting.random.normal(size=(count, 3)) * side / 5, 0, side - 1).astype(np.int32)
        at = np.unique(at, axis=0)
        rows.append(np.concatenate([np.full((len(at), 1), entry), at], 1))
    return setting.tensor(np.concatenate(rows).astype(np.int32))


def _normal(setting: Setting, *shape: int) -> torch.Tensor:
    return setting.tensor(setting.random.normal(size=shape).astype(np.float32))


def _sparse(feats: torch.Tensor, coords: torch.Tensor) -> Any:
    return importlib.import_module("trellis2.modules.sparse").SparseTensor(feats, coords)


def _flow_arguments(setting: Setting) -> dict[str, Any]:
    heads, head = int(setting.one_of(1, 2, 3)), int(setting.one_of(12, 16, 32, 64))
    arguments = {
        "resolution": int(setting.one_of(2, 4, 5)),
        "in_channels": int(setting.one_of(4, 8)),
        "out_channels": int(setting.one_of(4, 8)),
        "model_channels": heads * head,
        "cond_channels": int(setting.one_of(24, 48)),
        "num_blocks": int(setting.one_of(1, 2, 3)),
        "mlp_ratio": float(setting.one_of(4, 5.3334, 2)),
        "pe_mode": setting.one_of("rope", "rope", "ape"),
        "share_mod": bool(setting.chance(0.5)),
        "initialization": setting.one_of("scaled", "vanilla"),
        "qk_rms_norm": bool(setting.chance(0.5)),
        "qk_rms_norm_cross": bool(setting.chance(0.5)),
    }
    if setting.chance(0.5):
        arguments["num_heads"] = heads
    else:
        arguments["num_head_channels"] = head
    if setting.chance(0.2):
        arguments["rope_freq"] = (1.0, 1000.0)
    return arguments


@case("trellis2")
@torch.no_grad()
def structure_flow(setting: Setting) -> Iterator[Finding]:
    """SparseStructureFlowModel: heads, norms, modulation, positions, resolutions and batches of every kind."""
    arguments = _flow_arguments(setting)
    ours, theirs = _pair(setting, "SparseStructureFlowModel", arguments)
    batch, r = int(setting.one_of(1, 2, 3)), arguments["resolution"]
    x = _normal(setting, batch, arguments["in_channels"], r, r, r)
    t = setting.tensor(setting.random.uniform(0, 1000, batch).astype(np.float32))
    cond = _normal(setting, batch, int(setting.one_of(1, 7, 30)), arguments["cond_channels"])
    said = f"seed {setting.seed}: {arguments}, batch {batch}"
    yield Finding(said, f"velocity, {arguments['pe_mode']}", relative(ours(x, t, cond), theirs(x, t, cond)), LIMIT)


@case("trellis2")
@torch.no_grad()
def slat_flow(setting: Setting) -> Iterator[Finding]:
    """SLatFlowModel, with and without concat_cond."""
    arguments = _flow_arguments(setting)
    ours, theirs = _pair(setting, setting.one_of("SLatFlowModel", "ElasticSLatFlowModel"), arguments)
    batch = int(setting.one_of(1, 2, 3))
    coords = _voxels(setting, int(setting.one_of(8, 32, 64)), batch)
    first = arguments["in_channels"] // 2 if setting.chance(0.5) else arguments["in_channels"]
    feats = _normal(setting, len(coords), arguments["in_channels"])
    t = setting.tensor(setting.random.uniform(0, 1000, batch).astype(np.float32))
    cond = _normal(setting, batch, int(setting.one_of(1, 7, 30)), arguments["cond_channels"])
    given, known = {}, {}
    if first < arguments["in_channels"]:
        given = {"concat_cond": SparseTensor(feats[:, first:].contiguous(), coords)}
        known = {"concat_cond": _sparse(feats[:, first:].contiguous(), coords)}
    x = feats[:, :first].contiguous()
    said = f"seed {setting.seed}: {arguments}, {len(coords)} voxels, batch {batch}, {list(given)}"
    gap = _gap(ours(SparseTensor(x, coords), t, cond, **given), theirs(_sparse(x, coords), t, cond, **known))
    yield Finding(said, f"velocity, {arguments['pe_mode']}", gap, LIMIT)


@case("trellis2", share=0.5)
@torch.no_grad()
def half_precision(setting: Setting) -> Iterator[Finding]:
    """Flow models and the texture decoder in the precision of the public files: no farther from float32 than theirs."""
    dtype = setting.one_of("bfloat16", "float16")
    kind, batch = getattr(torch, dtype), int(setting.one_of(1, 2))
    upstream = importlib.import_module("trellis2.models")

    def three(name: str, arguments: dict[str, Any], half: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Ours and theirs in half precision, and theirs in float32, with weights that half precision can hold."""
        ours, theirs = _pair(setting, name, {**arguments, **half})
        state = {k: v.to(kind).to(v.dtype) for k, v in theirs.state_dict().items() if v.is_floating_point()}
        exact = getattr(upstream, name)(**arguments).to(setting.device).eval()
        theirs.load_state_dict(state, strict=False)
        exact.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
        own = {k: v for k, v in state.items() if "rope_phases" not in k and "pos_emb" not in k}
        ours.load_state_dict(own)
        return ours, theirs, exact

    def worse(ours: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> float:
        return relative(ours, exact) / max(relative(theirs, exact), 1e-5)

    # Wide enough that the rounding of many channels is compared, and not one chance of a few.
    flow = {**_flow_arguments(setting), "num_blocks": 4, "model_channels": 96, "num_heads": 3}
    ours, theirs, exact = three("SLatFlowModel", flow, {"dtype": dtype})
    coords = _voxels(setting, 32, batch)
    x, t = _normal(setting, len(coords), flow["in_channels"]), setting.tensor(np.float32([300.0, 700.0][:batch]))
    cond = _normal(setting, batch, 9, flow["cond_channels"])
    known = [m(_sparse(x, coords), t, cond).feats for m in (theirs, exact)]
    said = f"seed {setting.seed}: {flow}, {len(coords)} voxels, batch {batch}"
    yield Finding(
        said, f"flow, {dtype}: error over theirs", worse(ours(SparseTensor(x, coords), t, cond).feats, *known), 2
    )

    levels = _levels(setting)
    up = {"up_block_type": ["SparseResBlockC2S3d"] * (len(levels["model_channels"]) - 1)}
    shape = _pair(setting, "FlexiDualGridVaeDecoder", {"resolution": 64, **levels, **up})[0]
    kind = torch.float16
    ours, theirs, exact = three(
        "SparseUnetVaeDecoder", {"out_channels": 6, "pred_subdiv": False, **levels, **up}, {"use_fp16": True}
    )
    coords = _voxels(setting, 8, batch)
    z = _normal(setting, len(coords), levels["latent_channels"])
    logits = shape(SparseTensor(z, coords))[1]
    guides = [_sparse(s.feats, s.coords) for s in logits]
    known = [m(_sparse(z, coords), guide_subs=guides).feats for m in (theirs, exact)]
    said = f"seed {setting.seed}: {levels}, {len(coords)} voxels, batch {batch}"
    gap = worse(ours(SparseTensor(z, coords), logits).feats, *known)
    yield Finding(said, "texture decoder, float16: error over theirs", gap, 2)


@case("trellis2")
@torch.no_grad()
def structure_autoencoder(setting: Setting) -> Iterator[Finding]:
    """SparseStructureEncoder and -Decoder, both norms of the last layer."""
    norm = setting.one_of("layer", "group")
    channels = [int(c) for c in setting.one_of([32], [64, 32], [32, 64, 32], [32, 32, 64])]
    blocks = {"num_res_blocks": int(setting.one_of(1, 2)), "num_res_blocks_middle": int(setting.one_of(0, 1, 2))}
    if blocks["num_res_blocks_middle"] == 0 and len(channels) == 1:
        blocks["num_res_blocks_middle"] = 1
    common = {"latent_channels": int(setting.one_of(4, 8)), "channels": channels, "norm_type": norm, **blocks}
    batch, side = int(setting.one_of(1, 2)), int(setting.one_of(8, 16))
    said = f"seed {setting.seed}: {common}, batch {batch}, side {side}"
    ours, theirs = _pair(setting, "SparseStructureDecoder", {"out_channels": int(setting.one_of(1, 2)), **common})
    z = _normal(setting, batch, common["latent_channels"], side, side, side)
    yield Finding(said, f"decoder, {norm}", relative(ours(z), theirs(z)), LIMIT)
    ours, theirs = _pair(setting, "SparseStructureEncoder", {"in_channels": 1, **common})
    x = (_normal(setting, batch, 1, side, side, side) > 0).float()
    yield Finding(said, f"encoder, {norm}", relative(ours(x), theirs(x)), LIMIT)


def _levels(setting: Setting) -> dict[str, Any]:
    """Arguments that all sparse autoencoders share, coarse to fine; the blocks are mostly those of the public checkpoints."""
    count = int(setting.one_of(1, 2, 3))
    widths = [int(w) for w in setting.one_of([64, 32, 16], [32, 32, 32], [64, 64, 8])][-count:]
    return {
        "model_channels": widths,
        "latent_channels": int(setting.one_of(4, 8)),
        "num_blocks": [int(setting.one_of(0, 1, 2)) for _ in widths],
        "block_type": [setting.one_of(*["SparseConvNeXtBlock3d"] * 4, "SparseResBlock3d") for _ in range(count)],
        "block_args": [{"use_checkpoint": bool(setting.chance(0.3))} for _ in widths],
    }


@case("trellis2")
@torch.no_grad()
def autoencoders(setting: Setting) -> Iterator[Finding]:
    """Shape and texture decoders and the shape encoder, batches of one and two."""
    arguments = _levels(setting)
    count, batch = len(arguments["model_channels"]), int(setting.one_of(1, 2))
    coords = _voxels(setting, int(setting.one_of(4, 8)), batch)
    z = _normal(setting, len(coords), arguments["latent_channels"])
    said = f"seed {setting.seed}: {arguments}, {len(coords)} voxels, batch {batch}"
    kind = setting.one_of("SparseResBlockC2S3d", "SparseResBlockC2S3d", "SparseResBlockUpsample3d")
    up = {"up_block_type": [kind] * (count - 1)}
    said = f"{said}, {kind}"
    ours, theirs = _pair(setting, "FlexiDualGridVaeDecoder", {"resolution": 64, **arguments, **up})
    h, logits = ours(SparseTensor(z, coords))
    decoder = importlib.import_module("trellis2.models.sc_vaes.sparse_unet_vae").SparseUnetVaeDecoder
    known, subdivisions = decoder.forward(theirs, _sparse(z, coords), return_subs=True)
    yield Finding(said, "shape decoder", _gap(h, known), LIMIT)
    for own, other in zip(logits, subdivisions, strict=True):
        yield Finding(said, "subdivision logits", _gap(own, other), LIMIT)
    if count > 1:
        fine = ours.upsample(SparseTensor(z, coords), count - 1)
        apart = {tuple(r) for r in fine.tolist()} ^ {
            tuple(r) for r in theirs.upsample(_sparse(z, coords), count - 1).tolist()
        }
        yield Finding(said, "upsample, voxels apart", len(apart), 0)
    texture = {"out_channels": 6, "pred_subdiv": False, **arguments, **up}
    z = _normal(setting, len(coords), arguments["latent_channels"])
    if count == 1 or kind == "SparseResBlockC2S3d":  # theirs of the other kind takes no subdivisions
        ours, theirs = _pair(setting, "SparseUnetVaeDecoder", texture)
        gap = _gap(ours(SparseTensor(z, coords), logits), theirs(_sparse(z, coords), guide_subs=subdivisions))
        yield Finding(said, "texture decoder", gap, LIMIT)
    ours, theirs = _pair(setting, "SparseUnetVaeDecoder", {**texture, "pred_subdiv": True})
    gap = _gap(ours(SparseTensor(z, coords)), theirs(_sparse(z, coords)))
    yield Finding(said, "texture decoder that predicts its voxels", gap, LIMIT)
    arguments = _levels(setting)
    count = len(arguments["model_channels"])
    arguments["model_channels"].reverse()
    kind = setting.one_of("SparseResBlockS2C3d", "SparseResBlockS2C3d", "SparseResBlockDownsample3d")
    down = {"down_block_type": [kind] * (count - 1)}
    ours, theirs = _pair(setting, "FlexiDualGridVaeEncoder", {**arguments, **down})
    coords = _voxels(setting, 16, batch)
    vertices, flags = _normal(setting, len(coords), 3), (_normal(setting, len(coords), 3) > 0).float()
    mean, logvar = ours(SparseTensor(vertices, coords), SparseTensor(flags, coords))
    z, known_mean, known_logvar = theirs(_sparse(vertices, coords), _sparse(flags, coords), return_raw=True)
    said = f"seed {setting.seed}: {arguments}, {len(coords)} voxels, batch {batch}"
    yield Finding(said, "shape encoder's mean", _gap(mean, z.replace(known_mean)), LIMIT)
    yield Finding(said, "shape encoder's logvar", _gap(logvar, z.replace(known_logvar)), LIMIT)


@case("trellis2")
@torch.no_grad()
def samplers(setting: Setting) -> Iterator[Finding]:
    """FlowEulerGuidanceIntervalSampler over dense and sparse latents."""
    options = {
        "steps": int(setting.one_of(1, 4, 10, 12, 25)),
        "rescale_t": float(setting.one_of(1, 3, 5)),
        "guidance_strength": float(setting.one_of(7.5, 3, 1, 0, 0.5, -1)),
        "guidance_rescale": float(setting.one_of(0, 0.5, 0.7, 1)),
        "guidance_interval": setting.one_of((0.6, 1.0), (0.0, 1.0), (0.5, 0.9), (0.2, 0.3), (0.1, 0.7)),
    }
    sigma = float(setting.one_of(1e-5, 1e-2))
    upstream = importlib.import_module("trellis2.pipelines.samplers").FlowEulerGuidanceIntervalSampler(sigma)
    arguments = {**_flow_arguments(setting), "pe_mode": "rope", "resolution": 3, "rope_freq": (1.0, 10000.0)}
    arguments["out_channels"] = arguments["in_channels"]
    batch = int(setting.one_of(1, 2))
    cond, without = (_normal(setting, batch, 5, arguments["cond_channels"]) for _ in range(2))
    said = f"seed {setting.seed}: {options}, sigma_min {sigma}, batch {batch}"
    kind = "guided"
    if options["guidance_strength"] == 0:
        kind = "strength 0, rescaled" if options["guidance_rescale"] else "strength 0"
    ours, theirs = _pair(setting, "SparseStructureFlowModel", arguments)
    noise = _normal(setting, batch, arguments["in_channels"], 3, 3, 3)
    known = upstream.sample(theirs, noise, cond, without, verbose=False, **options).samples
    own = sampling.sample_flow(ours, noise, cond=cond, neg_cond=without, sigma_min=sigma, **options)
    yield Finding(said, f"dense, {kind}", relative(own, known), 2e-3)
    ours, theirs = _pair(setting, "SLatFlowModel", arguments)
    coords = _voxels(setting, 8, batch)
    feats = _normal(setting, len(coords), arguments["in_channels"])
    known = upstream.sample(theirs, _sparse(feats, coords), cond, without, verbose=False, **options).samples
    start = SparseTensor(feats, coords)
    own = sampling.sample_flow(ours, start, cond=cond, neg_cond=without, sigma_min=sigma, **options)
    yield Finding(said, f"sparse, {kind}", _gap(own, known), 2e-3)
