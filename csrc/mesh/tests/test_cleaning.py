"""Cleaning: what goes, what stays, and what is reported."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_mesh import (
    boundary_edges,
    connected_components,
    edges,
    remove_degenerate_faces,
    remove_duplicate_faces,
    remove_duplicate_vertices,
    remove_small_components,
    remove_unreferenced_vertices,
    repair_non_manifold_edges,
    unify_orientation,
)
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count

FEW = settings(deadline=None, max_examples=60)
FACE_LISTS = st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=25)
PLACES = torch.tensor(np.random.default_rng(0).normal(size=(10, 3)), dtype=torch.float32)
ALL = [
    remove_unreferenced_vertices,
    remove_duplicate_faces,
    remove_degenerate_faces,
    remove_duplicate_vertices,
    repair_non_manifold_edges,
    unify_orientation,
    lambda v, f: remove_small_components(v, f, min_area=0.1),
]


def as_mesh(mesh: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32), torch.tensor(np.asarray(mesh.faces))


def as_faces(faces: object) -> torch.Tensor:
    return torch.tensor(faces, dtype=torch.int64).reshape(-1, 3)


def halves(faces: object) -> dict[tuple[int, int], list[tuple[int, bool]]]:
    """For each edge its proper faces, and whether each runs from the smaller vertex to the larger."""
    found = defaultdict(list)
    for i, f in enumerate(torch.as_tensor(faces).tolist()):
        if len(set(f)) == 3:
            for k in range(3):
                a, b = f[k], f[(k + 1) % 3]
                found[min(a, b), max(a, b)].append((i, a < b))
    return found


# ---- removal --------------------------------------------------------------------------------------------------------


def test_unreferenced_vertices_go_and_the_rest_keep_their_order() -> None:
    v, f = remove_unreferenced_vertices(PLACES, as_faces([[7, 2, 4], [4, 2, 9]]))
    assert torch.equal(v, PLACES[[2, 4, 7, 9]])
    assert f.tolist() == [[2, 0, 1], [1, 0, 3]]
    assert f.dtype == torch.int32
    report = remove_unreferenced_vertices(PLACES, as_faces([[7, 2, 4]])).report
    assert (report.removed_vertices, report.removed_faces) == (7, 0)
    assert report.kept_vertices.tolist() == [2, 4, 7] and report.kept_faces.tolist() == [0]


@FEW
@given(FACE_LISTS)
def test_duplicate_faces_match_a_set(faces: list[tuple[int, int, int]]) -> None:
    seen: set[tuple[int, ...]] = set()
    first = [i for i, f in enumerate(faces) if tuple(sorted(f)) not in seen and not seen.add(tuple(sorted(f)))]  # type: ignore[func-returns-value]
    result = remove_duplicate_faces(PLACES, as_faces(faces))
    assert result.report.kept_faces.tolist() == first
    assert torch.equal(result.vertices[result.faces.long()], PLACES[as_faces(faces)[first]])
    assert torch.equal(remove_duplicate_faces(*result).faces, result.faces)


def test_degenerate_faces() -> None:
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [float("nan"), 0, 0], [0.5, 1e-5, 0], [0, 0, 0]])
    f = as_faces([[0, 1, 2], [0, 0, 1], [0, 1, 3], [0, 1, 4], [0, 1, 5], [0, 6, 2]])
    assert remove_degenerate_faces(v, f).report.kept_faces.tolist() == [0, 4]
    # Face 4 has area 5e-6 and longest side 1: it goes only when both limits are above.
    assert remove_degenerate_faces(v, f, absolute=1e-5, relative=1e-5).report.kept_faces.tolist() == [0]
    assert remove_degenerate_faces(v, f, absolute=1e-5, relative=1e-6).report.kept_faces.tolist() == [0, 4]
    assert remove_degenerate_faces(v, f, absolute=1e-6, relative=1e-5).report.kept_faces.tolist() == [0, 4]


def test_small_proper_faces_stay() -> None:
    v, f = as_mesh(trimesh.creation.icosphere(2))
    assert len(remove_degenerate_faces(v * 1e-20, f).faces) == len(f)


def test_duplicate_vertices_become_the_first_of_them() -> None:
    nan = float("nan")
    v = torch.tensor([[1.0, 2, 3], [0, 0, 0], [1, 2, 3], [-0.0, 0, -0.0], [nan, 0, 0], [nan, 0, 0], [1, 2, 3.0000002]])
    f = as_faces([[0, 1, 4], [2, 3, 5], [2, 1, 6]])
    result = remove_duplicate_vertices(v, f)
    assert result.report.kept_vertices.tolist() == [0, 1, 4, 5, 6]
    assert result.faces.tolist() == [[0, 1, 2], [0, 1, 3], [0, 1, 4]]


def test_a_cut_up_sphere_welds_shut() -> None:
    v, f = as_mesh(trimesh.creation.icosphere(3))
    loose = v[f].reshape(-1, 3)
    wv, wf = remove_duplicate_vertices(loose, torch.arange(len(loose)).view(-1, 3))
    assert len(wv) == len(v) and len(boundary_edges(wf)) == 0


# ---- repair ---------------------------------------------------------------------------------------------------------


def fans(faces: torch.Tensor) -> int:
    """Number of fans of proper corners, by brute force: corners at a vertex join across edges of exactly two faces."""
    around, corners = halves(faces), [(i, v) for i, f in enumerate(faces.tolist()) for v in f if len(set(f)) == 3]
    group = {c: c for c in corners}
    changed = True
    while changed:
        changed = False
        for edge, found in around.items():
            for v in edge if len(found) == 2 else ():
                both = [(i, v) for i, _ in found]
                low = min(group[c] for c in both)
                changed |= any(group[c] != low for c in both)
                group.update(dict.fromkeys(both, low))
    return len(set(group.values()))


@FEW
@given(FACE_LISTS)
def test_repair_leaves_no_crowded_edge_and_changes_no_shape(faces: list[tuple[int, int, int]]) -> None:
    f = as_faces(faces)
    v, split = repair_non_manifold_edges(PLACES, f)
    assert torch.equal(v[split.long()], PLACES[f])
    assert all(len(found) <= 2 for found in halves(split).values())
    proper = split[[i for i, x in enumerate(faces) if len(set(x)) == 3]]
    assert len(proper.unique()) == fans(f)


def test_repair_of_three_pages() -> None:
    f = as_faces([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    result = repair_non_manifold_edges(PLACES[:5], f)
    assert result.faces.tolist() == [[0, 1, 2], [5, 6, 3], [7, 8, 4]]
    assert result.report.added_vertices == 4
    assert result.report.source.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1]


def test_repair_leaves_a_manifold_alone() -> None:
    v, f = as_mesh(trimesh.creation.torus(1, 0.3))
    result = repair_non_manifold_edges(v, f)
    assert torch.equal(result.faces, f.int()) and result.report.added_vertices == 0


def test_repair_parts_cones_that_touch_at_their_tips() -> None:
    ball, other = trimesh.creation.icosphere(1), trimesh.creation.icosphere(1)
    v = torch.tensor(np.concatenate([ball.vertices, other.vertices + 2]), dtype=torch.float32)
    f = torch.tensor(np.concatenate([ball.faces, other.faces + len(ball.vertices)]))
    f[f == len(ball.vertices)] = 0
    assert len(repair_non_manifold_edges(*remove_unreferenced_vertices(v, f)).vertices) == len(v)


# ---- orientation ----------------------------------------------------------------------------------------------------


@FEW
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.45))
def test_orientation_is_restored_to_the_majority(seed: int, share: float) -> None:
    v, f = as_mesh(trimesh.creation.icosphere(2))
    wrong = torch.tensor(np.random.default_rng(seed).random(len(f)) < share)
    result = unify_orientation(v, torch.where(wrong[:, None], f[:, [1, 0, 2]], f))
    few = int(wrong.sum()) * 2 < len(f)
    assert result.report.flipped_faces == (int(wrong.sum()) if few else len(f) - int(wrong.sum()))
    assert all(sorted(way for _, way in found) == [False, True] for found in halves(result.faces).values())
    outward = unify_orientation(v, torch.where(wrong[:, None], f[:, [1, 0, 2]], f), outward=True)
    assert trimesh.Trimesh(v, outward.faces, process=False).volume > 0


def test_outward_turns_each_component_and_leaves_sheets() -> None:
    ball = trimesh.creation.icosphere(2)
    sheet = trimesh.Trimesh([[5, 0, 0], [6, 0, 0], [6, 1, 0], [5, 1, 0]], [[0, 2, 1], [0, 3, 2]], process=False)
    moved = ball.copy().apply_translation([30, 0, 0])
    ball.invert()
    v, f = as_mesh(trimesh.util.concatenate([ball, moved, sheet]))
    result = unify_orientation(v, f, outward=True)
    n = len(ball.faces)
    assert torch.equal(result.faces[:n].long(), f[:n][:, [0, 2, 1]])
    assert torch.equal(result.faces[n:].long(), f[n:])


def test_a_surface_of_one_side_is_reported() -> None:
    n = 12
    a, b = torch.arange(n), torch.arange(n) + n
    next_a, next_b = a.roll(-1).clone(), b.roll(-1).clone()
    next_a[-1], next_b[-1] = b[0], a[0]  # the twist
    f = torch.cat([torch.stack([a, next_a, b], 1), torch.stack([b, next_a, next_b], 1)])
    assert unify_orientation(torch.zeros((2 * n, 3)), f).report.conflicts == 1


# ---- components -----------------------------------------------------------------------------------------------------


def balls(*specs: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Spheres of a radius at a place on the x axis."""
    return as_mesh(
        trimesh.util.concatenate(
            [trimesh.creation.icosphere(2, radius=r).apply_translation([x, 0, 0]) for r, x in specs]
        )
    )


def test_small_components_go_and_are_reported() -> None:
    v, f = balls((0.1, -3), (1, 0), (0.2, 3))
    result = remove_small_components(v, f, min_area=1)
    assert len(result.faces) == 320 and float(result.vertices.abs().max()) <= 1
    report = result.report
    assert (report.components, len(report.removed), report.protected) == (3, 2, False)
    assert (report.removed_faces, report.removed_vertices) == (640, 324)
    assert [round(c.area, 2) for c in report.removed] == [0.49, 0.12]  # a little below 4 pi r^2
    assert report.removed[0].faces == 320
    assert report.removed[0].low == pytest.approx((2.8, -0.2, -0.2)) and report.removed[0].high == pytest.approx(
        (3.2, 0.2, 0.2)
    )


def test_fraction_of_the_bounding_volume() -> None:
    v, f = as_mesh(
        trimesh.util.concatenate(
            [trimesh.creation.box((10, 10, 10)), trimesh.creation.box((5, 5, 5)), trimesh.creation.box((2, 2, 2))]
        )
    )
    removed = remove_small_components(v, f, min_fraction=0.05).report.removed
    assert [c.fraction for c in removed] == pytest.approx([0.008])


def test_long_thin_and_flat_parts_are_not_small() -> None:
    needle = trimesh.creation.box((9, 0.001, 0.001)).apply_translation([0, 6, 0])
    sheet = trimesh.Trimesh([[-4, -4, 7], [4, -4, 7], [4, 4, 7], [-4, 4, 7]], [[0, 1, 2], [0, 2, 3]], process=False)
    crumb = trimesh.creation.box((0.5, 0.5, 0.5)).apply_translation([0, -6, 0])
    v, f = as_mesh(trimesh.util.concatenate([trimesh.creation.box((10, 10, 10)), needle, sheet, crumb]))
    report = remove_small_components(v, f, min_fraction=0.05).report
    assert [c.faces for c in report.removed] == [12] and report.removed[0].high[1] < 0


@pytest.mark.parametrize("limits", [{"min_area": 1e9}, {"min_fraction": 1.0}, {"min_area": 1e9, "min_fraction": 5.0}])
def test_the_largest_component_always_stays(limits: dict[str, float]) -> None:
    v, f = balls((0.5, -3), (1, 0), (0.9, 3))
    result = remove_small_components(v, f, **limits)
    assert len(result.faces) == 320 and float(result.vertices.abs().max()) == pytest.approx(1)
    assert result.report.protected


def test_flat_meshes_and_points() -> None:
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [2.1, 0, 0], [2, 0.1, 0]])
    assert remove_small_components(v, as_faces([[0, 1, 2], [3, 4, 5]]), min_fraction=0.01).faces.tolist() == [[0, 1, 2]]
    same = torch.zeros((3, 3))
    assert len(remove_small_components(same, as_faces([[0, 1, 2]]), min_fraction=0.5).faces) == 1


def test_charts_cut_along_seams_hold_together() -> None:
    v, f = as_mesh(trimesh.creation.icosphere(2))
    loose, apart = v[f].reshape(-1, 3), torch.arange(f.numel()).view(-1, 3)
    whole = remove_small_components(loose, apart, min_fraction=0.5)
    assert len(whole.faces) == len(f) and len(whole.vertices) == len(loose) and whole.report.components == 1
    assert remove_small_components(loose, apart, min_fraction=0.5, weld=False).report.components == len(f)


# ---- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ALL)
def test_no_faces(operation: object) -> None:
    v, f = operation(torch.zeros((0, 3)), torch.empty((0, 3), dtype=torch.int32))  # type: ignore[operator]
    assert v.shape == (0, 3) and f.shape == (0, 3) and f.dtype == torch.int32


@pytest.mark.parametrize("operation", ALL)
def test_bad_meshes(operation: object) -> None:
    with pytest.raises(TypeError, match="vertices: expected dtype float32, got float16"):
        operation(PLACES.half(), as_faces([[0, 1, 2]]))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 10\), got 0 to 10"):
        operation(PLACES, as_faces([[0, 1, 10]]))  # type: ignore[operator]


def test_same_bits_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(1)
    f = torch.tensor(rng.integers(0, 9_000, (30_000, 3)))
    v = torch.tensor(rng.integers(0, 30, size=(9_000, 3)), dtype=torch.float32)
    assert len(edges(f)) and connected_components(f, 9_000)[0] > 1

    def run() -> list[object]:
        return [r for operation in ALL for r in (operation(v, f), operation(v, f).report)]  # type: ignore[operator]

    assert_same_bits_for_any_thread_count(EXTENSION, run)


def test_bad_options() -> None:
    mesh = (PLACES, as_faces([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"absolute: expected a number of at least 0, got -1"):
        remove_degenerate_faces(*mesh, absolute=-1)
    with pytest.raises(ValueError, match="relative: expected a finite number, got nan"):
        remove_degenerate_faces(*mesh, relative=math.nan)
    with pytest.raises(TypeError, match="outward: expected a bool, got int"):
        unify_orientation(*mesh, outward=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_area, min_fraction: expected at least one of them, got None for both"):
        remove_small_components(*mesh)
    with pytest.raises(TypeError, match="min_area: expected a number, got str"):
        remove_small_components(*mesh, min_area="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"min_fraction: expected a number of at least 0, got -0.1"):
        remove_small_components(*mesh, min_fraction=-0.1)
    with pytest.raises(TypeError, match="weld: expected a bool, got NoneType"):
        remove_small_components(*mesh, min_area=1, weld=None)  # type: ignore[arg-type]
