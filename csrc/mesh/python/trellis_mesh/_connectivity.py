"""Edges, boundary edges and connected components."""

from __future__ import annotations

import ctypes

import torch
from trellis_native import check

from ._library import EXTENSION, OPS, call_with_scratch
from ._result import check_faces, compact_indices


@OPS.define("edges(Tensor faces, int num_vertices, bool boundary_only) -> Tensor")
def list_edges(faces: torch.Tensor, num_vertices: int, boundary_only: bool) -> torch.Tensor:
    state, count = ctypes.c_void_p(), ctypes.c_int64()
    device = faces.device
    scratch = call_with_scratch(
        "edges_begin",
        faces,
        len(faces),
        num_vertices,
        int(boundary_only),
        ctypes.byref(state),
        ctypes.byref(count),
        device=device,
    )
    try:
        edges = torch.empty((count.value, 2), dtype=torch.int32, device=device)
        EXTENSION.call("edges_fill", state, edges, device=device)
    finally:
        EXTENSION.call("edges_end", state, device=device)
        del scratch
    return edges


@OPS.fake("edges")
def _(faces: torch.Tensor, num_vertices: int, boundary_only: bool) -> torch.Tensor:
    return faces.new_empty((torch.library.get_ctx().new_dynamic_size(), 2), dtype=torch.int32)


@OPS.define("connected_components(Tensor faces, int num_vertices) -> (Tensor, Tensor)")
def label_components(faces: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.empty(len(faces), dtype=torch.int32, device=faces.device)
    count = ctypes.c_int64()
    call_with_scratch(
        "connected_components", faces, len(faces), num_vertices, labels, ctypes.byref(count), device=faces.device
    )
    return labels, torch.tensor(count.value, dtype=torch.int64)


@OPS.fake("connected_components")
def _(faces: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    return faces.new_empty(faces.shape[0], dtype=torch.int32), torch.empty((), dtype=torch.int64)


def _compact_edges(faces: torch.Tensor, boundary_only: bool) -> torch.Tensor:
    f, num_vertices, old = compact_indices(check_faces(faces))
    found: torch.Tensor = list_edges(f, num_vertices, boundary_only)
    return found if old is None else old[found.long()]


def edges(faces: torch.Tensor) -> torch.Tensor:
    """The undirected edges of a triangle list, each once.

    Args:
        faces: int32 or int64 [F, 3], indices of vertices. A face that names a vertex twice has no edges.

    Returns:
        int32 [E, 2]: the smaller vertex first, rows in ascending order.
    """
    return _compact_edges(faces, False)


def boundary_edges(faces: torch.Tensor) -> torch.Tensor:
    """The edges that belong to exactly one face; arguments and order as for `edges`."""
    return _compact_edges(faces, True)


def connected_components(faces: torch.Tensor, num_vertices: int) -> tuple[int, torch.Tensor]:
    """Components of faces that are connected across shared edges (touching at a vertex does not connect).

    Args:
        faces: int32 or int64 [F, 3], indices in [0, num_vertices). A face that names a vertex twice has no edges
            and is a component by itself.
        num_vertices: how many vertices the mesh has.

    Returns:
        The number of components, and int32 labels [F], 0, 1, ... in the order of each component's first face.
    """
    n = check.positive_int("num_vertices", num_vertices, minimum=0, maximum=2**31 - 1)
    f, count, _ = compact_indices(check_faces(faces, n))
    labels, total = label_components(f, count)
    return int(total), labels
