"""Simplification by edge collapse."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from trellis_native import check

from ._cleaning import weld_vertices
from ._library import EXTENSION, OPS
from ._result import MeshResult


@OPS.define(
    "simplify(Tensor vertices, Tensor faces, int target_faces, float regularization, float boundary_weight,"
    " float min_quality) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
def _simplify(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    target_faces: int,
    regularization: float,
    boundary_weight: float,
    min_quality: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    state, counts, errors = ctypes.c_void_p(), torch.zeros(5, dtype=torch.int64), torch.zeros(3, dtype=torch.float64)
    device = vertices.device
    scratch: torch.Tensor | None = None
    scratch_bytes = ctypes.c_int64()

    def begin() -> None:
        EXTENSION.call(
            "simplify_begin",
            vertices,
            faces,
            len(faces),
            len(vertices),
            target_faces,
            regularization,
            boundary_weight,
            min_quality,
            ctypes.byref(state),
            counts.data_ptr(),
            errors.data_ptr(),
            scratch,
            ctypes.byref(scratch_bytes),
            device=device,
        )

    if device.type == "cuda":
        begin()  # asks for the size
        scratch = torch.empty(scratch_bytes.value, dtype=torch.uint8, device=device)
    begin()
    try:
        v = torch.empty((int(counts[0]), 3), dtype=torch.float32, device=device)
        f = torch.empty((int(counts[1]), 3), dtype=torch.int32, device=device)
        image = torch.empty(len(vertices), dtype=torch.int32, device=device)
        EXTENSION.call("simplify_fill", state, v, f, image, device=device)
    finally:
        EXTENSION.call("simplify_end", state, device=device)
    return v, f, image, counts, errors


@OPS.fake("simplify")
def _(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    target_faces: int,
    regularization: float,
    boundary_weight: float,
    min_quality: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    ctx = torch.library.get_ctx()
    return (
        vertices.new_empty((ctx.new_dynamic_size(), 3)),
        faces.new_empty((ctx.new_dynamic_size(), 3), dtype=torch.int32),
        faces.new_empty(vertices.shape[0], dtype=torch.int32),
        torch.empty(5, dtype=torch.int64),
        torch.empty(3, dtype=torch.float64),
    )


@dataclass(frozen=True)
class SimplifyReport:
    """What `simplify` did, and how far the result is from the mesh given."""

    faces_before: int
    faces_after: int
    reached: bool
    """Whether the result has at most the faces asked for."""
    rounds: int
    collapses: int
    topology_changes: int
    """Collapses that joined or tore something, done only because the target could not be reached without."""
    deviation: float
    """No given vertex is farther than this from the result, but for those whose component vanished."""
    error_bound: float
    """The Hausdorff distance between the two surfaces is at most this: the longest way of a vertex to its image,
    slides along the surface included. Infinite if parts of the surface vanished."""
    quadric_error: float
    """The largest root-mean-square distance between a vertex and the planes of all faces that went into it."""
    vertex_map: torch.Tensor
    """int32 [V]: the vertex of the result that each given vertex became part of; -1 for those that no face names,
    or whose component vanished."""


def simplify(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    *,
    target_faces: int,
    regularization: float = 3e-4,
    boundary_weight: float = 10.0,
    min_quality: float = 0.1,
    weld: bool = True,
) -> MeshResult[SimplifyReport]:
    """Simplifies a mesh to `target_faces` faces by collapsing edges in the order of their quadric error.

    Quadric error metrics (Garland and Heckbert 1997), area-weighted, with a weak pull of every face to its centroid
    (after Trettner and Kobbelt 2020), in rounds of independent collapses that run in parallel. The result does not
    depend on the number of threads. Boundaries stay in place and keep their loops; edges of three faces or more stay
    too; no face turns over. The topology stays as long as the target can be reached so; after that it may change
    (reported). Faces that name a vertex twice are dropped.

    Args:
        vertices: float32 [V, 3], finite.
        faces: int32 or int64 [F, 3].
        target_faces: how many faces to reach: as a rule the result has this many or one fewer, always at least nine
            tenths of it. A mesh that has no more comes back as it is.
        regularization: weight of a face's pull to its centroid against that to its plane. More gives evener triangles
            and blunter features.
        boundary_weight: weight of the planes across boundary edges.
        min_quality: new triangles below this quality (4 sqrt(3) area / sum of squared sides, 1 if equilateral) are
            not made unless they are better than those they replace, or the target cannot be reached otherwise.
        weld: vertices at exactly the same place become one first, so that seams are not taken for boundaries.

    Returns:
        ``vertices, faces`` with a `SimplifyReport`; unused vertices are dropped.

    Raises:
        ValueError: a coordinate that is not finite.
    """
    v, f = check.mesh(vertices, faces)
    target = check.positive_int("target_faces", target_faces)
    options = (
        check.number("regularization", regularization, minimum=0, maximum=1),
        check.number("boundary_weight", boundary_weight, minimum=0),
        check.number("min_quality", min_quality, minimum=0, maximum=1),
    )
    if not isinstance(weld, bool):
        raise TypeError(f"weld: expected a bool, got {type(weld).__name__}")
    if not bool(torch.isfinite(v).all()):
        raise ValueError("vertices: expected finite coordinates, got NaN or infinity")
    if len(f) <= target:
        same = torch.arange(len(v), dtype=torch.int32, device=v.device)
        return MeshResult(v, f, SimplifyReport(len(f), len(f), True, 0, 0, 0, 0.0, 0.0, 0.0, same))
    place = weld_vertices(v).long() if weld else None
    joined = f if place is None else place[f.view(-1).long()].view(-1, 3).to(torch.int32)
    new_v, new_f, image, counts, errors = _simplify(v, joined, target, *options)
    if place is not None:
        image = image[place]
    _, _, rounds, collapses, topology_changes = counts.tolist()
    quadric_error, deviation, displacement = errors.tolist()
    report = SimplifyReport(
        len(f),
        len(new_f),
        len(new_f) <= target,
        rounds,
        collapses,
        topology_changes,
        deviation,
        displacement,
        quadric_error,
        image,
    )
    return MeshResult(new_v, new_f, report)
