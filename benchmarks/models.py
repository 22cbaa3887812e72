"""Times the models of the public checkpoints, with random weights: ``python benchmarks/models.py --help``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import trellis_sparse
from heading import heading
from sparse import pyramid
from trellis_pipeline import attention
from trellis_pipeline.models import from_config, replay
from trellis_pipeline.sparse import SparseTensor

# The public configurations; see docs/architecture.md for where they come from.
FLOW = {
    "model_channels": 1536, "cond_channels": 1024, "num_blocks": 30, "num_heads": 12, "mlp_ratio": 5.3334,
    "pe_mode": "rope", "share_mod": True, "initialization": "scaled", "qk_rms_norm": True,
    "qk_rms_norm_cross": True, "dtype": "bfloat16",
}  # fmt: skip
STRUCTURE = {"resolution": 16, "in_channels": 8, "out_channels": 8, **FLOW}
LATENT = {"resolution": 64, "in_channels": 32, "out_channels": 32, **FLOW}
DECODER = {
    "out_channels": 6, "model_channels": [1024, 512, 256, 128, 64], "latent_channels": 32,
    "num_blocks": [4, 16, 8, 4, 0], "block_type": ["SparseConvNeXtBlock3d"] * 5,
    "up_block_type": ["SparseResBlockC2S3d"] * 4, "block_args": [{"use_checkpoint": False}] * 5,
    "use_fp16": True, "pred_subdiv": False,
}  # fmt: skip
H100_BF16 = 989e12


def made(name: str, args: dict[str, Any], device: torch.device, seed: int = 0) -> Any:
    """A model with random weights of the size that keeps activations near 1, made on the device."""
    with torch.device("meta"):
        model = from_config({"name": name, "args": args})
    model = model.to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(seed)
    for key, p in model.named_parameters():
        with torch.no_grad():
            if p.dim() > 1:
                p.normal_(0, (p[0].numel()) ** -0.5, generator=generator)
            else:
                p.fill_(1.0 if "norm" in key and key.endswith("weight") else 0.0)
            if key.endswith("gamma"):
                p.fill_(1.0)
    return model


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """Median ms between device events, peak GiB, and median ms of the host's part alone."""
    import statistics
    import time

    for _ in range(3):
        call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    device, host = [], []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin = time.perf_counter()
        start.record()
        call()
        end.record()
        host.append((time.perf_counter() - begin) * 1000)
        end.synchronize()
        device.append(start.elapsed_time(end))
    return statistics.median(device), torch.cuda.max_memory_allocated() / 2**30, statistics.median(host)


def flow_flops(tokens: int, features: int) -> float:
    """Operations of one forward pass with cached cross-attention keys and values: products and attention alone."""
    width, hidden, blocks = 1536, 8192, 30
    products = 2 * tokens * (3 * width * width + 3 * width * width + 2 * width * hidden)
    return blocks * (products + 4 * tokens * (tokens + features) * width)


def surface(tokens: int, device: torch.device) -> torch.Tensor:
    """`tokens` voxels int32 [N, 4] of a 64^3 grid, in ascending order."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randperm(64**3, generator=generator)[:tokens].sort().values
    xyz = torch.stack([flat // 4096, flat // 64 % 64, flat % 64], 1)
    return torch.cat([torch.zeros_like(xyz[:, :1]), xyz], 1).int().to(device)


def flows(device: torch.device, repeats: int, known: dict[str, float], features: list[int]) -> list[dict[str, Any]]:
    rows = []
    model = made("SparseStructureFlowModel", STRUCTURE, device)
    t = torch.full((1,), 500.0, device=device)
    for length in features:
        with torch.no_grad():
            condition = model.encode_condition(torch.randn(1, length, 1024, device=device))
            dense = torch.randn(1, 8, 16, 16, 16, device=device)
            run = replay.Replay(model) if replay.pays(dense) else model
            ms, peak, host = timed(partial(run, dense, t, condition), repeats)
        rows.append(row("structure flow", 4096, length, ms, peak, host, known.get("ss_flow_forward_4096tok_ms")))
    del model
    model = made("SLatFlowModel", LATENT, device)
    for tokens, key in ((2368, "512_2368tok"), (9825, "1024_9825tok"), (22255, "1536_22255tok")):
        for length in features:
            with torch.no_grad():
                condition = model.encode_condition(torch.randn(1, length, 1024, device=device))
                x = SparseTensor(torch.randn(tokens, 32, device=device), surface(tokens, device))
                run = replay.Replay(model) if replay.pays(x) else model
                ms, peak, host = timed(partial(run, x, t, condition), repeats)
            rows.append(row("SLat flow", tokens, length, ms, peak, host, known.get(f"slat_flow_forward_{key}_ms")))
    return rows


def row(
    name: str, tokens: int, features: int, ms: float, peak: float, host: float, theirs: float | None
) -> dict[str, Any]:
    flops = flow_flops(tokens, features)
    out = {
        "model": name, "tokens": tokens, "image features": features, "ms": round(ms, 2), "host ms": round(host, 2),
        "peak GiB": round(peak, 2), "TFLOP/s": round(flops / ms / 1e9, 0), "floor ms": round(flops / H100_BF16 * 1e3, 1),
    }  # fmt: skip
    if theirs and features == 1029:
        out |= {"upstream ms": round(theirs, 1), "ratio": round(theirs / ms, 2)}
    print(out, file=sys.stderr, flush=True)
    return out


def profiled(call: Callable[[], Any], lines: int) -> None:
    """Prints the kernels that take longest, and how often the host waited for the device."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        call()
        torch.cuda.synchronize()
    events = record.key_averages()
    kernels = sorted((e for e in events if e.device_type.name == "CUDA"), key=lambda e: -e.self_device_time_total)
    waits = sum(e.count for e in events if e.key in ("cudaStreamSynchronize", "cudaDeviceSynchronize"))
    launches = sum(e.count for e in events if e.key.startswith(("cudaLaunchKernel", "cuLaunchKernel")))
    total = sum(e.self_device_time_total for e in kernels) / 1000
    print(f"kernels {total:.2f} ms, {launches} launches, {waits} waits for the device")
    for e in kernels[:lines]:
        print(f"{e.self_device_time_total / 1000:9.3f} ms {e.count:6d} {e.key[:110]}")


def decoders(
    device: torch.device,
    repeats: int,
    known: dict[str, float],
    mesh: Path,
    resolutions: list[int],
    profile: int = 0,
) -> list[dict[str, Any]]:
    """The texture decoder on the real subdivisions of a mesh's voxels."""
    rows = []
    model = made("SparseUnetVaeDecoder", DECODER, device)
    for resolution in resolutions:
        levels = [level.to(device) for level in pyramid(mesh, resolution).values()]
        z = SparseTensor(torch.randn(len(levels[4]), 32, device=device), levels[4])
        subdivisions, here = [], levels[4]
        for fine, coarse in zip(reversed(levels[:4]), reversed(levels[1:]), strict=True):
            _, parent, slot = trellis_sparse.downsample(fine)
            logits = torch.full((len(coarse), 8), -1.0, device=device)
            logits[parent, slot] = 1.0
            # In the order of rows in which a shape decoder hands them on.
            place = trellis_sparse.neighbor_map(torch.cat([coarse, here]), (1, *[resolution] * 3), 1)[len(coarse) :, 0]
            logits = logits[place.long()]
            subdivisions.append(SparseTensor(logits, here))
            here = trellis_sparse.upsample(here, logits > 0).coords

        def decode(z: SparseTensor = z, s: list[SparseTensor] = subdivisions) -> SparseTensor:
            fresh = SparseTensor(z.feats, z.coords)  # neighbour maps are part of the work
            return cast("SparseTensor", model(fresh, [SparseTensor(x.feats, x.coords) for x in s]))

        with torch.no_grad():
            ms, peak, host = timed(decode, repeats)
            if profile:
                profiled(decode, profile)
        theirs, gib = known.get(f"tex_decoder_{resolution}_ms"), known.get(f"tex_decoder_peak_{resolution}_GiB")
        out = {"model": "texture decoder", "resolution": resolution, "voxels": len(levels[0]), "ms": round(ms, 2),
               "host ms": round(host, 2), "peak GiB": round(peak, 2)}  # fmt: skip
        if theirs and gib:
            out |= {"upstream ms": round(theirs, 1), "ratio": round(theirs / ms, 2),
                    "upstream GiB": gib, "memory": round(peak / gib, 2)}  # fmt: skip
        print(out, file=sys.stderr, flush=True)
        rows.append(out)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--attention", default="auto", help="a backend of trellis_pipeline.attention")
    parser.add_argument("--features", type=int, nargs="+", default=[1029], help="image features of the condition")
    parser.add_argument("--mesh", type=Path, help=".npz whose voxels the texture decoder decodes")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[512, 1024, 1536])
    parser.add_argument("--only", choices=["flows", "decoders"])
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="print the decoders' N longest kernels")
    parser.add_argument("--baseline", type=Path, help="upstream's timings, a JSON with `models`")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    known = json.loads(arguments.baseline.read_text())["models"] if arguments.baseline else {}
    print(heading(device))
    backend = attention.choose(device, torch.bfloat16, arguments.attention)
    print(f"attention: {backend.name} ({backend.reason})")
    with attention.using(backend):
        rows = run(arguments, device, known)
    for line in rows:
        print(json.dumps(line))


def run(arguments: argparse.Namespace, device: torch.device, known: dict[str, float]) -> list[dict[str, Any]]:
    rows = []
    if arguments.only != "decoders":
        rows += flows(device, arguments.repeats, known, arguments.features)
    if arguments.mesh and arguments.only != "flows":
        rows += decoders(device, arguments.repeats, known, arguments.mesh, arguments.resolutions, arguments.profile)
    return rows


if __name__ == "__main__":
    main()
