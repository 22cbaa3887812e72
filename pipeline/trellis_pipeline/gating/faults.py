"""Known faults of such pipelines, re-created inside ours by replacing one function of the road for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import trellis_mesh as mesh
import trellis_raster as raster
import trellis_sparse as sparse
from trellis_regression.asset import Asset
from trellis_regression.inject import Model, inject

from .. import export, generation
from ..export import asset as stages
from ..export.stages import Mesh, UnwrappedMesh, VoxelAsset

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def _dummy_cube(real: Callable[..., Any]) -> Callable[..., Any]:
    """o_voxel is missing, and what should have raised returns a cube of 12 faces."""

    def extract(asset: VoxelAsset) -> Mesh:
        low, high = asset.coords.amin(0).tolist(), (asset.coords.amax(0) + 1).tolist()
        ends = zip(low, high, strict=True)
        x, y, z = ((a / asset.grid_size - 0.5, b / asset.grid_size - 0.5) for a, b in ends)
        corner = torch.tensor([[i, j, k] for i in x for j in y for k in z], device=asset.coords.device)
        sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        faces = [t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))]
        return Mesh(corner, torch.tensor(faces, dtype=torch.int32, device=corner.device))

    return extract


def _confetti(real: Callable[..., Any]) -> Callable[..., Any]:
    """A convolution computes noise: most crossing flags are wrong, and dual vertices lie anywhere."""

    def made(*arguments: Any) -> VoxelAsset:
        asset: VoxelAsset = real(*arguments)
        random = torch.Generator().manual_seed(0)
        flags = torch.rand(asset.intersected.shape, generator=random) < 0.06
        local = torch.rand(asset.local_dual.shape, generator=random)
        return replace(asset, intersected=flags, local_dual=local)

    return made


def _blocky(real: Callable[..., Any]) -> Callable[..., Any]:
    """The remesher ignores the dual vertices and takes the middle of each cell."""

    def made(*arguments: Any) -> VoxelAsset:
        asset: VoxelAsset = real(*arguments)
        return replace(asset, local_dual=torch.full_like(asset.local_dual, 0.5))

    return made


def _stray(real: Callable[..., Any]) -> Callable[..., Any]:
    """Logits were compared in half precision: children that should have gone stay, and edges beside them count as crossed.

    Where two neighbours of the surface each keep a voxel too many, both on the same side, the edge between the four is
    flagged: a quad that sticks out, with its other three edges in the open.
    """

    def made(*arguments: Any) -> VoxelAsset:
        asset: VoxelAsset = real(*arguments)
        return _with_stray_quads(asset, 0.05)

    return made


def _with_stray_quads(asset: VoxelAsset, share: float) -> VoxelAsset:
    """As many as `share` of the voxels."""
    grid, coords = asset.grid_size, asset.coords.long()
    key = _key(coords, grid)
    known = key.sort().values
    random = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(coords), generator=random)
    along, out = torch.eye(3, dtype=torch.int64).roll(1, 0), torch.eye(3, dtype=torch.int64)
    axis = torch.randint(3, (len(coords),), generator=random)
    base = coords.cpu()[chosen]
    beside, above = base + along[axis], base + out[axis]
    corner = above + along[axis]

    def there(c: torch.Tensor) -> torch.Tensor:
        return torch.isin(_key(c, grid), known.cpu())

    fits = there(beside) & ~there(above) & ~there(corner) & (corner < grid).all(1)
    fits = fits.nonzero()[: max(1, int(share * len(coords))), 0]
    added = torch.unique(torch.cat([above[fits], corner[fits]]), dim=0)
    # The axis that the quad's plane does not hold is that of the edge its four voxels share; the lowest of them has the flag.
    third = 3 - out[axis[fits]].argmax(1) - along[axis[fits]].argmax(1)
    flags = asset.intersected.cpu().clone()
    flags[chosen[fits], third] = True
    place = asset.coords.device

    def grown(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        return torch.cat([old, new.to(place, old.dtype)])

    return replace(
        asset,
        coords=grown(asset.coords, added),
        intersected=grown(flags.to(place), torch.zeros(len(added), 3)),
        local_dual=grown(asset.local_dual, torch.full((len(added), 3), 0.5)),
        split_weight=None if asset.split_weight is None else grown(asset.split_weight, torch.ones(len(added))),
    )


def _key(coords: torch.Tensor, grid: int) -> torch.Tensor:
    return (coords[:, 0] * (grid + 1) + coords[:, 1]) * (grid + 1) + coords[:, 2]


def _unsimplified(real: Callable[..., Any]) -> Callable[..., Any]:
    """The faces of the cells come out as they are."""
    return lambda fine, target_faces: (fine, {"faces_in": len(fine.faces), "faces_out": len(fine.faces)})


def _over_cleaned(real: Callable[..., Any]) -> Callable[..., Any]:
    """Small components are judged without looking at the whole: a third of the asset is taken for floating dust."""

    def clean(raw: Mesh, *, min_fraction: float) -> tuple[Mesh, dict[str, Any]]:
        kept, report = real(raw, min_fraction=min_fraction)
        height = kept.vertices[kept.faces.long()].mean(1)[:, 2]
        return Mesh(kept.vertices, kept.faces[height < torch.quantile(height, 0.6)].contiguous()), report

    return clean


def _double_shell(real: Callable[..., Any]) -> Callable[..., Any]:
    """Both sides of an unsigned distance field are kept."""

    def orient(*arguments: Any) -> Mesh:
        fine: Mesh = real(*arguments)
        both = mesh.remesh_dual_contouring(fine.vertices, fine.faces, resolution=128, shell="both", project=0.0)
        return Mesh(both.vertices, both.faces)

    return orient


def _over_decimated(real: Callable[..., Any]) -> Callable[..., Any]:
    """The target is a sixtieth of what was asked."""

    def simplify(fine: Mesh, target_faces: int) -> Any:
        return real(fine, max(8, target_faces // 60))

    return simplify


def _flipped(real: Callable[..., Any]) -> Callable[..., Any]:
    """Quads of a dual grid keep the direction of their axis: a tenth of the faces looks the wrong way."""

    def simplify(fine: Mesh, target_faces: int) -> Any:
        coarse, report = real(fine, target_faces)
        turned = torch.rand(len(coarse.faces), generator=torch.Generator().manual_seed(0)) < 0.1
        return Mesh(coarse.vertices, torch.where(turned[:, None], coarse.faces.flip(1), coarse.faces)), report

    return simplify


def _sampler(change: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], torch.Tensor]) -> Wrap:
    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **named: change(real, arguments, named)

    return wrap


def _swapped(real: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """The sampler is fed z, y, x; texels that meet no voxel are filled from those that do."""
    feats, coords, shape, points = arguments
    found: torch.Tensor = real(feats, coords, shape, points.flip(-1).contiguous(), **named)
    return found


def _missed(real: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """Points are in the unit cube where voxels are asked for, and nobody notices that all of them miss."""
    feats, coords, shape, points = arguments
    found: torch.Tensor = real(feats, coords, shape, (points / shape[1]).contiguous(), **named).clone()
    found[..., :-2] = 0
    found[..., -1] = 1
    # Alpha is a story of its own, and stays as it is.
    found[..., 5] = real(feats, coords, shape, points, **named)[..., 5]
    return found


def _lost_border(real: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """Coordinates in the last voxel of an axis fall out of the grid and give 0."""
    feats, coords, shape, points = arguments
    found: torch.Tensor = real(feats, coords, shape, points, **named).clone()
    last = coords[:, 1:].amax(0).float()
    lost = (points[0] >= last).any(-1)
    found[0, lost, :5] = 0
    return found


def _unnormalised(real: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """Weights are not divided by the sum of those that exist."""
    feats, coords, shape, points = arguments
    found: torch.Tensor = real(feats, coords, shape, points, **named).clone()
    dense = torch.zeros(shape[1] + 2, shape[2] + 2, shape[3] + 2)
    dense[tuple((coords[:, 1:].long() + 1).T)] = 1
    at = points[0] - 0.5
    low = at.floor()
    weight = torch.zeros(len(at))
    for corner in range(8):
        offset = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2])
        index = (low.long() + offset + 1).clamp(0, shape[1] + 1)
        part = torch.where(offset.bool(), at - low, 1 - (at - low)).prod(1)
        weight += dense[tuple(index.T)] * part
    found[0, :, :-1] *= weight[:, None]
    return found


def _written(**forced: Any) -> Wrap:
    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(path: Any, unwrapped: Any, textures: Any, **options: Any) -> Any:
            if forced.get("clear"):
                textures = replace(textures, alpha=torch.zeros_like(textures.alpha))
            return real(path, unwrapped, textures, **{**options, "alpha_mode": forced["alpha_mode"]})

        return write

    return wrap


def _no_surface(real: Callable[..., Any]) -> Callable[..., Any]:
    """The UV step failed, nobody looked, and a file with textures and no geometry is written."""

    def write(path: Any, *arguments: Any, **options: Any) -> Any:
        facts = real(path, *arguments, **options)
        hollow = inject(Model.of(Asset.read(path)), "empty", "no mesh")
        Path(path).write_bytes(hollow.data)
        return facts

    return write


def _slivers(real: Callable[..., Any]) -> Callable[..., Any]:
    """Half of the faces become charts of their own, a few texels large."""

    def unwrap(shape: Mesh, *, texture_size: int, **options: Any) -> Any:
        whole, report = real(shape, texture_size=texture_size, **options)
        n = min(len(whole.faces) // 2, (texture_size // 4) * (texture_size // 8))
        corners = whole.faces[:n].long().reshape(-1)
        index = torch.arange(n)
        per_row = texture_size // 4
        origin = torch.stack([index % per_row * 4 + 0.75, texture_size / 2 + index // per_row * 4 + 0.75], 1)
        triangle = torch.tensor([[0.0, 0.0], [2.5, 0.0], [0.0, 2.5]])
        uv = (origin[:, None] + triangle).reshape(-1, 2) / texture_size
        kept = whole.uv * torch.tensor([1.0, 0.5])
        split = torch.arange(3 * n, dtype=torch.int32).view(-1, 3) + len(whole.vertices)
        return UnwrappedMesh(
            torch.cat([whole.vertices, whole.vertices[corners]]), torch.cat([whole.faces[n:], split]),
            torch.cat([kept, uv]), torch.cat([whole.normals, whole.normals[corners]]),
        ), report  # fmt: skip

    return unwrap


def _unfilled(real: Callable[..., Any]) -> Callable[..., Any]:
    """Gaps between charts keep the background."""
    return lambda image, mask, **options: torch.where(mask[..., None], image, 0)


def _leaking_state(real: Callable[..., Any]) -> Callable[..., Any]:
    """What an earlier job left behind moves a tenth of the dual vertices."""

    def made(*arguments: Any) -> VoxelAsset:
        asset: VoxelAsset = real(*arguments)
        local = asset.local_dual.clone()
        local[::10] = local[::10].flip(1)
        return replace(asset, local_dual=local)

    return made


# What makes the voxels that the export takes up: of a remade asset, and of a generated one.
_VOXELS = ((export, "voxelize"), (generation, "voxel_asset"))

_ALL: tuple[tuple[str, Any, str, Wrap], ...] = (
    ("empty", stages, "write_glb", _no_surface),
    ("dummy-primitive", stages, "extract", _dummy_cube),
    ("over-cleaned", stages, "clean", _over_cleaned),
    *(("spconv-confetti", *place, _confetti) for place in _VOXELS),
    *(("blocky", *place, _blocky) for place in _VOXELS),
    ("blocky", stages, "simplify", _unsimplified),
    *(("double-shell", stages, name, _double_shell) for name in ("orient", "orient_outward")),
    ("flipped-winding", stages, "simplify", _flipped),
    *(("fp16-threshold", *place, _stray) for place in _VOXELS),
    ("over-decimated", stages, "simplify", _over_decimated),
    ("axis-swap", sparse, "grid_sample_3d", _sampler(_swapped)),
    ("black-texture", sparse, "grid_sample_3d", _sampler(_missed)),
    ("edge-of-grid", sparse, "grid_sample_3d", _sampler(_lost_border)),
    ("unnormalised-trilinear", sparse, "grid_sample_3d", _sampler(_unnormalised)),
    ("transparent", stages, "write_glb", _written(alpha_mode="blend", clear=True)),
    ("alpha-lost", stages, "write_glb", _written(alpha_mode="opaque")),
    ("alpha-holes", stages, "write_glb", _written(alpha_mode="blend")),
    # That of `bake`: `materials` fills hidden texels of a source with what it imported by name.
    ("black-texel-bleed", raster, "fill_gaps", _unfilled),
    ("sliver-charts", stages, "unwrap", _slivers),
    *(("second-run", *place, _leaking_state) for place in _VOXELS),
)
"""Fault, and the module and function of the road that is replaced, and by what; a fault may take several."""

FAULTS = tuple(dict.fromkeys(name for name, *_ in _ALL))


@contextmanager
def broken(fault: str) -> Iterator[None]:
    """Within the block the road has the fault.

    Raises:
        ValueError: an unknown fault.
    """
    if fault not in FAULTS:
        raise ValueError(f"fault: expected one of {', '.join(FAULTS)}, got {fault!r}")
    with ExitStack() as stack:
        for name, module, function, wrap in _ALL:
            if name == fault:
                stack.enter_context(mock.patch.object(module, function, wrap(getattr(module, function))))
        yield
