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
    counts["faces_out"] = len(f)
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
    count, labels = mesh.connected_components(f, len(v))
    agreement = (normal * source_normal).sum(1).double()
    # Sorted segments, so that the sum does not depend on the order of unordered atomics.
    order = torch.argsort(labels, stable=True)
    sums = torch.segment_reduce(agreement[order], "sum", lengths=torch.bincount(labels.long(), minlength=count))
    against = sums[labels.long()] < 0
    return Mesh(v, torch.where(against[:, None], f.flip(1), f))


def simplify(fine: Mesh, target_faces: int) -> tuple[Mesh, dict[str, Any]]:
    """At most `target_faces` faces; a mesh that already has fewer is returned as it is."""
    if len(fine.faces) <= target_faces:
        return fine, {"faces_in": len(fine.faces), "faces_out": len(fine.faces)}
    result = mesh.simplify(fine.vertices, fine.faces, target_faces=target_faces)
    facts = {"faces_in": len(fine.faces), "faces_out": len(result.faces), "error_bound": result.report.error_bound}
    return Mesh(*result), facts
