"""Normals of faces, vertices and corners."""

from __future__ import annotations

import math

import torch
from trellis_native import check

from ._library import EXTENSION, OPS, call_with_scratch


@OPS.define("face_normals(Tensor vertices, Tensor faces) -> Tensor")
def _face_normals(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    normals = torch.empty((len(faces), 3), dtype=torch.float32, device=vertices.device)
    EXTENSION.call("face_normals", vertices, faces, len(faces), normals, device=vertices.device)
    return normals


@OPS.fake("face_normals")
def _(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    return vertices.new_empty((faces.shape[0], 3))


def _vertex_corners(faces: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Corners 3 * face + i by vertex: those of vertex v are corners[first[v]:first[v + 1]], ascending."""
    first = torch.empty(num_vertices + 1, dtype=torch.int32, device=faces.device)
    corners = torch.empty(faces.numel(), dtype=torch.int32, device=faces.device)
    call_with_scratch("vertex_corners", faces, len(faces), num_vertices, first, corners, device=faces.device)
    return first, corners


@OPS.define("vertex_normals(Tensor vertices, Tensor faces, bool by_angle) -> Tensor")
def _vertex_normals(vertices: torch.Tensor, faces: torch.Tensor, by_angle: bool) -> torch.Tensor:
    first, corners = _vertex_corners(faces, len(vertices))
    normals = torch.empty_like(vertices)
    EXTENSION.call(
        "vertex_normals",
        vertices,
        faces,
        first,
        corners,
        len(vertices),
        int(by_angle),
        normals,
        device=vertices.device,
    )
    return normals


@OPS.fake("vertex_normals")
def _(vertices: torch.Tensor, faces: torch.Tensor, by_angle: bool) -> torch.Tensor:
    return torch.empty_like(vertices)


@OPS.define("corner_normals(Tensor vertices, Tensor faces, float cos_crease) -> (Tensor, Tensor)")
def _corner_normals(
    vertices: torch.Tensor, faces: torch.Tensor, cos_crease: float
) -> tuple[torch.Tensor, torch.Tensor]:
    first, corners = _vertex_corners(faces, len(vertices))
    normals = torch.empty((len(faces), 3, 3), dtype=torch.float32, device=vertices.device)
    leaders = torch.empty((len(faces), 3), dtype=torch.int32, device=vertices.device)
    EXTENSION.call(
        "corner_normals",
        vertices,
        faces,
        first,
        corners,
        len(vertices),
        cos_crease,
        normals,
        leaders,
        device=vertices.device,
    )
    return normals, leaders


@OPS.fake("corner_normals")
def _(vertices: torch.Tensor, faces: torch.Tensor, cos_crease: float) -> tuple[torch.Tensor, torch.Tensor]:
    return vertices.new_empty((faces.shape[0], 3, 3)), faces.new_empty((faces.shape[0], 3))


def face_normals(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Unit normals of faces after the right-hand rule.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].

    Returns:
        float32 [F, 3]; zero for faces without area or with coordinates that are not finite.
    """
    v, f = check.mesh(vertices, faces)
    normals: torch.Tensor = _face_normals(v, f)
    return normals


def vertex_normals(vertices: torch.Tensor, faces: torch.Tensor, *, weighting: str = "area") -> torch.Tensor:
    """Unit normals of vertices: the weighted mean of the normals of the faces around each.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].
        weighting: "area" weighs a face by its area, as upstream's CuMesh does; "angle" by its angle at the vertex, so that
            the result does not depend on how the surface was cut into triangles (Thuermer and Wuethrich 1998).

    Returns:
        float32 [V, 3]; zero for vertices without faces or where the normals cancel. Faces without area, or with
        coordinates that are not finite, do not count.
    """
    v, f = check.mesh(vertices, faces)
    normals: torch.Tensor = _vertex_normals(v, f, check.choice("weighting", weighting, ("angle", "area")) == "angle")
    return normals


def corner_normals(
    vertices: torch.Tensor, faces: torch.Tensor, *, crease_angle: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit normals of the corners of faces, smooth over a surface but not across its creases.

    A corner's normal is the angle-weighted mean of the normals of those faces at its vertex that turn away from its own
    face by at most `crease_angle`.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].
        crease_angle: degrees in [0, 180]; at 180 all corners of a vertex get its `vertex_normals` by angle.

    Returns:
        Normals float32 [F, 3, 3], zero where there is no direction, and leaders int32 [F, 3]: for each corner the first
        corner ``3 * face + i`` at the same vertex with the very same normal. Corners with one leader can share a vertex
        of a file that stores normals by vertex.
    """
    v, f = check.mesh(vertices, faces)
    angle = check.number("crease_angle", crease_angle, minimum=0.0, maximum=180.0)
    normals, leaders = _corner_normals(v, f, math.cos(math.radians(angle)))
    return normals, leaders
