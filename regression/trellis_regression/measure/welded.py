"""Statistics of the welded mesh: components, winding, axis-aligned faces, lattice, stray patches, primitives.

Vertices are welded first: textured meshes are split along chart seams, and every chart would count as a component.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh

from ..asset import SEED, Asset, members, rows, starts

# A component is small when it has at most this share of the faces (or this many) and of the area.
_SMALL_FACES, _SMALL_COUNT, _SMALL_AREA = 0.002, 16, 0.005
# A small component floats when it is farther from the rest than this share of the longest side.
_FLOATING_GAP = 0.01
# cos of the angle within which a normal counts as lying on an axis (2 degrees).
_ON_AXIS = float(np.cos(np.radians(2)))
# A stray patch: as many faces, torn off where three or more faces meet (the two triangles of a quad, or two quads).
_STRAY_FACES = 4
# Sums into bins are taken in whole numbers of 2^-38, in any order the same; all faces of a mesh are less than 2^25.
_FIXED = 1 << 38


def measure(asset: Asset) -> dict[str, Any]:
    """All statistics of this module; only for an asset with a surface."""
    on_axis = asset.normals.abs().amax(1) > _ON_AXIS
    return {
        "faces": len(asset.faces),
        "degenerate_share": 1 - len(asset.solid_faces) / max(1, len(asset.faces)),
        "area": asset.area,
        **_components(asset),
        **_edges(asset, on_axis),
        "axis_aligned_share": float(asset.areas[on_axis].sum()) / asset.area,
        "lattice_coherence": _lattice(asset),
        **_primitive(asset),
    }


def _components(asset: Asset) -> dict[str, Any]:
    count, labels = asset.components
    faces = torch.bincount(labels, minlength=count)
    fixed = torch.zeros(count, dtype=torch.int64, device=asset.device)
    area = fixed.index_add_(0, labels, (asset.areas * _FIXED).round().long()).double() / _FIXED
    small = small_components(faces, area)
    return {
        "components": count,
        "largest_component_share": float(area.max()) / asset.area,
        "small_components": int(small.sum()),
        "shattered_share": float(area[small].sum()) / asset.area,
        "floaters": _floating(asset, labels, small),
    }


def small_components(faces: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """Which components are small, by the number of faces and the area of each [C]."""
    tiny = faces <= max(_SMALL_FACES * int(faces.sum()), _SMALL_COUNT)
    small: torch.Tensor = tiny & (area <= _SMALL_AREA * area.sum())
    # When everything is in pieces nothing is "the rest": the largest piece, the first of those, always is.
    small[(area == area.max()).nonzero()[0, 0]] = False
    return small


def _floating(asset: Asset, labels: torch.Tensor, small: torch.Tensor) -> int:
    """How many small components lie away from everything that is not small, and are not stuck through it."""
    if not bool(small.any()):
        return 0
    rest = ~small[labels]
    body = mesh.Bvh(asset.welded_vertices, asset.welded_faces[rest].int())
    ordered, order = labels.sort(stable=True)
    first = order[torch.searchsorted(ordered, small.nonzero()[:, 0])]
    # One face speaks for its component: a small one has at most 0.5 % of the area.
    points = asset.welded_vertices[asset.welded_faces[first]].reshape(-1, 3)
    distance, _, _ = body.closest_point(points)
    far = torch.zeros_like(small)
    far[small] = distance.view(-1, 3).amin(1) > _FLOATING_GAP
    # A brick in a wall, a nail in a board: no corner is near the surface that its edges pass through.
    face = far[labels].nonzero()[:, 0]
    corners = rows(asset.welded_vertices, asset.welded_faces[face])
    begin, edge = corners.reshape(-1, 3), (corners.roll(-1, 1) - corners).reshape(-1, 3)
    long = edge.norm(dim=1) > 0
    away, _, _ = body.ray_cast(begin[long].contiguous(), edge[long].contiguous())
    through = away <= edge[long].norm(dim=1)
    far[labels[face].repeat_interleave(3)[long][through]] = False
    return int(far.sum())


def _edges(asset: Asset, on_axis: torch.Tensor) -> dict[str, Any]:
    faces, vertices = asset.welded_faces, asset.welded_vertices
    tail, head = faces.reshape(-1), faces.roll(-1, 1).reshape(-1)
    low, high = torch.minimum(tail, head), torch.maximum(tail, head)
    key, order = (low * len(vertices) + high).sort(stable=True)
    begin = starts(key).nonzero()[:, 0]
    uses = torch.diff(begin, append=torch.full_like(begin[:1], len(key)))
    pair = begin[uses == 2]
    edge, other = rows(order, pair), rows(order, pair + 1)
    forward = tail < head
    conflict = rows(forward, edge) == rows(forward, other)
    face = order // 3
    a, b = edge // 3, other // 3
    lengths = (rows(vertices, rows(low, edge)).double() - rows(vertices, rows(high, edge)).double()).norm(dim=1)
    return {
        "edges": len(begin),
        "boundary_edge_share": float((uses == 1).double().mean()),
        "non_manifold_edge_share": float((uses > 2).double().mean()),
        "winding_conflict_share": float(conflict.double().mean()) if len(pair) else 0.0,
        "stray_share": _stray(len(faces), face, a, b, begin, uses),
        **_steps(asset, on_axis, rows(low, edge), a, b, lengths),
    }


def _stray(
    faces: int, face: torch.Tensor, a: torch.Tensor, b: torch.Tensor, begin: torch.Tensor, uses: torch.Tensor
) -> float:
    """Share of faces in small patches that hang off an edge of three or more faces and end in the open.

    Such a flap is what a wrongly set flag of the dual grid leaves: a quad that sticks out of the surface.
    """
    many = torch.repeat_interleave(uses > 2, uses)
    if not bool(many.any()):
        return 0.0
    # A patch that counts hangs at a fork, and all of it is reached from there in as many steps as it may have faces; in
    # as many steps a larger one shows more faces than that. So the rest of the mesh need not be looked at.
    near = torch.zeros(faces, dtype=torch.bool, device=face.device)
    near[face[many]] = True
    for _ in range(_STRAY_FACES):
        touched = rows(near, a) | rows(near, b)
        near[a[touched]] = near[b[touched]] = True
    number = near.cumsum(0) - 1
    inside = near[a] & near[b]
    one, other = number[a[inside]], number[b[inside]]
    # Every face takes the least number among its neighbours, as often as a patch may have faces: a patch that counts has
    # one number then. A piece of a larger one may be as small, but an edge leads out of it.
    label = torch.arange(int(near.sum()), device=face.device)
    for _ in range(_STRAY_FACES):
        least = label.scatter_reduce(0, one, label[other], "amin")
        label = least.scatter_reduce(0, other, label[one], "amin")
    size = torch.bincount(label, minlength=len(label))
    counts = (size > 0) & (size <= _STRAY_FACES)
    leads_out = label[one] != label[other]
    counts[label[one[leads_out]]] = counts[label[other[leads_out]]] = False
    boundary = face[begin[uses == 1]]
    ends, forks = torch.zeros_like(counts), torch.zeros_like(counts)
    ends[label[number[boundary[near[boundary]]]]] = True
    forks[label[number[face[many]]]] = True
    return int(size[counts & ends & forks].sum()) / max(1, faces)


def _steps(
    asset: Asset, on_axis: torch.Tensor, end: torch.Tensor, a: torch.Tensor, b: torch.Tensor, lengths: torch.Tensor
) -> dict[str, float]:
    """Length of right-angled edges between faces that both lie on axes, per area: about 1/cell for a voxel surface.

    ``inward_step_density``: of those where the surface turns inward. A stair turns as often in as out, a board only out.

    Args:
        end: one of the two vertices of each edge; a, b: its faces; all [E].
    """
    both = (rows(on_axis, a) & rows(on_axis, b)).nonzero()[:, 0]
    right = both[(asset.normals[a[both]] * asset.normals[b[both]]).sum(1).abs() < 0.1]
    middle = rows(asset.welded_vertices, asset.welded_faces[b[right]]).double().mean(1)
    beyond = middle - rows(asset.welded_vertices, end[right]).double()
    inward = (beyond * asset.normals[a[right]]).sum(1) > 0
    return {
        "step_density": float(lengths[right].sum()) / asset.area,
        "inward_step_density": float(lengths[right][inward].sum()) / asset.area,
    }


def _lattice(asset: Asset) -> float:
    """How well some vertices' coordinates lie on a lattice, whatever its pitch and offset: 1 when all do."""
    used = members(asset.welded_faces, len(asset.welded_vertices))
    chosen = np.random.default_rng(SEED).choice(len(used), min(len(used), 2000), replace=False)
    points = asset.welded_vertices[used[torch.from_numpy(chosen).to(asset.device)]].double()
    counts = torch.arange(8, 257, device=asset.device)
    # |mean exp(2 pi i n x)| is 1 when all coordinates lie on a lattice of pitch 1/n.
    angle = 2 * np.pi * points[..., None] * counts
    coherence = (angle.cos().mean(0).square() + angle.sin().mean(0).square()).sqrt().prod(0)
    return float(np.cbrt(float(coherence.max())))


def _primitive(asset: Asset) -> dict[str, Any]:
    """How much of the surface lies on the bounding box, and how evenly the vertices lie around the centre."""
    vertices = asset.welded_vertices.double()
    used = rows(vertices, members(asset.welded_faces, len(vertices)))
    low, high = used.amin(0), used.amax(0)
    tolerance = 1e-4
    on_box = torch.zeros(len(asset.welded_faces), dtype=torch.bool, device=asset.device)
    for axis in range(3):
        for side in (low[axis], high[axis]):
            on_side = (vertices[:, axis] - side).abs() < tolerance
            if int(on_side.sum()) >= 3:
                a, b, c = rows(on_side, asset.welded_faces).unbind(1)
                on_box |= a & b & c
    radius = ((used - (low + high) / 2) / (high - low).clamp_min(1e-9)).norm(dim=1)
    return {
        "box_share": float(asset.areas[on_box].sum()) / asset.area,
        "sphere_deviation": float(radius.max() - radius.min()),
        "distinct_vertices": len(used),
    }
