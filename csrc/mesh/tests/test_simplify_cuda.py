"""Simplification on CUDA beside the CPU path, with the same bits every time. Its promises: test_simplify.py, on both."""

from __future__ import annotations

import pytest
import test_simplify as shapes
import torch
from trellis_mesh import Bvh, MeshResult, SimplifyReport, simplify
from trellis_native.testing import bits

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def rough(level: int) -> tuple[torch.Tensor, torch.Tensor]:
    v, f = shapes.sphere(level)
    noise = torch.rand(len(v), 1, generator=torch.Generator().manual_seed(0))
    return (v * (1 + 0.1 * torch.sin(9 * v[:, :1]) + 0.01 * noise)).cuda(), f.cuda()


def soup() -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles among few points: edges of many faces, faces upon faces, faces without area."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randint(0, 6, (150, 3), generator=generator).float().cuda()
    return v, torch.randint(0, 150, (900, 3), generator=generator, dtype=torch.int32).cuda()


def all_of(result: MeshResult[SimplifyReport]) -> tuple[object, ...]:
    r = result.report
    return (
        *result,
        r.vertex_map,
        *(r.faces_after, r.rounds, r.collapses, r.topology_changes, r.deviation, r.error_bound, r.quadric_error),
    )


def poison(byte: int) -> None:
    """Leaves this byte all over the memory that the next call is given."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    junk = [torch.full((size,), byte, dtype=torch.uint8, device="cuda") for size in [1 << 28, *[1 << 20] * 16]]
    torch.cuda.synchronize()
    del junk


@pytest.mark.parametrize("make", [lambda: rough(6), soup], ids=["rough", "soup"])
def test_same_bits_every_time_whatever_the_memory_held(make: object) -> None:
    v, f = make()  # type: ignore[operator]
    results = []
    for byte in (0, 255, 127, 1):
        poison(byte)
        results.append([bits(x) for x in all_of(simplify(v, f, target_faces=len(f) // 9))])
    assert results[1:] == results[:-1]


def test_on_another_stream() -> None:
    v, f = rough(5)
    want = [bits(x) for x in all_of(simplify(v, f, target_faces=1500))]
    late = torch.zeros_like(v)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        busy = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):  # so that a call on the wrong stream would find zeros
            busy = busy @ busy.softmax(0)
        late.copy_(v)
        got = [bits(x) for x in all_of(simplify(late, f, target_faces=1500))]
    assert got == want


def mean_distance(points: torch.Tensor, result: MeshResult[SimplifyReport]) -> float:
    return float(Bvh(*result).closest_point(points)[0].mean())


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_as_good_as_on_the_cpu(share: float) -> None:
    v, f = rough(6)
    target = int(len(f) * share)
    there = simplify(v, f, target_faces=target)
    here = simplify(v.cpu(), f.cpu(), target_faces=target)
    assert abs(len(there.faces) - len(here.faces)) <= 1
    points = v.cpu()[f.cpu().long()].mean(1)
    on_cpu = MeshResult(there.vertices.cpu(), there.faces.cpu(), there.report)
    assert mean_distance(points, on_cpu) <= 1.03 * mean_distance(points, here)
    assert float(shapes.quality(*on_cpu).mean()) >= float(shapes.quality(*here).mean()) - 0.005
    assert there.report.deviation <= 1.5 * here.report.deviation
    assert there.report.topology_changes == here.report.topology_changes == 0


@pytest.mark.parametrize("spokes", [3, 15, 16, 31, 32, 33, 63, 64, 65, 300])
def test_small_rings_of_any_size(spokes: int) -> None:
    # Two cones base to base: their tips have this many neighbours. Rings of more than 32 are built another way.
    angle = 2 * torch.pi * torch.arange(spokes) / spokes
    rim = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    v = torch.cat([torch.tensor([[0, 0, 1.0], [0, 0, -1]]), rim])
    i = torch.arange(spokes) + 2
    f = torch.cat([torch.stack([0 * i, i, i.roll(-1)], 1), torch.stack([0 * i + 1, i.roll(-1), i], 1)])
    target = max(4, spokes)
    result = simplify(v.cuda(), f.cuda(), target_faces=target)
    assert target - 1 <= len(result.faces) <= target
    got = MeshResult(result.vertices.cpu(), result.faces.cpu(), result.report)
    assert shapes.euler(*got) == 2
    shapes.assert_manifold(got.faces)


@pytest.mark.parametrize("cells", [1, 2, 7, 8, 15, 16, 23])
def test_small_grids(cells: int) -> None:
    v, f = shapes.grid(cells)
    target = max(2, len(f) // 2)
    result = simplify(v.cuda(), f.cuda(), target_faces=target)
    assert len(result.faces) <= target and result.report.topology_changes == 0
    area = torch.linalg.cross(
        *(result.vertices[result.faces[:, i].long()] - result.vertices[result.faces[:, 0].long()] for i in (1, 2))
    )[:, 2].double()
    assert float(area.min()) > 0 and float(area.sum()) / 2 == pytest.approx(1, abs=1e-4)


def test_small_soup_and_loose_triangles() -> None:
    v, f = soup()
    result = simplify(v, f, target_faces=80)
    assert 72 <= len(result.faces) <= 80 and bool(result.vertices.isfinite().all())
    loose = simplify(torch.rand(300, 3).cuda(), torch.arange(300).view(-1, 3).cuda(), target_faces=10)
    assert 9 <= len(loose.faces) <= 10 and loose.report.topology_changes > 0


def test_a_single_triangle_and_none() -> None:
    v = torch.eye(3).cuda()
    one = torch.tensor([[0, 1, 2]], dtype=torch.int32).cuda()
    assert torch.equal(simplify(v, one, target_faces=1).faces, one)
    twice = torch.cat([one, one])  # no collapse takes just one of them
    assert torch.equal(simplify(v, twice, target_faces=1).faces, twice)
    assert simplify(v, one[:0], target_faces=1).faces.shape == (0, 3)
    improper = torch.zeros((5, 3), dtype=torch.int32).cuda()
    assert simplify(v, improper, target_faces=1).faces.shape == (0, 3)
