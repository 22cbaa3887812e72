"""What is computed in other ways must come out the same: measured at the public sizes, in the dtypes of the public files.

    python benchmarks/exactness.py [--mesh FILE.npz] [--resolutions 512 1536] [--steps 12]

- Decoders (float16): the finest level in 4 and in 16 parts against the whole, and streamed weights against resident ones.
- Flows (bfloat16): both passes of a guided step as one recorded batch against one after the other, by steps and over a
  whole sampling; the same with one token of zeros for "no image"; streamed weights against resident ones.

Differences are given as the largest one and as their root mean square, both as shares of the result's own spread, and in
the units that matter: voxels, edges, bytes of colour. With `--mesh` the latents lie at that mesh's voxels (each decodes to
256 voxels), without it on a slanted plane. The exit status is 1 where bits differ that must not, or where a difference
is over its tolerance (`LIMITS`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from surface import Surface, _voxels
from trellis_pipeline import attention
from trellis_pipeline.generation import unconditional
from trellis_pipeline.memory.residency import Weights
from trellis_pipeline.models import replay
from trellis_pipeline.random_checkpoint import random_models
from trellis_pipeline.sampling import sample_flow
from trellis_pipeline.sparse import SparseTensor

SHAPE, TEXTURE = "shape_slat_decoder", "tex_slat_decoder"
DENSE, SPARSE = "sparse_structure_flow_model", "shape_slat_flow_model_512"
LIMITS = {"parts": 1e-3, "pass": 2e-2, "sampling": 5e-2}
"""Root mean squares of differences as shares of the spread: of parts (float16 rounding of a convolution's sum in another
order), of one pass and of a whole sampling (bfloat16, which has 8 bits)."""
failures: list[str] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=Path, help=".npz of a mesh at whose voxels the latents lie")
    parser.add_argument("--resolutions", nargs="+", type=int, default=[512, 1536])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--size", default="full", choices=("full", "tiny"))
    arguments = parser.parse_args()
    device = torch.device("cuda", torch.cuda.current_device())
    _, weights, _ = random_models(arguments.size, [SHAPE, TEXTURE, DENSE, SPARSE], device="cuda")
    surface = Surface(arguments.mesh, device) if arguments.mesh else None
    torch.cuda.empty_cache()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    with torch.no_grad(), attention.using(attention.choose(device, weights[DENSE].module.torso_dtype)):
        for resolution in arguments.resolutions:
            decoders(weights, places(surface, resolution, device), resolution)
        flows(weights, places(surface, 512, device), arguments.steps, device)
    if failures:
        print("FAILED: " + "; ".join(failures))
    return int(bool(failures))


def places(surface: Surface | None, resolution: int, device: torch.device) -> torch.Tensor:
    """Voxels int32 [T, 4] of a latent."""
    side = resolution // 16
    if surface is not None:
        return _voxels(surface.level(resolution, side).to(device))
    x, y = (a.flatten() for a in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    return torch.stack([torch.zeros_like(x), x, y, (x + 2 * y) // 3], 1).int().to(device)


def compare(name: str, a: torch.Tensor, b: torch.Tensor, limit: float = 0.0) -> str:
    """How far b is from a; a limit of 0 asks for the same bits."""
    difference, spread = (a.float() - b.float()), float(a.float().std())
    unequal, rms = int((a != b).sum()), float(difference.square().mean().sqrt())
    if (unequal > 0) if limit == 0 else not rms <= limit * spread:
        failures.append(name)
    if not unequal:
        return "the same bits"
    largest = float(difference.abs().max())
    return (
        f"{unequal:,} of {a.numel():,} values differ, by at most {largest / spread:.1e} and {rms / spread:.1e} (rms) of the "
        f"spread"
    )


def decoders(weights: dict[str, Weights], coords: torch.Tensor, resolution: int) -> None:
    """Both decoders in parts and with streamed weights."""
    device = coords.device
    latent = torch.randn(len(coords), 32, generator=torch.Generator().manual_seed(1)).to(device)

    def decode(mode: str, parts: int) -> tuple[SparseTensor, SparseTensor]:
        results = []
        given: list[Any] = []
        for role in (SHAPE, TEXTURE):
            with weights[role].on(device, mode) as module:
                module.parts_for = lambda _: parts  # type: ignore[assignment]
                out = module(SparseTensor(latent, coords), *given)
                module.parts_for = None  # type: ignore[assignment]
            if role == SHAPE:
                out, logits = out
                given = [logits]
            results.append(out)
        return results[0], results[1]

    whole = decode("swap", 1)
    print(f"\ndecoders at {resolution}: {len(coords):,} latent voxels, {len(whole[0].coords):,} voxels")
    for mode, parts in (("swap", 4), ("swap", 16), ("stream", 1), ("stream", 16)):
        other = decode(mode, parts)
        limit = LIMITS["parts"] if parts > 1 else 0.0
        for role, a, b in zip(("shape", "texture"), whole, other, strict=True):
            if not torch.equal(a.coords, b.coords):
                failures.append(f"{role} voxels, {mode}, {parts} parts")
            print(
                f"  {mode:<6} {parts:>2} parts, {role:<7} {compare(f'{role} {mode} {parts}', a.feats, b.feats, limit)}"
            )
            print(f"      {units(role, a.feats, b.feats)}")


def units(role: str, a: torch.Tensor, b: torch.Tensor) -> str:
    """A difference of decoders' results in what becomes of them."""
    if role == "shape":
        vertices = [2 * torch.sigmoid(x[:, :3].float()) - 0.5 for x in (a, b)]
        edges = int(((a[:, 3:6] > 0) != (b[:, 3:6] > 0)).sum())
        return (
            f"vertices by at most {float((vertices[0] - vertices[1]).abs().max()):.1e} voxels; {edges:,} edges switched"
        )
    bytes_ = [((x.float() * 0.5 + 0.5).clamp(0, 1) * 255).round() for x in (a, b)]
    steps = (bytes_[0] - bytes_[1]).abs()
    return f"{int((steps > 0).sum()):,} bytes differ, by at most {int(steps.max())}"


@contextmanager
def sequential() -> Any:
    """Passes one after the other, none recorded, as more tokens have them."""
    most, replay.MOST_TOKENS = replay.MOST_TOKENS, 0
    try:
        yield
    finally:
        replay.MOST_TOKENS = most


def flows(weights: dict[str, Weights], coords: torch.Tensor, steps: int, device: torch.device) -> None:
    """Guided steps as pairs and one after the other, and with streamed weights."""
    generator = torch.Generator().manual_seed(2)
    for role in (DENSE, SPARSE):
        module: Any = weights[role].module
        features = torch.randn(1, 1029, module.cond_channels, generator=generator).to(device)
        if role == DENSE:
            shape = (1, module.in_channels, *3 * (module.resolution,))
            noise: Any = torch.randn(shape, generator=generator).to(device)
            tokens = module.resolution**3
        else:
            noise = SparseTensor(torch.randn(len(coords), module.in_channels, generator=generator).to(device), coords)
            tokens = len(coords)
        print(f"\n{role}: {tokens:,} tokens")

        def sample(
            mode: str, zeros: int, count: int, role: str = role, noise: Any = noise, cond: Any = features
        ) -> Any:
            with weights[role].on(device, mode) as flow:
                out = sample_flow(
                    flow, noise, cond=cond, neg_cond=unconditional(cond, tokens=zeros), steps=count, rescale_t=3.0,
                    guidance_strength=7.5, guidance_rescale=0.5, guidance_interval=(0.6, 1.0),
                )  # fmt: skip
            return out.feats if isinstance(out, SparseTensor) else out

        rows: list[tuple[str, Callable[[int], torch.Tensor]]] = []
        many = features.shape[1]
        rows.append(("streamed, pairs", lambda n, s=sample, m=many: s("stream", m, n)))
        rows.append(("one after the other", lambda n, s=sample, m=many: _in_sequence(s, "swap", m, n)))
        rows.append(("one after the other, one token of zeros", lambda n, s=sample: _in_sequence(s, "swap", 1, n)))
        rows.append(("streamed, one after the other, one token", lambda n, s=sample: _in_sequence(s, "stream", 1, n)))
        for count, kind in ((1, "pass"), (steps, "sampling")):
            pairs = sample("swap", many, count)
            print(f"  {count} steps; pairs, again: {compare(f'{role} again', pairs, sample('swap', many, count))}")
            for name, call in rows:
                limit = 0.0 if name == "streamed, pairs" else LIMITS[kind]
                print(f"    {name}: {compare(f'{role} {name} {count}', pairs, call(count), limit)}")


def _in_sequence(sample: Callable[..., torch.Tensor], mode: str, zeros: int, count: int) -> torch.Tensor:
    with sequential():
        return sample(mode, zeros, count)


if __name__ == "__main__":
    sys.exit(main())
