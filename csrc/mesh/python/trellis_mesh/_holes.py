"""Closing holes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from trellis_native import check

from ._library import EXTENSION, OPS, call_with_scratch
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
    used, part = torch.unique(near, return_inverse=True)
    return used.long(), part.int()


def _rim(faces: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The faces around boundary edges, int32 [N, 3] in their order, perhaps with some more; those edges, int32 [B, 2]; and
    which of them are in closed chains, bool [B], or bool [0] where none is.

    Chains go from fan to fan as those of src/holes.cpp: at most two boundary edges end in a fan.
    """
    device = faces.device
    mark = torch.empty(num_vertices, dtype=torch.int64, device=device)
    touching = torch.empty(len(faces), dtype=torch.bool, device=device)
    EXTENSION.call("rim_faces", faces, len(faces), num_vertices, mark, touching, device=device)
    near = faces[touching]
    edges, closed = near.new_empty((3 * len(near), 2)), touching.new_empty(3 * len(near))
    counts = (ctypes.c_int64 * 2)()
    if len(near):
        call_with_scratch(
            "rim_chains", near, len(near), num_vertices, mark, edges, closed, ctypes.byref(counts), device=device
        )
    return near, edges[: counts[0]], closed[: counts[0] if counts[1] else 0]


def _fill_cuda(vertices: torch.Tensor, faces: torch.Tensor, max_perimeter: float) -> Filling:
    """Boundary edges and the loops among them are found on the device; only the faces around loops travel to the CPU
    and are closed there. They hold every edge that loops and diagonals can meet, so the result is that of the whole
    mesh. Of a surface from voxels most boundary edges are in no loop: their chains end at crowded edges."""
    near, edges, closed = _rim(faces, len(vertices))
    if not len(closed):
        counts = torch.zeros(6, dtype=torch.int64)
        counts[3] = len(edges)
        return vertices.new_empty((0, 3)), faces.new_empty((0, 3)), counts
    edges = edges.long()
    rim = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    rim[edges[closed].view(-1)] = True
    # Chains that touch a loop are followed too, so their next vertices need all their faces, or they might seem closed.
    touching = edges[rim[edges].any(1)]
    whole = rim.clone()
    whole[touching.view(-1)] = True
    used, part = _around(near, whole)
    new_vertices, new_faces, counts = _fill_cpu(vertices[used].cpu(), part.cpu(), rim[used].cpu(), max_perimeter)
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
