"""A bounding volume hierarchy over the triangles of a mesh: closest points and rays."""

from __future__ import annotations

import math

import torch
from trellis_native import check

from ._library import EXTENSION, OPS, call_with_scratch

_WIDTH = 8  # children of a node, triangles of a leaf: bvh_width of src/bvh.hpp


def _tree_sizes(num_faces: int) -> tuple[int, int]:
    """Numbers of leaves and of nodes of the tree over `num_faces` faces."""
    leaves = -(-num_faces // _WIDTH)
    level, nodes = leaves, 0
    while level > 1 or nodes == 0:
        level = -(-level // _WIDTH)
        nodes += level
    return leaves, nodes


@OPS.define("bvh_build(Tensor vertices, Tensor faces) -> (Tensor, Tensor, Tensor)")
def _build(vertices: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    device, count = vertices.device, len(faces)
    finite = vertices.isfinite().all(1, keepdim=True)
    low = torch.where(finite, vertices, torch.inf).amin(0)
    high = torch.where(finite, vertices, -torch.inf).amax(0)
    keys = torch.empty(count, dtype=torch.int64, device=device)
    EXTENSION.call("bvh_keys", vertices, faces, count, torch.cat([low, high]), keys, device=device)
    order = torch.empty(count, dtype=torch.int32, device=device)
    call_with_scratch("bvh_order", vertices, faces, count, keys, order, device=device)
    nodes, leaves, ids = _allocate(vertices, count)
    EXTENSION.call("bvh_fill", vertices, faces, count, order, leaves, ids, nodes, device=device)
    return nodes, leaves, ids


def _allocate(like: torch.Tensor, num_faces: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    num_leaves, num_nodes = _tree_sizes(num_faces)
    return (
        like.new_empty(num_nodes, 2, 3, _WIDTH),
        like.new_empty(num_leaves, 3, 3, _WIDTH),
        like.new_empty(num_leaves, _WIDTH, dtype=torch.int32),
    )


@OPS.fake("bvh_build")
def _(vertices: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _allocate(vertices, len(faces))


def _hit_outputs(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n = len(like)
    return like.new_empty(n), like.new_empty(n, dtype=torch.int64), like.new_empty(n, 3)


_TREE = "Tensor nodes, Tensor leaves, Tensor ids, int num_faces"


@OPS.define(f"bvh_closest_point({_TREE}, Tensor points, float max_distance) -> (Tensor, Tensor, Tensor)")
def _closest_point(
    nodes: torch.Tensor,
    leaves: torch.Tensor,
    ids: torch.Tensor,
    num_faces: int,
    points: torch.Tensor,
    max_distance: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    out = _hit_outputs(points)
    call_with_scratch(
        "bvh_closest_point",
        nodes,
        leaves,
        ids,
        num_faces,
        points,
        len(points),
        max_distance,
        *out,
        device=points.device,
    )
    return out


@OPS.fake("bvh_closest_point")
def _(
    nodes: torch.Tensor,
    leaves: torch.Tensor,
    ids: torch.Tensor,
    num_faces: int,
    points: torch.Tensor,
    max_distance: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _hit_outputs(points)


@OPS.define(
    f"bvh_ray_cast({_TREE}, Tensor origins, Tensor directions, float t_min, float t_max) -> (Tensor, Tensor, Tensor)"
)
def _ray_cast(
    nodes: torch.Tensor,
    leaves: torch.Tensor,
    ids: torch.Tensor,
    num_faces: int,
    origins: torch.Tensor,
    directions: torch.Tensor,
    t_min: float,
    t_max: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    out = _hit_outputs(origins)
    arguments = (nodes, leaves, ids, num_faces, origins, directions, len(origins), t_min, t_max, *out)
    call_with_scratch("bvh_ray_cast", *arguments, device=origins.device)
    return out


@OPS.fake("bvh_ray_cast")
def _(
    nodes: torch.Tensor,
    leaves: torch.Tensor,
    ids: torch.Tensor,
    num_faces: int,
    origins: torch.Tensor,
    directions: torch.Tensor,
    t_min: float,
    t_max: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _hit_outputs(origins)


@OPS.define(f"bvh_count_hits({_TREE}, Tensor origins, Tensor directions, float t_min, float t_max) -> Tensor")
def _count_hits(
    nodes: torch.Tensor,
    leaves: torch.Tensor,
    ids: torch.Tensor,
    num_faces: int,
    origins: torch.Tensor,
    directions: torch.Tensor,
    t_min: float,
    t_max: float,
) -> torch.Tensor:
    count = origins.new_empty(len(origins), dtype=torch.int32)
    arguments = (nodes, leaves, ids, num_faces, origins, directions, len(origins), t_min, t_max, count)
    call_with_scratch("bvh_count_hits", *arguments, device=origins.device)
    return count


@OPS.fake("bvh_count_hits")
def _(
    nodes: torch.Tensor,
    leaves: torch.Tensor,
    ids: torch.Tensor,
    num_faces: int,
    origins: torch.Tensor,
    directions: torch.Tensor,
    t_min: float,
    t_max: float,
) -> torch.Tensor:
    return origins.new_empty(len(origins), dtype=torch.int32)


class Bvh:
    """A tree of boxes over the triangles of a mesh, for exact closest-point and ray queries.

    A packed tree of fan-out 8 along a Hilbert curve (Kamel and Faloutsos, "On Packing R-trees", 1993); it lies in
    three tensors on the device of the mesh, takes about 43 bytes a face, and keeps no reference to the mesh. Faces with
    a corner that is not finite are never found; faces without area count as the segments or points that they are.

    Results are the same bits for any number of threads and any order of the queries.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3], F at least 1.

    Raises:
        ValueError: no faces, or an index out of range.
    """

    def __init__(self, vertices: torch.Tensor, faces: torch.Tensor) -> None:
        v, f = check.mesh(vertices, faces)
        if len(f) == 0:
            raise ValueError("faces: expected at least one face, got a mesh without faces")
        if len(f) > 2**31 - 1:
            raise ValueError(f"faces: expected fewer than 2^31 faces, got {len(f)}")
        self.num_faces = len(f)
        tree: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = _build(v, f)
        self.nodes, self.leaves, self.ids = tree

    @property
    def device(self) -> torch.device:
        """Where the tree lies, and where its queries must."""
        return self.nodes.device

    @property
    def bounds(self) -> torch.Tensor:
        """float32 [2, 3]: lowest and highest coordinates of the faces (inf, -inf where none has finite corners)."""
        root = self.nodes[-1]
        return torch.stack([root[0].amin(1), root[1].amax(1)])

    def closest_point(
        self, points: torch.Tensor, max_distance: float | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The face closest to each point.

        Distances are computed in double precision and rounded. Of faces at equal distance (as float32) the one of
        smallest index is returned.

        Args:
            points: float32 [P, 3], on the device of the mesh.
            max_distance: look no farther than this; None for no limit.

        Returns:
            distance float32 [P], face index int64 [P], and barycentric coordinates float32 [P, 3] of the closest
            point (non-negative, sum 1). Nothing within `max_distance`: inf, -1, zeros. A point that is not finite: NaN,
            -1, zeros.

        Source: Ericson, Real-Time Collision Detection (2005), section 5.1.5.
        """
        p = self._rays("points", points)
        limit = math.inf if max_distance is None else check.number("max_distance", max_distance, minimum=0.0)
        distance, face, barycentric = _closest_point(self.nodes, self.leaves, self.ids, self.num_faces, p, limit)
        return distance, face, barycentric

    def ray_cast(
        self, origins: torch.Tensor, directions: torch.Tensor, *, t_min: float = 0.0, t_max: float | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The first face that each ray meets, from either side.

        Watertight: no ray passes between two faces that share an edge. Of faces met at equal distance (as float32) the
        one of smallest index is returned.

        Args:
            origins: float32 [R, 3], on the device of the mesh.
            directions: float32 [R, 3], of any length but zero.
            t_min: ignore what is nearer than this distance.
            t_max: ignore what is farther; None for no limit.

        Returns:
            distance float32 [R] (in the mesh's units, whatever the length of the direction), face index int64 [R], and
            barycentric coordinates float32 [R, 3] of the hit. No hit: inf, -1, zeros. A ray that is not finite or has
            no direction: NaN, -1, zeros.

        Source: Woop, Benthin, Wald, "Watertight Ray/Triangle Intersection", JCGT 2(1), 2013.
        """
        o, d, low, high = self._ray_arguments(origins, directions, t_min, t_max)
        distance, face, barycentric = _ray_cast(self.nodes, self.leaves, self.ids, self.num_faces, o, d, low, high)
        return distance, face, barycentric

    def count_hits(
        self, origins: torch.Tensor, directions: torch.Tensor, *, t_min: float = 0.0, t_max: float | None = None
    ) -> torch.Tensor:
        """How many faces each ray crosses: int32 [R], -1 for a ray that is not finite or has no direction.

        A ray that meets an edge or corner exactly counts as many of the faces there as a ray beside it would, so for a
        closed mesh an odd count means that the origin is inside. Arguments as for `ray_cast`.
        """
        o, d, low, high = self._ray_arguments(origins, directions, t_min, t_max)
        count: torch.Tensor = _count_hits(self.nodes, self.leaves, self.ids, self.num_faces, o, d, low, high)
        return count

    def _rays(self, name: str, value: torch.Tensor) -> torch.Tensor:
        rows = check.tensor(name, value, dtype=torch.float32, shape=["N", 3], like=self.nodes)
        if len(rows) > 2**31 - 1:
            raise ValueError(f"{name}: expected fewer than 2^31 rows, got {len(rows)}")
        return rows

    def _ray_arguments(
        self, origins: torch.Tensor, directions: torch.Tensor, t_min: float, t_max: float | None
    ) -> tuple[torch.Tensor, torch.Tensor, float, float]:
        o, d = self._rays("origins", origins), self._rays("directions", directions)
        if len(o) != len(d):
            raise ValueError(f"directions: expected {len(o)} rows like origins, got {len(d)}")
        low = check.number("t_min", t_min, minimum=0.0)
        high = math.inf if t_max is None else check.number("t_max", t_max, minimum=0.0)
        return o, d, low, high
