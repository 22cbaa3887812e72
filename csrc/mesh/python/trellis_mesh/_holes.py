"""Closing holes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from trellis_native import check

from ._cleaning import split_fans
from ._connectivity import list_edges
from ._flat_surface import connected_by_twins, edge_keys, inverted
from ._library import EXTENSION, OPS
from ._result import MeshResult

Filling = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _fill_cpu(vertices: torch.Tensor, faces: torch.Tensor, rim: torch.Tensor | None, max_perimeter: float) -> Filling:
    """New vertices, new faces and the counts of tk_mesh_fill_holes_begin; everything on the CPU."""
    state, counts = ctypes.c_void_p(), torch.zeros(6, dtype=torch.int64)
    device = vertices.device
    EXTENSION.call(
        "fill_holes_begin",
        vertices,
        faces,
        len(faces),
        len(vertices),
        rim,
        max_perimeter,
        ctypes.byref(state),
        counts,
        device=device,
    )
    try:
        new_vertices = torch.empty((int(counts[4]), 3), dtype=torch.float32, device=device)
        new_faces = torch.empty((int(counts[5]), 3), dtype=torch.int32, device=device)
        EXTENSION.call("fill_holes_fill", state, new_vertices, new_faces, device=device)
    finally:
        EXTENSION.call("fill_holes_end", state, device=device)
    return new_vertices, new_faces, counts


def _around(faces: torch.Tensor, marked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The faces around `marked` vertices (bool [V]) as a mesh of its own: its vertices int64 [U] in their order, and
    those faces int32 in theirs (the CPU's choices depend on the order of both)."""
    near = faces[marked.index_select(0, faces.view(-1)).view(-1, 3).any(1)]
    proper = (near != near.roll(-1, 1)).all(1)  # a face that names a vertex twice has no edges
    used, part = torch.unique(near[proper], return_inverse=True)
    return used.long(), part.int()


def _looped(faces: torch.Tensor, rim: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boundary edges int64 [B, 2] of faces that hold all those around `rim` (bool [V]), and which are in closed chains.

    Chains go from fan to fan as those of src/holes.cpp: at most two boundary edges end in a fan.
    """
    start, end = faces.view(-1).long(), faces.roll(-1, 1).view(-1).long()
    keys, half = torch.sort(edge_keys(start, end, len(rim)), stable=True)
    other = torch.full_like(keys[:1], -1)
    lone = (keys != torch.cat([other, keys[:-1]])) & (keys != torch.cat([keys[1:], other]))
    edge = half[lone & rim[start[half]] & rim[end[half]]]
    # Half-edge 3 i + k stands for end k of boundary edge i; two are twins where they end in one fan.
    fan = split_fans(faces, len(rim))[0]
    fans, order = torch.sort(torch.stack([fan.view(-1)[edge], fan.roll(-1, 1).view(-1)[edge]], 1).view(-1), stable=True)
    place = order // 2 * 3 + (order & 1)
    pair = (fans[1:] == fans[:-1]).nonzero().view(-1)
    one, two = place[pair], place[pair + 1]
    twin = torch.full((3 * len(edge),), -1, dtype=torch.int32, device=faces.device)
    twin[one], twin[two] = two.int(), one.int()
    chain, count = connected_by_twins(twin)
    loose = torch.zeros(count, dtype=torch.bool, device=faces.device)
    loose[chain[(twin.view(-1, 3)[:, :2] < 0).any(1)].long()] = True
    return torch.stack([start[edge], end[edge]], 1), inverted(loose[chain.long()])


def _fill_cuda(vertices: torch.Tensor, faces: torch.Tensor, max_perimeter: float) -> Filling:
    """Boundary edges and the loops among them are found on the device; only the faces around loops travel to the CPU
    and are closed there. They hold every edge that loops and diagonals can meet, so the result is that of the whole
    mesh. Of a surface from voxels most boundary edges are in no loop: their chains end at crowded edges."""
    ends = list_edges(faces, len(vertices), True).view(-1).long()
    counts = torch.zeros(6, dtype=torch.int64)
    nothing = vertices.new_empty((0, 3)), faces.new_empty((0, 3)), counts
    if not len(ends):
        return nothing
    rim = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    rim[ends] = True
    used, part = _around(faces, rim)
    edges, looped = _looped(part, rim[used])
    counts[3] = len(edges)
    if not bool(looped.any()):
        return nothing
    rim = torch.zeros(len(used), dtype=torch.bool, device=vertices.device)
    rim[edges[looped].view(-1)] = True
    # Chains that touch a loop are followed too, so their next vertices need all their faces, or they might seem closed.
    touching = edges[rim[edges].any(1)]
    whole = rim.clone()
    whole[touching.view(-1)] = True
    kept, part = _around(part, whole)
    used = used[kept]
    new_vertices, new_faces, counts = _fill_cpu(vertices[used].cpu(), part.cpu(), rim[kept].cpu(), max_perimeter)
    counts[3] += len(edges) - len(touching)
    added = torch.arange(len(vertices), len(vertices) + len(new_vertices), device=faces.device)
    number = torch.cat([used, added]).to(torch.int32)
    placed = number.index_select(0, new_faces.to(faces.device).view(-1)).view(-1, 3)
    return new_vertices.to(vertices.device), placed, counts


@OPS.define("fill_holes(Tensor vertices, Tensor faces, float max_perimeter) -> (Tensor, Tensor, Tensor)")
def _fill_holes(vertices: torch.Tensor, faces: torch.Tensor, max_perimeter: float) -> Filling:
    if vertices.device.type == "cuda":
        return _fill_cuda(vertices, faces, max_perimeter)
    return _fill_cpu(vertices, faces, None, max_perimeter)


@OPS.fake("fill_holes")
def _(vertices: torch.Tensor, faces: torch.Tensor, max_perimeter: float) -> Filling:
    ctx = torch.library.get_ctx()
    return (
        vertices.new_empty((ctx.new_dynamic_size(), 3)),
        faces.new_empty((ctx.new_dynamic_size(), 3), dtype=torch.int32),
        torch.empty(6, dtype=torch.int64),
    )


@dataclass(frozen=True)
class FillReport:
    """What `fill_holes` did."""

    loops: int
    """Simple loops of boundary edges in the given mesh."""
    closed: int
    too_long: int
    loose_edges: int
    """Boundary edges in no loop: their chain ends at an edge of three faces or more."""
    added_vertices: int
    added_faces: int


def fill_holes(vertices: torch.Tensor, faces: torch.Tensor, *, max_perimeter: float) -> MeshResult[FillReport]:
    """Closes every simple loop of boundary edges that is not longer than `max_perimeter`.

    Loops of up to 100 edges get the triangulation of least total weight (Barequet and Sharir 1995), which prefers
    little area and round triangles; longer ones are closed ear by ear. Both use the loop's own vertices. Only where
    every triangulation would repeat an edge of the mesh, a fan around a new vertex is used. New faces agree in
    orientation with their neighbours (with the majority, if these disagree). Where loops touch at a vertex each is
    closed by itself. The outline of a lone triangle is no hole; that of a larger open sheet is one.

    On CUDA only the faces around loops travel to the CPU, which triangulates them, and the new faces back.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].
        max_perimeter: the longest loop to close, in the units of the vertices.

    Returns:
        ``vertices, faces`` with a `FillReport`: the given ones, then the new ones.
    """
    v, f = check.mesh(vertices, faces)
    new_vertices, new_faces, counts = _fill_holes(v, f, check.number("max_perimeter", max_perimeter, minimum=0))
    return MeshResult(torch.cat([v, new_vertices]), torch.cat([f, new_faces]), FillReport(*counts.tolist()))
