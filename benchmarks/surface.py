"""Random weights that decode to a given mesh: its voxels are put in the place of what random decoders would choose.

Everything that costs time or memory is computed as ever; only the choices are replaced: which cells of the structure
are occupied, which children an upsampling keeps, and the dual grid that the shape decoder ends with.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import trellis_voxel
from run import AABB, fitted, read_mesh
from trellis_pipeline import generation
from trellis_pipeline.artifacts import Latent, Structure
from trellis_pipeline.models.slat import SparseResBlockC2S3d
from trellis_pipeline.sparse import SparseTensor

_ROWS = 1 << 20  # children are looked up for so many voxels at a time: measured peaks stay the model's own


def _keys(coords: torch.Tensor) -> torch.Tensor:
    """One int64 for each voxel [N, 3], ascending with (x, y, z)."""
    c = coords.long()
    return (c[:, 0] << 40) | (c[:, 1] << 20) | c[:, 2]


def _voxels(keys: torch.Tensor) -> torch.Tensor:
    mask = (1 << 20) - 1
    xyz = torch.stack([keys >> 40, keys >> 20 & mask, keys & mask], 1)
    return torch.cat([torch.zeros_like(xyz[:, :1]), xyz], 1).int()


class Surface:
    """A mesh's voxels at any resolution; what is kept lies in main memory."""

    def __init__(self, mesh: Path, device: torch.device) -> None:
        vertices, faces = read_mesh(mesh)
        self._mesh = torch.from_numpy(fitted(vertices)), torch.from_numpy(faces)
        self._device = device
        self._grids: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        self._levels: dict[tuple[int, int], torch.Tensor] = {}

    def grid(self, resolution: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys in ascending order, dual vertices in voxel units, crossed edges."""
        if resolution not in self._grids:
            vertices, faces = (x.to(self._device) for x in self._mesh)
            grid = trellis_voxel.mesh_to_dual_grid(vertices, faces, grid_size=resolution, aabb=AABB)
            keys, order = _keys(grid.coords).sort()
            local = (grid.dual_vertices * resolution - grid.coords)[order]
            self._grids[resolution] = (keys.cpu(), local.cpu(), grid.intersected[order].cpu())
        return self._grids[resolution]

    def prepare(self, resolution: int, structure_grid: int) -> None:
        """Makes what runs of a type will ask for: within a stage it would count as the stage's memory and time."""
        for side in (structure_grid, *(resolution >> shift for shift in range(5))):
            self.level(resolution, side)

    def level(self, resolution: int, side: int) -> torch.Tensor:
        """Keys of the cells of a `side`^3 grid that hold a voxel of the `resolution`^3 one, in ascending order."""
        if (resolution, side) not in self._levels:
            coords = _voxels(self.grid(resolution)[0])[:, 1:].long() * side // resolution
            self._levels[resolution, side] = _keys(coords).unique()
        return self._levels[resolution, side]

    def children(self, coords: torch.Tensor, resolution: int, side: int) -> torch.Tensor:
        """Logits [N, 8]: 1 for the children, on a grid of `side`^3, that the mesh has, else -1."""
        known = self.level(resolution, side).to(coords.device)
        slots = torch.arange(8, device=coords.device)
        offsets = torch.stack([slots & 1, slots >> 1 & 1, slots >> 2], 1)
        out = torch.empty((len(coords), 8), dtype=torch.float16, device=coords.device)
        for start in range(0, len(coords), _ROWS):
            part = coords[start : start + _ROWS, 1:].long()
            keys = _keys((2 * part[:, None] + offsets).reshape(-1, 3))
            at = torch.searchsorted(known, keys).clamp_(max=len(known) - 1)
            out[start : start + _ROWS] = torch.where(known[at] == keys, 1.0, -1.0).view(-1, 8).half()
        return out


def impose(surface: Surface) -> None:
    """Makes every generation of this process decode to the surface."""
    state: dict[str, Any] = {}
    structure, cascade, decode = generation.decode_structure, generation.cascade, generation.decode_shape
    grow = SparseResBlockC2S3d.grow

    def decode_structure(decoder: Any, latent: torch.Tensor, grid_size: int) -> Structure:
        structure(decoder, latent, grid_size)
        resolution = 512 if grid_size == 32 else 1024
        return Structure(_voxels(surface.level(resolution, grid_size)).to(latent.device), grid_size)

    def begin(decoder: Any, resolution: int) -> None:
        blocks = [level[-1] for level in list(decoder.blocks)[:-1]]
        state.update(resolution=resolution, sides={id(b): (resolution // 16) << (i + 1) for i, b in enumerate(blocks)})

    def cascaded(decoder: Any, low: Latent, *rest: Any, **options: Any) -> Any:
        begin(decoder, low.resolution)
        return cascade(decoder, low, *rest, **options)

    def decode_shape(decoder: Any, shape: Latent, *rest: Any, **options: Any) -> Any:
        begin(decoder, shape.resolution)
        decoded = decode(decoder, shape, *rest, **options)
        keys, local, crossed = (x.to(shape.feats.device) for x in surface.grid(shape.resolution))
        at = torch.searchsorted(keys, _keys(decoded.coords[:, 1:]))
        return dataclasses.replace(decoded, local_dual=local[at].float(), intersected=crossed[at])

    def chosen(self: Any, x: SparseTensor, subdivision: SparseTensor | None = None) -> Any:
        if subdivision is None:
            side = state["sides"][id(self)]
            subdivision = x.replace(surface.children(x.coords, state["resolution"], side))
        return grow(self, x, subdivision)

    generation.decode_structure, generation.cascade, generation.decode_shape = decode_structure, cascaded, decode_shape
    SparseResBlockC2S3d.grow = chosen  # type: ignore[method-assign]
