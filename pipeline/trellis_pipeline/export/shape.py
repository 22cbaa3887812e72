"""Voxels -> a clean mesh with the face count that was asked for, oriented like its source."""

from __future__ import annotations

from typing import Any

import torch
import trellis_mesh as mesh
import trellis_voxel as voxel

from .stages import Mesh, VoxelAsset

# Loops up to this length (in cube sides) are closed; longer ones are openings of the object. Upstream's choice.
HOLE_PERIMETER = 3e-2


def extract(asset: VoxelAsset) -> Mesh:
    """The surface of a dual grid, as it is."""
    vertices, faces = voxel.dual_grid_to_mesh(
        asset.coords, asset.local_dual, asset.intersected, asset.split_weight,
        aabb=[list(asset.aabb[0]), list(asset.aabb[1])], grid_size=asset.grid_size,
    )  # fmt: skip
    return Mesh(vertices, faces)


def clean(raw: Mesh, *, min_fraction: float) -> tuple[Mesh, dict[str, Any]]:
    """Closes small holes, drops duplicate and degenerate faces and small components, separates non-manifold edges.

    Args:
        min_fraction: components whose bounding box is smaller than this share of the whole are removed;
            the largest component always stays.

    Returns:
        The mesh and what was done to it, for the manifest.
    """
    v, f = raw.vertices, raw.faces
    counts = {"faces_in": len(f)}
    v, f = mesh.remove_degenerate_faces(v, f)
    v, f = mesh.remove_duplicate_faces(v, f)
    v, f = mesh.fill_holes(v, f, max_perimeter=HOLE_PERIMETER)
    counts["faces_filled"] = len(f)
    kept = mesh.remove_small_components(v, f, min_fraction=min_fraction)
    v, f = mesh.repair_non_manifold_edges(*kept)
    counts |= {"faces_out": len(f), "vertices": len(v)}
    counts |= {"removed_components": len(kept.report.removed), "removed_faces": kept.report.removed_faces}
    return Mesh(v, f), counts


def orient(target: Mesh, reference: mesh.Bvh, vertices: torch.Tensor, faces: torch.Tensor) -> Mesh:
    """Makes each component of `target` consistent and turns it the way the reference surface under it faces.

    A dual grid has no inside: its quads face along the axes. The source's own winding says which side is out.

    Args:
        reference: search structure over the source mesh (`vertices`, `faces`).
    """
    v, f = mesh.unify_orientation(target.vertices, target.faces)
    if not len(f):
        return Mesh(v, f)
    corners = v[f.long()]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length = 2 areas
    _, nearest, _ = reference.closest_point(corners.mean(1).contiguous())
    source = vertices[faces[nearest.long()].long()]
    source_normal = torch.nn.functional.normalize(
        torch.linalg.cross(source[:, 1] - source[:, 0], source[:, 2] - source[:, 0]), dim=1
    )
    agreement = (normal * source_normal).sum(1)
    parts = _components(v, f)
    # Where the source contradicts itself (parts of one surface wound both ways), chance would decide: there out decides.
    sure = _sums(agreement.abs(), *parts[1:])
    unsure = (_sums(agreement, *parts[1:]).abs() < _CLEAR * sure)[parts[0].long()]
    if unsure.any():
        agreement = torch.where(unsure, _outward(v, f, *parts), agreement)
    return _turn_components(v, f, agreement, *parts)


# The share of a component's weighed area by which the source must prefer one of its sides to decide.
_CLEAR = 0.25
# Rays that decide which side of a component is out: so many of its faces ask.
_ASKED = 256
# How far a ray begins above its face, in sides of the cube: beyond the rounding of coordinates, within any voxel.
_LIFT = 1e-5


def orient_outward(target: Mesh) -> Mesh:
    """Makes each component of `target` consistent and turns its faces towards the outside.

    Out is where a ray from the face crosses the surface an even number of times on its way to infinity. Some faces of
    each component ask, weighted by their areas: where the surface has openings their answers differ, and most decide.
    """
    v, f = mesh.unify_orientation(target.vertices, target.faces)
    if not len(f):
        return Mesh(v, f)
    parts = _components(v, f)
    return _turn_components(v, f, _outward(v, f, *parts), *parts)


def _outward(
    v: torch.Tensor, f: torch.Tensor, labels: torch.Tensor, order: torch.Tensor, sizes: torch.Tensor
) -> torch.Tensor:
    """What faces say of their winding: float32 [F], their length where it is outward, that negative where not, 0 unasked."""
    # Every face of a small component, evenly spaced ones of a large one.
    asked = sizes.clamp(max=_ASKED)
    component = torch.repeat_interleave(asked)
    place = torch.arange(len(component), device=v.device) - (asked.cumsum(0) - asked)[component]
    face = order[(sizes.cumsum(0) - sizes)[component] + place * sizes[component] // asked[component]]
    corners = v[f[face].long()]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = (normal * normal).sum(1).sqrt()
    direction = normal / length[:, None].clamp(min=1e-12)
    crossings = mesh.Bvh(v, f).count_hits((corners.mean(1) + direction * _LIFT).contiguous(), direction)
    # -1 stands for a face without area, which has no say.
    vote = torch.where(crossings & 1 == 0, 1.0, -1.0) * length
    weight = torch.zeros(len(f), device=v.device)
    weight[face] = vote * (crossings >= 0)
    return weight


def _components(v: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The component of each face, the faces ordered by component, and how many each component has."""
    count, labels = mesh.connected_components(f, len(v))
    return labels, torch.argsort(labels, stable=True), torch.bincount(labels.long(), minlength=count)


def _sums(values: torch.Tensor, order: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Of values of faces over each component; sorted segments, so that no order of unordered atomics shows."""
    return torch.segment_reduce(values.double()[order], "sum", lengths=sizes)


def _turn_components(
    v: torch.Tensor,
    f: torch.Tensor,
    agreement: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Tensor,
    sizes: torch.Tensor,
) -> Mesh:
    """Turns over the components whose faces sum to a negative `agreement` (float32 [F])."""
    against = _sums(agreement, order, sizes)[labels.long()] < 0
    return Mesh(v, torch.where(against[:, None], f.flip(1), f))


def remesh(fine: Mesh, resolution: int) -> tuple[Mesh, dict[str, Any]]:
    """One closed shell around the surface, contoured on a grid of `resolution`^3: no openings, no inner layers."""
    result = mesh.remesh_dual_contouring(fine.vertices, fine.faces, resolution=resolution)
    faces, vertices = len(result.faces), len(result.vertices)
    facts = {
        "faces_in": len(fine.faces),
        "faces_out": faces,
        "vertices": vertices,
        "cell_size": result.report.cell_size,
    }
    return Mesh(*result), facts


def simplify(fine: Mesh, target_faces: int) -> tuple[Mesh, dict[str, Any]]:
    """At most `target_faces` faces; a mesh that already has fewer is returned as it is."""
    if len(fine.faces) <= target_faces:
        return fine, {"faces_in": len(fine.faces), "faces_out": len(fine.faces)}
    result = mesh.simplify(fine.vertices, fine.faces, target_faces=target_faces)
    facts = {"faces_in": len(fine.faces), "faces_out": len(result.faces), "error_bound": result.report.error_bound}
    return Mesh(*result), facts
