"""Closing holes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from trellis_native import check

from ._connectivity import list_edges
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


def _fill_cuda(vertices: torch.Tensor, faces: torch.Tensor, max_perimeter: float) -> Filling:
    """Boundary edges are found on the device; only the faces around their vertices travel to the CPU and are closed
    there. They hold every edge that loops and diagonals can meet, so the result is that of the whole mesh."""
    ends = list_edges(faces, len(vertices), True).view(-1)
    if not len(ends):
        return vertices.new_empty((0, 3)), faces.new_empty((0, 3)), torch.zeros(6, dtype=torch.int64)
    rim = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    rim[ends.long()] = True
    near = rim.index_select(0, faces.view(-1)).view(-1, 3).any(1)
    # Vertices and faces keep their order: the CPU's choices depend on it.
    used, part = torch.unique(faces[near], return_inverse=True)
    filled = _fill_cpu(vertices[used].cpu(), part.to(torch.int32).cpu(), rim[used].cpu(), max_perimeter)
    new_vertices, new_faces, counts = filled
    added = torch.arange(len(vertices), len(vertices) + len(new_vertices), dtype=torch.int32, device=faces.device)
    number = torch.cat([used, added])
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

    On CUDA only the faces at boundary vertices travel to the CPU, which triangulates the loops, and the new faces back.

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
