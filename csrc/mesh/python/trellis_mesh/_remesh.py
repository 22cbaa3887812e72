"""Remeshing by dual contouring of the distance in a narrow band."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from trellis_native import check

from ._bvh import Bvh
from ._library import EXTENSION, OPS, DeviceMemory
from ._result import MeshResult


@dataclass(frozen=True)
class RemeshReport:
    """How a mesh was made anew."""

    cell_size: float
    offset: float
    """Distance from the old mesh at which the new one was contoured, before its vertices moved back."""
    held_back: int
    """Vertices that went less than the share asked for, because a triangle would have turned over."""


@OPS.define(
    "remesh_dual_contouring(Tensor nodes, Tensor leaves, Tensor ids, int num_faces, float[] origin, float cell, "
    "int resolution, float band, float project, bool fill) -> (Tensor, Tensor, Tensor)"
)
def _remesh(
    nodes: torch.Tensor,
    leaves: torch.Tensor,
    ids: torch.Tensor,
    num_faces: int,
    origin: list[float],
    cell: float,
    resolution: int,
    band: float,
    project: float,
    fill: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    state, num_vertices, num_new_faces, held_back = (
        ctypes.c_void_p(),
        ctypes.c_int64(),
        ctypes.c_int64(),
        ctypes.c_int64(),
    )
    sizes = tuple(ctypes.byref(x) for x in (state, num_vertices, num_new_faces, held_back))
    settings = (*origin, cell, resolution, band, project, int(fill))
    device = nodes.device
    memory = DeviceMemory(device)
    try:
        with memory.errors():
            EXTENSION.call(
                "remesh_begin", nodes, leaves, ids, num_faces, *settings, *sizes, memory.allocate, device=device
            )
        try:
            vertices = nodes.new_empty(num_vertices.value, 3)
            faces = ids.new_empty(num_new_faces.value, 3)
            EXTENSION.call("remesh_fill", state, vertices, faces, device=device)
        finally:
            EXTENSION.call("remesh_end", state, device=device)
    finally:
        memory.release()
    return vertices, faces, torch.tensor(held_back.value)


@OPS.fake("remesh_dual_contouring")
def _(
    nodes: torch.Tensor,
    leaves: torch.Tensor,
    ids: torch.Tensor,
    num_faces: int,
    origin: list[float],
    cell: float,
    resolution: int,
    band: float,
    project: float,
    fill: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    context = torch.library.get_ctx()
    new_vertices, new_faces = (
        nodes.new_empty(context.new_dynamic_size(), 3),
        ids.new_empty(context.new_dynamic_size(), 3),
    )
    return new_vertices, new_faces, torch.empty((), dtype=torch.int64)


def remesh_dual_contouring(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    *,
    resolution: int,
    band: float = 1.0,
    project: float = 0.9,
    shell: str = "outer",
    aabb: torch.Tensor | Sequence[Sequence[float]] | None = None,
    bvh: Bvh | None = None,
) -> MeshResult[RemeshReport]:
    """A closed, manifold mesh around any triangles, however they are connected, oriented, or torn.

    The surface at a distance of `band` cells from the mesh is contoured on a grid of resolution^3 cells, and its
    vertices are moved back towards the mesh. Time and memory go with the area of the mesh, not the volume of the grid.

    The distance has no sign, so around a closed mesh that surface has two sheets: one outside, one inside. With
    ``shell="outer"`` everything that the band cuts off from the border of the grid counts as solid: there is no inner
    sheet, holes narrower than twice the band are closed, cavities and whatever lies in them vanish. An open surface
    becomes a thin closed slab, and what can be reached through a wider hole is coated too. ``shell="both"`` keeps all
    sheets.

    Args:
        vertices: float32 [V, 3], all finite.
        faces: int32 or int64 [F, 3], F at least 1.
        resolution: cells along each side of `aabb`, at most 2048.
        band: distance of the contoured surface from the mesh, in cells, in [0.87, 16]. Half a diagonal of a cell is
            what it takes that nothing slips between the corners of the grid.
        project: share of the way back to the closest point of the mesh that vertices go, in [0, 1]; less where a
            triangle would turn over.
        shell: "outer" or "both".
        aabb: [2, 3], lowest and highest corner of a cube that holds the mesh; the default is the smallest cube around
            the centre of the mesh that leaves `band` + 1 cells free on each side.
        bvh: tree of this mesh, if the caller has one already.

    Returns:
        vertices float32 [V', 3] and faces int32 [F', 3], counter-clockwise seen from outside. Every edge has exactly
        two faces, in opposite directions, and the faces around every vertex form a single fan. The report holds the
        cell size, the offset, and how many vertices were held back.

    Raises:
        ValueError: no faces, coordinates that are not finite, an aabb that is no cube or does not hold the mesh, cells
            below the precision of float32 coordinates, more than 2^31 vertices or faces in the result.

    Source: Ju et al., "Dual Contouring of Hermite Data", SIGGRAPH 2002; Nielson, "Dual Marching Cubes", 2004.
    """
    v, f = check.mesh(vertices, faces)
    resolution = check.positive_int("resolution", resolution, maximum=2048)
    band = check.number("band", band, minimum=0.87, maximum=16.0)
    project = check.number("project", project, minimum=0.0, maximum=1.0)
    check.choice("shell", shell, ("outer", "both"))
    if len(f) == 0:
        raise ValueError("faces: expected at least one face, got a mesh without faces")
    if bvh is None:
        bvh = Bvh(v, f)
    elif bvh.device != v.device or bvh.num_faces != len(f):
        raise ValueError(
            f"bvh: expected the tree of this mesh ({len(f)} faces on {v.device}), "
            f"got one of {bvh.num_faces} faces on {bvh.device}"
        )
    used = v[f.flatten().long()]
    if not bool(used.isfinite().all()):
        bad = int((~v.isfinite()).any(1).sum())
        raise ValueError(f"vertices: expected finite coordinates, got {bad} vertices with others")
    low, high = used.amin(0).double(), used.amax(0).double()
    origin, size = _cube(low, high, aabb, resolution, band)
    tree = (bvh.nodes, bvh.leaves, bvh.ids, bvh.num_faces)
    cell = size / resolution
    new_vertices, new_faces, held_back = _remesh(*tree, origin, cell, resolution, band, project, shell == "outer")
    return MeshResult(new_vertices, new_faces, RemeshReport(cell, band * cell, int(held_back)))


def _cube(
    low: torch.Tensor,
    high: torch.Tensor,
    aabb: torch.Tensor | Sequence[Sequence[float]] | None,
    resolution: int,
    band: float,
) -> tuple[list[float], float]:
    """Lowest corner and side of the grid's cube."""
    if aabb is None:
        extent = float((high - low).max()) or max(float(high.abs().max()), 1.0) * 1e-3
        # extent / size = (resolution - 2 (band + 1)) / resolution; a grid too coarse for that still has half for the mesh.
        size = extent * resolution / max(resolution - 2 * (band + 1), resolution * 0.5)
        return ((low + high) / 2 - size / 2).tolist(), size
    box = torch.as_tensor(aabb, dtype=torch.float64, device=low.device)
    if box.shape != (2, 3):
        raise ValueError(f"aabb: expected shape [2, 3], got {list(box.shape)}")
    sides = box[1] - box[0]
    size = float(sides.max())
    if not bool(box.isfinite().all()) or float(sides.min()) <= 0 or float(sides.min()) < size * (1 - 1e-5):
        raise ValueError(f"aabb: expected the lowest and the highest corner of a cube, got {box.tolist()}")
    slack = size * 1e-5
    if bool((low < box[0] - slack).any()) or bool((high > box[1] + slack).any()):
        raise ValueError(
            f"aabb: expected a cube that holds the mesh, which spans {low.tolist()} to {high.tolist()}, got {box.tolist()}"
        )
    return box[0].tolist(), size
