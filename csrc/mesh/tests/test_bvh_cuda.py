"""The tree on CUDA against the CPU: the same bits of distances, faces and weights, whatever the shape of the tree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import trimesh
from trellis_mesh import Bvh
from trellis_native.testing import bits

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

Mesh = tuple[torch.Tensor, torch.Tensor]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ball(subdivisions: int) -> Mesh:
    mesh = trimesh.creation.icosphere(subdivisions)
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int32)


def soup(count: int, size: float, scale: float = 1.0) -> Mesh:
    g = generator(count)
    centres = torch.rand(count, 1, 3, generator=g)
    v = (centres + size * torch.randn(count, 3, 3, generator=g)).view(-1, 3) * scale
    return v, torch.arange(3 * count, dtype=torch.int32).view(-1, 3)


def lattice(n: int) -> Mesh:
    """Faces on whole numbers: many at the very same distance from a point."""
    index = torch.arange((n + 1) ** 2, dtype=torch.int32).view(n + 1, n + 1)
    corners = [c.reshape(-1) for c in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])]
    f = torch.cat([torch.stack([corners[i] for i in t], 1) for t in ((0, 1, 2), (0, 2, 3))])
    x, y = torch.meshgrid(torch.arange(n + 1.0), torch.arange(n + 1.0), indexing="ij")
    v = torch.stack([x, y, torch.zeros_like(x)], -1).view(-1, 3)
    return v, f[torch.randperm(len(f), generator=generator(n))].contiguous()


def damaged(count: int) -> Mesh:
    """Slivers, points, segments, and corners that are no numbers or not finite."""
    v, f = soup(count, 0.1)
    triangles = v.view(-1, 3, 3)
    triangles[::5, 2] = triangles[::5, 1]
    triangles[1::5, 1:] = triangles[1::5, :1]
    triangles[2::5, 2] = 0.3 * triangles[2::5, 0] + 0.7 * triangles[2::5, 1]
    triangles[3::25, 0, 1] = float("nan")
    triangles[4::25, 1, 0] = float("inf")
    return v, f


MESHES: dict[str, Callable[[], Mesh]] = {
    "small-one": lambda: soup(1, 0.3),
    "small-leaf": lambda: soup(8, 0.3),
    "small-leaf and one": lambda: soup(9, 0.3),
    "small-node and one": lambda: soup(65, 0.3),
    "small-damaged": lambda: damaged(300),
    "small-lattice": lambda: lattice(6),
    "small-nothing finite": lambda: (torch.full((3, 3), float("nan")), torch.tensor([[0, 1, 2]], dtype=torch.int32)),
    "soup": lambda: soup(30_000, 0.02),
    "long": lambda: soup(2_000, 1.0),
    "tiny": lambda: soup(3_000, 0.1, 1e-24),
    "huge": lambda: soup(3_000, 0.1, 1e22),
    "lattice": lambda: lattice(90),
    "damaged": lambda: damaged(20_000),
    "ball": lambda: ball(6),
}


def queries(v: torch.Tensor, count: int) -> torch.Tensor:
    """Points around, on and far from a mesh, corners of it, whole numbers, and points that are not finite."""
    g = generator(7)
    usable = v[v.isfinite().all(1)]
    if not len(usable):
        usable = torch.zeros(1, 3)
    size = (usable.amax(0) - usable.amin(0)).max()
    at = usable[torch.randint(len(usable), (count,), generator=g)]
    spread = size * 10.0 ** (-4 * torch.rand(count, 1, generator=g) + 0.5)
    points = at + spread * torch.randn(count, 3, generator=g)
    points[::6] = at[::6]
    points[1::6] = points[1::6].round()
    points[2::50] = points[2::50] * 1000
    points[3::97, 1] = float("nan")
    points[4::97, 2] = -float("inf")
    return points


@pytest.mark.parametrize("limit", [None, 0.05])
@pytest.mark.parametrize("name", sorted(MESHES))
def test_closest_points_are_those_of_the_cpu(name: str, limit: float | None) -> None:
    v, f = MESHES[name]()
    points = queries(v, 500 if name.startswith("small") else 20_000)
    cpu = Bvh(v, f).closest_point(points, limit)
    ours = Bvh(v.cuda(), f.cuda()).closest_point(points.cuda(), limit)
    assert torch.equal(ours[1].cpu(), cpu[1])
    for one, other in zip(ours, cpu, strict=True):
        assert bits(one) == bits(other)


@pytest.mark.parametrize("name", sorted(MESHES))
def test_rays_are_those_of_the_cpu(name: str) -> None:
    v, f = MESHES[name]()
    count = 500 if name.startswith("small") else 20_000
    origins = queries(v, count)
    directions = queries(v, count).flip(0) - origins.nan_to_num(0.0, 0.0, 0.0)
    directions[::7, :2] = 0  # along an axis
    directions[5::101] = 0
    cpu, ours = Bvh(v, f), Bvh(v.cuda(), f.cuda())
    for low, high in ((0.0, None), (0.1, 2.0)):
        for one, other in zip(
            ours.ray_cast(origins.cuda(), directions.cuda(), t_min=low, t_max=high),
            cpu.ray_cast(origins, directions, t_min=low, t_max=high),
            strict=True,
        ):
            assert bits(one) == bits(other)
        hits = ours.count_hits(origins.cuda(), directions.cuda(), t_min=low, t_max=high)
        assert torch.equal(hits.cpu(), cpu.count_hits(origins, directions, t_min=low, t_max=high))


def test_every_face_is_in_the_tree_once_and_boxes_hold_what_is_below_them() -> None:
    v, f = soup(5_003, 0.05)
    tree, cpu = Bvh(v.cuda(), f.cuda()), Bvh(v, f)
    ids = tree.ids.view(-1)
    assert torch.equal(ids[ids >= 0].sort().values.cpu(), torch.arange(len(f), dtype=torch.int32))
    leaves = tree.leaves.transpose(1, 3)  # [leaf, lane, axis, corner]
    assert torch.equal(
        leaves.reshape(-1, 3, 3)[ids >= 0].cpu(), v[f[ids[ids >= 0].cpu().long()].long()].transpose(1, 2)
    )
    low = tree.leaves.nan_to_num(torch.inf).amin((1, 3))
    lowest = tree.nodes[: -(-len(tree.leaves) // 8), 0].transpose(1, 2).reshape(-1, 3)[: len(low)]
    assert torch.equal(lowest, low)
    assert torch.equal(tree.bounds.cpu(), cpu.bounds)


def test_same_bits_every_time_and_on_any_stream() -> None:
    v, f = (x.cuda() for x in soup(20_000, 0.02))
    points = queries(v.cpu(), 30_000).cuda()
    tree = Bvh(v, f)
    expected = bits((tree.nodes, tree.leaves, tree.ids, *tree.closest_point(points), *tree.ray_cast(points, -points)))
    for _ in range(3):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            other = Bvh(v, f)
            again = (
                other.nodes,
                other.leaves,
                other.ids,
                *other.closest_point(points),
                *other.ray_cast(points, -points),
            )
        stream.synchronize()
        assert bits(again) == expected


def test_no_queries() -> None:
    tree = Bvh(*(x.cuda() for x in soup(100, 0.1)))
    none = torch.zeros(0, 3).cuda()
    assert [len(x) for x in tree.closest_point(none)] == [0, 0, 0]
    assert [len(x) for x in tree.ray_cast(none, none)] == [0, 0, 0]
    assert len(tree.count_hits(none, none)) == 0
