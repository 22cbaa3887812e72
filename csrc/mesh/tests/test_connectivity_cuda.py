"""Connectivity and cleaning on CUDA against the CPU: the same integers, orders and selections, run after run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import trellis_mesh as mesh
from trellis_mesh._cleaning import _component_sizes, weld_vertices
from trellis_mesh._normals import _vertex_corners
from trellis_native.testing import bits

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

Mesh = tuple[torch.Tensor, torch.Tensor]


def grid(n: int, seed: int = 0) -> Mesh:
    """A wavy sheet of 2 n^2 faces in random order with random turns, holes, and doubled and improper faces."""
    g = torch.Generator().manual_seed(seed)
    index = torch.arange((n + 1) ** 2, dtype=torch.int32).view(n + 1, n + 1)
    corners = [c.reshape(-1) for c in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])]
    f = torch.cat([torch.stack([corners[i] for i in t], 1) for t in ((0, 1, 2), (0, 2, 3))])
    x, y = torch.meshgrid(torch.linspace(-1, 1, n + 1), torch.linspace(-1, 1, n + 1), indexing="ij")
    v = torch.stack([x, y, 0.2 * torch.sin(7 * x * y)], -1).view(-1, 3)
    f = f[torch.rand(len(f), generator=g) > 0.02]
    turned = torch.rand(len(f), generator=g) < 0.3
    f = torch.where(turned[:, None], f[:, [1, 0, 2]], f)
    again = f[torch.randint(len(f), (len(f) // 50 + 1,), generator=g)][:, [2, 0, 1]]
    improper = again[:, [0, 0, 1]]
    f = torch.cat([f, again, improper])
    return v, f[torch.randperm(len(f), generator=g)].contiguous()


def soup(num_faces: int, num_vertices: int, seed: int = 0) -> Mesh:
    """Random faces over few vertices: edges of many faces, fans that touch, surfaces with one side."""
    g = torch.Generator().manual_seed(seed)
    v = torch.randint(-2, 3, (num_vertices, 3), generator=g).float()
    v[::7] *= -1  # zeros of both signs
    v[3::11, 1] = float("nan")
    return v, torch.randint(num_vertices, (num_faces, 3), generator=g, dtype=torch.int32)


def moebius(n: int) -> Mesh:
    """A band with one side, n quads long: whichever way its faces are turned, edges disagree."""
    a = torch.arange(n, dtype=torch.int32)
    b = (a + 1) % n
    last = a == n - 1  # the ends of the last rung change places
    c, d = torch.where(last, n + b, b), torch.where(last, b, n + b)
    f = torch.stack([torch.stack([a, c, a + n], 1), torch.stack([c, d, a + n], 1)], 1).view(-1, 3)
    angle = torch.linspace(0, 2 * torch.pi, n + 1)[:-1]
    rim = torch.stack([angle.cos(), angle.sin(), torch.zeros(n)], 1)
    return torch.cat([rim, rim * 1.1]), f


def fan(n: int) -> Mesh:
    """n faces around one vertex."""
    rim = torch.arange(1, n + 1, dtype=torch.int32)
    return torch.randn(n + 1, 3, generator=torch.Generator().manual_seed(0)), torch.stack(
        [torch.zeros_like(rim), rim, rim.roll(-1)], 1
    )


def joined(*parts: Mesh) -> Mesh:
    vertices, faces, count = [], [], 0
    for v, f in parts:
        vertices.append(v)
        faces.append(f + count)
        count += len(v)
    return torch.cat(vertices), torch.cat(faces)


def many_parts(n: int) -> Mesh:
    """n tetrahedra of random sizes, some at the same places, and one surface that is larger than all of them."""
    g = torch.Generator().manual_seed(1)
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    sizes = torch.rand(n, 1, 1, generator=g).double().pow(8).float()
    places = torch.randint(0, 8, (n, 1, 3), generator=g).float()
    v = (corners * sizes + places).view(-1, 3)
    f = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    f = (f + 4 * torch.arange(n, dtype=torch.int32)[:, None, None]).view(-1, 3)
    return joined((v, f), grid(12))


NOTHING: Mesh = (torch.zeros(3, 3), torch.zeros((0, 3), dtype=torch.int32))
SMALL: dict[str, Callable[[], Mesh]] = {
    "no faces": lambda: NOTHING,
    "one face": lambda: (torch.eye(3), torch.tensor([[2, 0, 1]], dtype=torch.int32)),
    "improper": lambda: (torch.eye(3), torch.tensor([[1, 1, 1], [0, 0, 2]], dtype=torch.int32)),
    "grid": lambda: grid(11),
    "block and one": lambda: soup(257, 40),
    "soup": lambda: soup(60, 9, seed=3),
    "contradictions": lambda: soup(44, 12, seed=1),
    "moebius": lambda: moebius(9),
    "parts": lambda: many_parts(40),
}
LARGE: dict[str, Callable[[], Mesh]] = {
    "large grid": lambda: grid(400),
    "large soup": lambda: soup(200_000, 60_000),
    "large moebius": lambda: joined(moebius(50_000), grid(50), moebius(7)),
    "large fan": lambda: fan(100_000),
    "large parts": lambda: many_parts(30_000),
}
CASES = [*[(f"small-{k}", m) for k, m in SMALL.items()], *LARGE.items()]


def cleaned(v: torch.Tensor, f: torch.Tensor) -> Any:
    """What the operations make of a mesh, as tensors and plain values, on the CPU."""
    finite = v.nan_to_num(7.0)
    return {
        "edges": mesh.edges(f),
        "boundary_edges": mesh.boundary_edges(f),
        "components": mesh.connected_components(f, len(v)),
        "corners": _vertex_corners(f, len(v)),
        "weld": weld_vertices(v),
        "unique": mesh.remove_duplicate_faces(v, f),
        "welded": mesh.remove_duplicate_vertices(v, f),
        "split": mesh.repair_non_manifold_edges(v, f),
        "majority": mesh.unify_orientation(v, f),
        "outward": mesh.unify_orientation(finite, f, outward=True),
        "filled": mesh.fill_holes(finite, f, max_perimeter=3.0),
        "fraction": mesh.remove_small_components(finite, f, min_fraction=0.05)[1],
        "area": mesh.remove_small_components(finite, f, min_area=0.01, weld=False)[1],
    }


def with_report(value: Any) -> Any:
    """Results of operations as tuples that hold their report too."""
    if isinstance(value, mesh.MeshResult):
        return (*value, value.report)
    return {k: with_report(x) for k, x in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(("name", "make"), CASES, ids=[name for name, _ in CASES])
def test_results_are_those_of_the_cpu(name: str, make: Callable[[], Mesh]) -> None:
    v, f = make()
    ours, cpu = with_report(cleaned(v.cuda(), f.cuda())), with_report(cleaned(v, f))
    different = [key for key in cpu if bits(ours[key]) != bits(cpu[key])]
    assert not different, f"{name}: {different} differ from the CPU's"


@pytest.mark.parametrize("make", [LARGE["large parts"], LARGE["large soup"]])
def test_results_are_the_same_bits_every_time_and_on_any_stream(make: Callable[[], Mesh]) -> None:
    v, f = (x.cuda() for x in make())
    expected = bits(with_report(cleaned(v, f)))
    for _ in range(3):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            again = with_report(cleaned(v, f))
        stream.synchronize()
        assert bits(again) == expected


@pytest.mark.parametrize("make", [SMALL["parts"], LARGE["large parts"], LARGE["large grid"]])
def test_sizes_of_components(make: Callable[[], Mesh]) -> None:
    v, f = make()
    count, labels = mesh.connected_components(f, len(v))
    cpu = _component_sizes(v, f, labels, count)
    ours = _component_sizes(v.cuda(), f.cuda(), labels.cuda(), count)
    assert torch.equal(ours[0].cpu(), cpu[0])
    assert torch.equal(ours[2].cpu(), cpu[2]) and torch.equal(ours[3].cpu(), cpu[3])
    # The CPU adds doubles one after another; the device's sum is exact but for the last step.
    torch.testing.assert_close(ours[1].cpu(), cpu[1], rtol=1e-12, atol=1e-20)


def test_areas_that_are_not_finite_do_not_count() -> None:
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [float("nan"), 0, 0], [float("inf"), 0, 0]])
    f = torch.tensor([[0, 1, 2], [0, 1, 3]], dtype=torch.int32)
    labels = torch.tensor([0, 0], dtype=torch.int32)
    counts, areas, lows, highs = _component_sizes(v.cuda(), f.cuda(), labels.cuda(), 1)
    assert counts.tolist() == [2] and areas.tolist() == [0.5]
    assert lows.tolist() == [[0, 0, 0]] and highs.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("weighting", ["angle", "area"])
def test_normals(weighting: str) -> None:
    v, f = grid(60)
    ours, cpu = (
        mesh.vertex_normals(v.cuda(), f.cuda(), weighting=weighting),
        mesh.vertex_normals(v, f, weighting=weighting),
    )
    torch.testing.assert_close(ours.cpu(), cpu, rtol=0, atol=1e-6)
    normals, leaders = mesh.corner_normals(v.cuda(), f.cuda(), crease_angle=20.0)
    torch.testing.assert_close(normals.cpu(), mesh.corner_normals(v, f, crease_angle=20.0)[0], rtol=0, atol=1e-6)
    at = leaders.view(-1).long()
    assert torch.equal(normals.view(-1, 3)[at], normals.view(-1, 3))
    assert torch.equal(f.cuda().view(-1)[at], f.cuda().view(-1))


@pytest.mark.parametrize("count", [0, 1, 257, 60_000], ids=lambda n: f"small-{n}" if n < 300 else str(n))
def test_faces_without_area_are_those_of_the_cpu(count: int) -> None:
    g = torch.Generator().manual_seed(count)
    v = torch.randn(80, 3, generator=g) * 10.0 ** torch.randint(-9, 1, (80, 3), generator=g)
    v = torch.cat([v, v.flip(0), torch.full((1, 3), torch.nan)])  # each place twice
    f = torch.randint(len(v), (count, 3), generator=g)
    assert torch.equal(mesh.face_normals(v.cuda(), f.cuda()).cpu(), mesh.face_normals(v, f))
    ours, cpu = mesh.remove_degenerate_faces(v.cuda(), f.cuda()), mesh.remove_degenerate_faces(v, f)
    assert bits([ours.faces, ours.vertices]) == bits([cpu.faces, cpu.vertices])
    assert len(cpu.faces) < count or count < 2


def test_indices_out_of_range_are_refused() -> None:
    v, f = torch.zeros(3, 3).cuda(), torch.tensor([[0, 1, 3]], dtype=torch.int32).cuda()
    for operation in (mesh.remove_duplicate_faces, mesh.repair_non_manifold_edges, mesh.unify_orientation):
        with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 3\), got 0 to 3"):
            operation(v, f)
