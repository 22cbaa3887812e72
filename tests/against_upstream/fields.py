"""flex_gemm beside trellis_sparse: neighbour maps, submanifold convolution with gradients, sampling, curves."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import trellis_sparse as sparse
from harness import Finding, Setting, case, relative, share

LIMITS = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}


def _voxels(setting: Setting, least: int = 1) -> tuple[torch.Tensor, tuple[int, int, int, int], str]:
    """int32 [N, 4] without repeats in random order, batch and grid size, description."""
    shape = (int(setting.one_of(1, 1, 2, 3)), *(int(s) for s in setting.random.integers(2, 40, 3)))
    if setting.chance(0.2):
        shape = (shape[0], 1024, 1024, 1024)
    count = int(setting.one_of(1, 7, 64, 65, 500, 4000))
    if setting.chance(0.5):  # a clump, so that there are neighbours
        middle = np.array(shape[1:]) * setting.random.random(3)
        at = middle + setting.random.normal(size=(max(count, least), 3)) * 4
    else:
        at = setting.random.random((max(count, least), 3)) * shape[1:]
    at = np.clip(np.floor(at), 0, np.array(shape[1:]) - 1)
    if setting.chance(0.3):
        at[0], at[-1] = 0, np.array(shape[1:]) - 1
    rows = np.concatenate([setting.random.integers(0, shape[0], (len(at), 1)), at], 1).astype(np.int32)
    rows = np.unique(rows, axis=0)
    coords = setting.tensor(rows[setting.random.permutation(len(rows))])
    return coords, shape, f"seed {setting.seed}: {len(rows)} voxels in {shape}"


def _kernel(setting: Setting) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    size = setting.one_of((3, 3, 3), (3, 3, 3), (1, 1, 1), (3, 1, 3), (1, 3, 5), (5, 3, 1), (1, 1, 7), (5, 5, 5))
    return size, setting.one_of((1, 1, 1), (1, 1, 1), (2, 2, 2), (3, 3, 3), (1, 2, 3))


def _algorithm(setting: Setting, size: tuple[int, int, int]) -> str:
    """One of theirs that takes the kernel, which is set from here on: the masked ones take up to 32 taps."""
    spconv = setting.modules["flex_gemm"].ops.spconv
    chosen = ["explicit_gemm", "implicit_gemm", "implicit_gemm_splitk"]
    if math.prod(size) <= 32:
        chosen += ["masked_implicit_gemm", "masked_implicit_gemm_splitk", "masked_implicit_gemm_splitk"]
    spconv.set_algorithm(name := str(setting.one_of(*chosen)))
    return name


@case("flex_gemm")
def neighbor_map(setting: Setting) -> Iterator[Finding]:
    """The map of a submanifold convolution: equal integers."""
    coords, shape, said = _voxels(setting)
    size, dilation = _kernel(setting)
    _algorithm(setting, size)
    function = setting.modules["flex_gemm"].ops.spconv.SubMConv3dFunction
    cache = function._compute_neighbor_cache(coords, torch.Size((shape[0], 1, *shape[1:])), size, dilation, False)
    theirs = cache["neighbor_map"].view(torch.int32)
    ours = sparse.neighbor_map(coords, shape, size, dilation)
    yield Finding(f"{said}, kernel {size}, dilation {dilation}", "entries apart", share(ours != theirs), 0)


@case("flex_gemm")
def convolution(setting: Setting) -> Iterator[Finding]:
    """sparse_submanifold_conv3d, forward and backward."""
    coords, shape, said = _voxels(setting)
    size, dilation = _kernel(setting)
    widths = (1, 3, 7, 8, 16, 24, 33, 64, 100, 128)
    inner, outer = int(setting.one_of(*widths)), int(setting.one_of(*widths))
    kind = setting.one_of(torch.float32, torch.float16, torch.bfloat16)
    said = (
        f"{said}, kernel {size}, dilation {dilation}, {inner} to {outer} channels, {kind}, {_algorithm(setting, size)}"
    )

    def given(*extent: int) -> torch.Tensor:
        return setting.tensor(setting.random.normal(size=extent).astype(np.float32)).to(kind)

    feats, weight, bias = given(len(coords), inner), given(outer, *size, inner), given(outer)
    if without := setting.chance(0.2):
        said += ", no bias"
    grad = given(len(coords), outer)
    neighbors = sparse.neighbor_map(coords, shape, size, dilation)
    spconv = setting.modules["flex_gemm"].ops.spconv

    def results(who: str) -> list[torch.Tensor]:
        exact = torch.float64 if who == "exact" else kind
        leaves = [x.to(exact, copy=True).requires_grad_() for x in (feats, weight, bias)]
        third = None if without else leaves[2]
        if who == "ours":
            out = sparse.submanifold_conv3d(leaves[0], leaves[1], third, neighbors)
        elif who == "exact":
            padded = torch.cat([leaves[0], leaves[0].new_zeros(1, inner)])
            out = padded[neighbors.long()].flatten(1) @ leaves[1].flatten(1, 3).flatten(1).T
            out = out if third is None else out + third
        else:
            out, _ = spconv.sparse_submanifold_conv3d(
                leaves[0], coords, torch.Size((shape[0], inner, *shape[1:])), leaves[1], third, dilation=dilation
            )
        out.backward(grad.to(exact))
        return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    known, ours = results("exact"), results("ours")
    try:
        theirs = results("theirs")
    except Exception as error:  # Triton does not compile theirs for every number of channels
        why = " ".join(str(error).split())[:90]
        yield Finding(said, f"theirs raises {type(error).__name__}: {why}", 1, float("inf"))
        theirs = known
    for i, name in enumerate(("output", "grad of feats", "grad of weight", "grad of bias")[: len(known)]):
        off = relative(theirs[i], known[i])
        yield Finding(
            said, f"{name}, {str(kind)[6:]}: ours off the sum in float64", relative(ours[i], known[i]), LIMITS[kind]
        )
        if off <= LIMITS[kind]:
            yield Finding(said, f"{name}, {str(kind)[6:]}", relative(ours[i], theirs[i]), 2 * LIMITS[kind])
        else:
            yield Finding(said, f"{name}, {str(kind)[6:]}: theirs off the sum in float64", off, float("inf"))


@case("flex_gemm", share=0.5)
def strided_convolution(setting: Setting) -> Iterator[Finding]:
    """sparse_conv3d, which no model of TRELLIS.2 calls, beside that of trellis_compat: outputs' places and gradients."""
    from trellis_compat.modules.flex_gemm.ops import _strided

    coords, shape, said = _voxels(setting)
    size = setting.one_of((2, 2, 2), (3, 3, 3), (1, 3, 3), (3, 1, 2))
    steps = {
        "stride": setting.one_of((1, 1, 1), (2, 2, 2), (1, 2, 3)),
        "padding": setting.one_of((0, 0, 0), (1, 1, 1), (1, 0, 2)),
        "dilation": setting.one_of((1, 1, 1), (1, 1, 1), (2, 2, 2)),
    }
    said = f"{said}, kernel {size}, {steps}, {_algorithm(setting, size)}"
    if any(
        s + 2 * p < d * (k - 1) + 1
        for s, p, d, k in zip(shape[1:], steps["padding"], steps["dilation"], size, strict=True)
    ):
        return
    inner, outer = int(setting.one_of(4, 16, 33)), int(setting.one_of(8, 32))

    def given(*extent: int) -> torch.Tensor:
        return setting.tensor(setting.random.normal(size=extent).astype(np.float32))

    feats, weight, bias = given(len(coords), inner), given(outer, *size, inner), given(outer)
    results = []
    for function in (_strided.sparse_conv3d, setting.modules["flex_gemm"].ops.spconv.sparse_conv3d):
        leaves = [x.clone().requires_grad_() for x in (feats, weight, bias)]
        size_of_input = torch.Size((shape[0], inner, *shape[1:]))
        out, at, _ = function(leaves[0], coords, size_of_input, leaves[1], leaves[2], **steps)
        out.backward(torch.sin(torch.arange(outer, device=out.device) + at.sum(1, keepdim=True)))
        key = at[:, 0].long()
        for axis in range(1, 4):
            key = key * 4096 + at[:, axis]
        order = key.argsort()
        results.append([at[order], out.detach()[order], *(leaf.grad for leaf in leaves)])
    same = results[0][0].shape == results[1][0].shape and torch.equal(*(r[0].int() for r in results))
    yield Finding(said, "outputs at other places", float(not same), 0)
    for i, name in enumerate(("output", "grad of feats", "grad of weight", "grad of bias"), start=1):
        yield Finding(said, name, relative(results[0][i], results[1][i]), 1e-5)


@case("flex_gemm")
def sampling(setting: Setting) -> Iterator[Finding]:
    """grid_sample_3d: points in voxels, on their borders and centres, on the border of the grid and beyond it."""
    coords, shape, said = _voxels(setting, least=50)
    channels, extent = int(setting.one_of(1, 3, 6, 32)), torch.tensor(shape[1:], device=coords.device)
    feats = setting.tensor(setting.random.normal(size=(len(coords), channels)).astype(np.float32))
    near = coords[setting.tensor(setting.random.integers(0, len(coords), (shape[0], 300)))][..., 1:].float()
    noise = setting.tensor(setting.random.normal(size=(*near.shape[:2], 3)).astype(np.float32))
    half = setting.tensor(setting.random.integers(-2, 5, (*near.shape[:2], 3)).astype(np.float32)) / 2
    on_border = torch.where(half > 1, extent.float(), torch.where(half < 0, torch.zeros_like(near), near + half))
    places = {
        "near voxels": near + noise,
        "on corners and centres": near + half,
        "on the grid's border": on_border,
        "beyond the grid": near + noise * 3 * extent,
    }
    for place, points in places.items():
        inside = ((points >= 0) & (points <= extent)).all(-1)
        if place != "beyond the grid":
            points = points.clamp(torch.zeros_like(extent), extent)
            inside = inside | True
        for mode in ("trilinear", "nearest"):
            table = feats.clone().requires_grad_()
            ours = sparse.grid_sample_3d(table, coords, shape, points.contiguous(), mode)
            other = feats.clone().requires_grad_()
            theirs = setting.modules["flex_gemm"].ops.grid_sample.grid_sample_3d(
                other, coords, torch.Size((shape[0], channels, *shape[1:])), points.contiguous(), mode
            )
            yield Finding(said, f"{mode}, {place}", relative(ours, theirs), 1e-4)
            if place == "near voxels":
                back = torch.randn_like(ours)
                (ours * back).sum().backward()
                (theirs * back).sum().backward()
                assert table.grad is not None and other.grad is not None
                yield Finding(said, f"{mode}, gradient of feats", relative(table.grad, other.grad), 1e-4)


@case("flex_gemm")
def serialization(setting: Setting) -> Iterator[Finding]:
    """ops.serialize.encode_seq: as many bits as the largest side needs."""
    coords, shape, said = _voxels(setting)
    bits = max(1, (max(shape[1:]) - 1).bit_length())
    module, size = setting.modules["flex_gemm"].ops.serialize, torch.Size((1, 1, *shape[1:]))
    coords = torch.cat([torch.zeros_like(coords[:, :1]), coords[:, 1:]], 1).contiguous()
    for theirs, ours in (("z_order", "morton"), ("hilbert", "hilbert")):
        codes = module.encode_seq(coords, size, theirs)
        own = sparse.encode_order(coords[:, 1:].contiguous(), ours, bits=bits)
        yield Finding(said, f"{ours}, codes apart", share(own != codes.long()), 0)


@case(share=0.1)
def nothing(setting: Setting) -> Iterator[Finding]:
    """No voxels, or no points: shapes of the contract."""
    none = torch.zeros(0, 4, dtype=torch.int32, device=setting.device)
    neighbors = sparse.neighbor_map(none, (1, 8, 8, 8))
    weight = torch.randn(5, 3, 3, 3, 4, device=setting.device, requires_grad=True)
    out = sparse.submanifold_conv3d(torch.zeros(0, 4, device=setting.device), weight, None, neighbors)
    out.sum().backward()
    sampled = sparse.grid_sample_3d(
        torch.zeros(0, 4, device=setting.device), none, (1, 8, 8, 8), torch.rand(1, 3, 3, device=setting.device)
    )
    right = neighbors.shape == (0, 27) and out.shape == (0, 5) and sampled.shape == (1, 3, 4) and not sampled.any()
    yield Finding(f"seed {setting.seed}", "shapes", float(not right), 0)
