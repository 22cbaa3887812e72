"""Statistics of the welded mesh: components, winding, axis-aligned faces, lattice, stray patches, primitives.

Vertices are welded first: textured meshes are split along chart seams, and every chart would count as a component.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import trellis_mesh as mesh

from ..asset import SEED, Asset, Ints, members

# A component is small when it has at most this share of the faces (or this many) and of the area.
_SMALL_FACES, _SMALL_COUNT, _SMALL_AREA = 0.002, 16, 0.005
# A small component floats when it is farther from the rest than this share of the longest side.
_FLOATING_GAP = 0.01
# cos of the angle within which a normal counts as lying on an axis (2 degrees).
_ON_AXIS = np.cos(np.radians(2))
# A stray patch: as many faces, torn off where three or more faces meet (the two triangles of a quad, or two quads).
_STRAY_FACES = 4


def measure(asset: Asset) -> dict[str, Any]:
    """All statistics of this module; only for an asset with a surface."""
    return {
        "faces": len(asset.faces),
        "degenerate_share": 1 - len(asset.solid_faces) / max(1, len(asset.faces)),
        "area": asset.area,
        **_components(asset),
        **_edges(asset),
        **_axes(asset),
        **_primitive(asset),
    }


def _components(asset: Asset) -> dict[str, Any]:
    count, labels = asset.components
    faces = np.bincount(labels, minlength=count)
    area = np.bincount(labels, asset.areas, minlength=count)
    tiny = faces <= max(_SMALL_FACES * len(labels), _SMALL_COUNT)
    small = tiny & (area <= _SMALL_AREA * asset.area)
    # When everything is in pieces nothing is "the rest": the largest piece always is.
    small[np.argmax(area)] = False
    return {
        "components": count,
        "largest_component_share": float(area.max() / asset.area),
        "small_components": int(small.sum()),
        "shattered_share": float(area[small].sum() / asset.area),
        "floaters": _floating(asset, labels, small),
    }


def _floating(asset: Asset, labels: Ints, small: npt.NDArray[np.bool_]) -> int:
    """How many small components lie away from everything that is not small."""
    if not small.any():
        return 0
    rest = ~small[labels]
    vertices = torch.from_numpy(asset.welded_vertices)
    body = mesh.Bvh(vertices, torch.from_numpy(asset.welded_faces[rest].astype(np.int32)))
    order = np.argsort(labels, kind="stable")
    first = order[np.searchsorted(labels[order], np.flatnonzero(small))]
    # One face speaks for its component: a small one has at most 0.5 % of the area.
    points = asset.welded_vertices[asset.welded_faces[first]].reshape(-1, 3)
    distance, _, _ = body.closest_point(torch.from_numpy(points))
    return int((distance.view(-1, 3).amin(1) > _FLOATING_GAP).sum())


def _edges(asset: Asset) -> dict[str, Any]:
    faces = asset.welded_faces
    tail, head = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    low, high = np.minimum(tail, head), np.maximum(tail, head)
    key = low * len(asset.welded_vertices) + high
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0])
    uses = np.diff(np.r_[starts, len(order)])
    forward = (tail < head)[order]
    pair = starts[uses == 2]
    conflict = forward[pair] == forward[pair + 1]
    face = order // 3
    a, b = face[pair], face[pair + 1]
    lengths = np.linalg.norm(
        asset.welded_vertices[low[order[pair]]].astype(np.float64)
        - asset.welded_vertices[high[order[pair]]].astype(np.float64),
        axis=1,
    )
    return {
        "edges": len(starts),
        "boundary_edge_share": float((uses == 1).mean()),
        "non_manifold_edge_share": float((uses > 2).mean()),
        "winding_conflict_share": float(conflict.mean()) if len(pair) else 0.0,
        "stray_share": _stray(len(faces), face, a, b, starts, uses),
        "step_density": _steps(asset, a, b, lengths),
    }


def _stray(faces: int, face: Ints, a: Ints, b: Ints, starts: Ints, uses: Ints) -> float:
    """Share of faces in small patches that hang off an edge of three or more faces and end in the open.

    Such a flap is what a wrongly set flag of the dual grid leaves: a quad that sticks out of the surface.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    many = np.repeat(uses > 2, uses)
    if not many.any():
        return 0.0
    # A patch that counts hangs at a fork, and all of it is reached from there in as many steps as it may have faces; in
    # as many steps a larger one shows more faces than that. So the rest of the mesh need not be looked at.
    near = np.zeros(faces, bool)
    near[face[many]] = True
    for _ in range(_STRAY_FACES):
        touched = near[a] | near[b]
        near[a[touched]] = near[b[touched]] = True
    number = np.cumsum(near) - 1
    inside = near[a] & near[b]
    n = int(near.sum())
    graph = coo_matrix(
        (np.ones(np.count_nonzero(inside), np.int8), (number[a[inside]], number[b[inside]])), shape=(n, n)
    )
    count, label = connected_components(graph, directed=False)
    size = np.bincount(label, minlength=count)
    open_, forked = np.zeros(count, bool), np.zeros(count, bool)
    boundary = face[starts[uses == 1]]
    open_[label[number[boundary[near[boundary]]]]] = True
    forked[label[number[face[many]]]] = True
    return float(size[(size <= _STRAY_FACES) & open_ & forked].sum() / max(1, faces))


def _steps(asset: Asset, a: Ints, b: Ints, lengths: npt.NDArray[np.float64]) -> float:
    """Length of right-angled edges between faces that both lie on axes, per area: about 1/cell for a voxel surface."""
    on_axis = np.abs(asset.normals).max(1) > _ON_AXIS
    right = on_axis[a] & on_axis[b] & (np.abs((asset.normals[a] * asset.normals[b]).sum(1)) < 0.1)
    return float(lengths[right].sum() / asset.area)


def _axes(asset: Asset) -> dict[str, Any]:
    on_axis = np.abs(asset.normals).max(1) > _ON_AXIS
    random = np.random.default_rng(SEED)
    used = members(asset.welded_faces, len(asset.welded_vertices))
    chosen = random.choice(used, min(len(used), 2000), replace=False)
    points = asset.welded_vertices[chosen].astype(np.float64)
    counts = np.arange(8, 257)
    # |mean exp(2 pi i n x)| is 1 when all coordinates lie on a lattice of pitch 1/n, whatever its offset.
    best = 0.0
    coherence = np.ones(len(counts))
    for axis in range(3):
        phase = np.exp(2j * np.pi * points[:, axis, None] * counts)
        coherence *= np.abs(phase.mean(0))
    best = float(np.cbrt(coherence.max()))
    return {
        "axis_aligned_share": float(asset.areas[on_axis].sum() / asset.area),
        "lattice_coherence": best,
    }


def _primitive(asset: Asset) -> dict[str, Any]:
    """How much of the surface lies on the bounding box, and how evenly the vertices lie around the centre."""
    vertices = asset.welded_vertices.astype(np.float64)
    used = vertices[members(asset.welded_faces, len(vertices))]
    low, high = used.min(0), used.max(0)
    tolerance = 1e-4
    on_box = np.zeros(len(asset.welded_faces), bool)
    for axis in range(3):
        for side in (low[axis], high[axis]):
            on_side = np.abs(vertices[:, axis] - side) < tolerance
            if np.count_nonzero(on_side) >= 3:
                on_box |= on_side[asset.welded_faces].all(1)
    radius = np.linalg.norm((used - (low + high) / 2) / np.maximum(high - low, 1e-9), axis=1)
    return {
        "box_share": float(asset.areas[on_box].sum() / asset.area),
        "sphere_deviation": float(radius.max() - radius.min()),
        "distinct_vertices": len(used),
    }
