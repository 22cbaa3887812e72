"""Closing holes: every simple loop, in agreement with its neighbours, and nothing else."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trellis_mesh import _holes, boundary_edges, connected_components, fill_holes
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count

FEW = settings(deadline=None, max_examples=60)
ANY = 1e9
CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)


def as_mesh(mesh: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32), torch.tensor(np.asarray(mesh.faces)).int()


def without(f: torch.Tensor, gone: object) -> torch.Tensor:
    keep = torch.ones(len(f), dtype=torch.bool)
    keep[torch.as_tensor(gone, dtype=torch.long)] = False
    return f[keep]


def directed(faces: torch.Tensor) -> Counter[tuple[int, int]]:
    return Counter((f[i], f[(i + 1) % 3]) for f in faces.tolist() for i in range(3))


def assert_closed(faces: torch.Tensor) -> None:
    """Each directed edge once, and once the other way: closed, manifold in its edges, of one orientation."""
    d = directed(faces)
    assert set(d.values()) <= {1} and all((b, a) in d for a, b in d)


def area(v: torch.Tensor, f: torch.Tensor) -> float:
    t = v[f.long()].double()
    return float(torch.linalg.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]).norm(dim=1).sum() / 2)


def prism(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The side of a prism of n edges, radius 1, height 1, outward."""
    a, b = torch.arange(n, dtype=torch.int32), torch.arange(n, 2 * n, dtype=torch.int32)
    angle = 2 * math.pi * torch.arange(n) / n
    ring = torch.stack([angle.cos(), angle.sin(), torch.zeros(n)], 1)
    f = torch.cat([torch.stack([a, a.roll(-1), b], 1), torch.stack([b, a.roll(-1), b.roll(-1)], 1)])
    return torch.cat([ring, ring + torch.tensor([0.0, 0, 1])]), f


@pytest.mark.parametrize("n", [3, 4, 5, 17, 100, 101, 400])
def test_both_ends_of_a_prism(n: int) -> None:
    v, f = prism(n)
    result = fill_holes(v, f, max_perimeter=ANY)
    assert torch.equal(result.faces[: len(f)], f) and torch.equal(result.vertices, v)
    assert_closed(result.faces)
    report = result.report
    assert (report.loops, report.closed, report.too_long, report.loose_edges) == (2, 2, 0, 0)
    assert (report.added_vertices, report.added_faces) == (0, 2 * (n - 2))
    flat = n / 2 * math.sin(2 * math.pi / n)  # area of the regular polygon: any triangulation without folds has it
    assert area(v, result.faces[len(f) :]) == pytest.approx(2 * flat, rel=1e-5)
    assert trimesh.Trimesh(v, result.faces, process=False).volume == pytest.approx(flat, rel=1e-5)


def test_only_loops_up_to_the_perimeter() -> None:
    v, f = prism(6)  # a hexagon of radius 1 has perimeter 6
    v[6:] *= torch.tensor([0.5, 0.5, 1])  # and the upper one 3
    assert fill_holes(v, f, max_perimeter=2.9).report.closed == 0
    assert fill_holes(v, f, max_perimeter=3.01).report.closed == 1
    result = fill_holes(v, f, max_perimeter=5.99)
    assert (result.report.closed, result.report.too_long, result.report.added_faces) == (1, 1, 4)
    assert bool((result.faces[len(f) :] >= 6).all())
    assert fill_holes(v, f, max_perimeter=6.01).report.closed == 2


def test_a_bent_outline_is_not_cut_across() -> None:
    # An L in the plane, as the open top of an extrusion: only triangulations inside it have its area.
    outline = torch.tensor([[0.0, 0], [4, 0], [4, 1], [1, 1], [1, 4], [0, 4]])
    n = len(outline)
    v = torch.cat([torch.cat([outline, torch.full((n, 1), z)], 1) for z in (0.0, 1.0)])
    result = fill_holes(v, prism(n)[1], max_perimeter=ANY)
    assert_closed(result.faces)
    assert trimesh.Trimesh(v, result.faces, process=False).volume == pytest.approx(7)


def test_long_bent_outline() -> None:
    # A star of 240 corners is beyond the exact search.
    n = 240
    v, f = prism(n)
    v[::2, :2] *= 0.6
    result = fill_holes(v, f, max_perimeter=ANY)
    assert_closed(result.faces)
    assert result.report.added_faces == 2 * (n - 2)


def test_new_triangles_are_not_slivers_where_that_can_be_helped() -> None:
    # A square hole with its sides in eight parts: a fan from one corner would have faces without area.
    side = torch.arange(8) / 8
    zero, one = torch.zeros(8), torch.ones(8)
    ring = torch.cat([torch.stack(p, 1) for p in ((side, zero), (one, side), (1 - side, one), (zero, 1 - side))])
    n = len(ring)
    v = torch.cat([torch.cat([ring, torch.full((n, 1), z)], 1) for z in (0.0, 1.0)])
    result = fill_holes(v, prism(n)[1], max_perimeter=ANY)
    t = v[result.faces[2 * n :].long()].double()
    areas = torch.linalg.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]).norm(dim=1) / 2
    assert float(areas.min()) > 1e-3
    assert float(areas.sum()) == pytest.approx(2)


@FEW
@given(st.sets(st.integers(0, 319), max_size=200))
@example({107, 109, 262})  # leaves a triangle that hangs by its corners
def test_any_holes_in_a_sphere(gone: set[int]) -> None:
    v, whole = as_mesh(trimesh.creation.icosphere(2))
    f = without(whole, sorted(gone))
    result = fill_holes(v, f, max_perimeter=ANY)
    assert torch.equal(result.faces[: len(f)], f) and torch.equal(result.vertices[: len(v)], v)
    report = result.report
    assert report.loose_edges == report.too_long == 0
    assert report.loops == report.closed
    counts = directed(result.faces)
    assert set(counts.values()) <= {1}  # no edge got a third face, and all agree in orientation
    lone = Counter(connected_components(f, len(v))[1].tolist())
    assert len(boundary_edges(result.faces)) == 3 * sum(n == 1 for n in lone.values())


def test_the_outline_of_a_lone_triangle_is_no_hole() -> None:
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    result = fill_holes(v, torch.tensor([[0, 1, 2]]), max_perimeter=ANY)
    assert result.report.loops == 0 and len(result.faces) == 1


def test_a_triangulation_never_repeats_an_edge() -> None:
    # A square hole both of whose diagonals are edges of the mesh elsewhere: it is closed around a new vertex.
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 5], [0.5, 0.5, 6]])
    walls = [[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]
    elsewhere = [[0, 2, 5], [1, 3, 5]]
    f = torch.tensor(walls + elsewhere)
    result = fill_holes(v, f, max_perimeter=4.5)
    assert result.report.added_vertices == 1
    assert result.vertices[-1].tolist() == [0.5, 0.5, 0]
    assert set(directed(result.faces[[0, 1, 2, 3, *range(len(f), len(result.faces))]]).values()) == {1}


def test_holes_that_touch_at_a_vertex_are_closed_one_by_one() -> None:
    v, whole = as_mesh(trimesh.creation.icosphere(2))
    at = int(whole[0, 0])
    fan = (whole == at).any(1).nonzero().view(-1)
    first = fan[0]
    far = next(int(i) for i in fan if len(set(whole[first].tolist()) & set(whole[i].tolist())) == 1)
    result = fill_holes(v, without(whole, [int(first), far]), max_perimeter=ANY)
    assert (result.report.loops, result.report.added_faces) == (2, 2)
    assert_closed(result.faces)


def test_two_holes_through_the_same_two_vertices_use_their_diagonal_once() -> None:
    # The two open ends of a tube that is pinched flat: vertices 0 and 2 lie on both outlines.
    v = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1.2, 0, 0], [1, -1, 1], [1, 1, -1], [1, -1, -1]])
    f = torch.tensor([[0, 1, 4], [1, 2, 4], [2, 3, 5], [3, 0, 5]])
    result = fill_holes(v, f, max_perimeter=ANY)
    assert max(Counter(tuple(sorted(e)) for e in directed(result.faces).elements()).values()) == 2


def test_chains_that_end_at_a_crowded_edge_stay_open() -> None:
    v = torch.tensor(np.random.default_rng(0).normal(size=(5, 3)), dtype=torch.float32)
    f = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    result = fill_holes(v, f, max_perimeter=ANY)
    assert (result.report.loops, result.report.loose_edges, len(result.faces)) == (0, 6, 3)


def test_neighbours_that_disagree_are_outvoted() -> None:
    v, f = prism(9)
    f[:3] = f[:3, [1, 0, 2]]
    new = fill_holes(v, f, max_perimeter=ANY).faces[18:]
    good = directed(new)
    assert set(good.values()) == {1}
    assert sum((b, a) in good for a, b in directed(f[3:9])) == 6


def test_coordinates_that_are_not_finite_leave_their_hole_open() -> None:
    v, f = prism(5)
    v[0, 0] = math.nan
    assert fill_holes(v, f, max_perimeter=ANY).report.closed == 1


def test_nothing_to_close() -> None:
    v, f = as_mesh(trimesh.creation.icosphere(1))
    result = fill_holes(v, f, max_perimeter=ANY)
    assert torch.equal(result.faces, f) and result.report.loops == 0
    v, f = fill_holes(torch.zeros((0, 3)), torch.empty((0, 3), dtype=torch.int64), max_perimeter=1)
    assert v.shape == (0, 3) and f.shape == (0, 3) and f.dtype == torch.int32


def test_same_bits_for_any_number_of_threads() -> None:
    v, whole = as_mesh(trimesh.creation.icosphere(4))
    f = without(whole, np.random.default_rng(0).choice(len(whole), 2000, replace=False))
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: fill_holes(v, f, max_perimeter=0.5))


def test_bad_arguments() -> None:
    v, f = prism(3)
    with pytest.raises(TypeError, match=r"vertices: expected a torch\.Tensor, got ndarray"):
        fill_holes(v.numpy(), f, max_perimeter=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 5\), got 0 to 5"):
        fill_holes(v[:5], f, max_perimeter=1)
    with pytest.raises(ValueError, match=r"max_perimeter: expected a number of at least 0, got -1"):
        fill_holes(v, f, max_perimeter=-1)
    with pytest.raises(ValueError, match="max_perimeter: expected a finite number, got nan"):
        fill_holes(v, f, max_perimeter=math.nan)
    with pytest.raises(TypeError, match="max_perimeter: expected a number, got NoneType"):
        fill_holes(v, f, max_perimeter=None)  # type: ignore[arg-type]


def torn(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A closed band with faces torn out and others added anywhere: loops, chains that end, crowded edges, and faces
    that name a vertex twice. Or nothing but such faces."""

    def below(n: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, n, shape, generator=generator)

    around, along, strays = (int(n) for n in below(6, 3))
    at = torch.arange((around + 3) * (along + 3)).view(around + 3, along + 3)
    beside = at.roll(-1, 0)
    band = torch.cat(
        [
            torch.stack([at[:, :-1], beside[:, :-1], beside[:, 1:]], 2).view(-1, 3),
            torch.stack([at[:, :-1], beside[:, 1:], at[:, 1:]], 2).view(-1, 3),
        ]
    )
    torn_out = float(torch.tensor([0.05, 0.15, 0.4, 1.0])[below(4)])
    faces = torch.cat([band[torch.rand(len(band), generator=generator) >= torn_out], below(at.numel(), strays, 3)])
    order = torch.randperm(len(faces), generator=generator)
    return torch.rand(at.numel(), 3, generator=generator), faces[order].int().contiguous()


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_the_faces_around_loops_are_all_that_closing_needs(device: str) -> None:
    # What CUDA tensors go through, on either device, against the whole mesh.
    generator = torch.Generator().manual_seed(5)
    closed = loose = 0
    for _ in range(150 if device == "cpu" else 60):
        v, f = torn(generator)
        for limit in (1e9, 2.5):
            whole = _holes._fill_cpu(v, f, None, limit)
            part = _holes._fill_cuda(v.to(device), f.to(device), limit)
            assert all(torch.equal(a, b.cpu()) for a, b in zip(whole, part, strict=True)), f.tolist()
            closed, loose = closed + int(whole[2][1]), loose + int(whole[2][3])
        _, edges, in_loops = _holes._rim(f.to(device), len(v))
        assert torch.equal(edges.cpu(), boundary_edges(f))
        assert len(edges) - int(in_loops.sum()) == int(whole[2][3])
    assert min(closed, loose) > 100
