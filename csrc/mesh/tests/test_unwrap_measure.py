"""measure_uv and uv_stretch against handwritten layouts and the judges of uv_oracle, which are verified here first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import uv_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_mesh import measure_uv, uv_stretch
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count

HALF = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float64)


def flat(uv: list[list[float]], faces: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A mesh in the plane z = 0 whose texture is itself."""
    t = torch.tensor(uv, dtype=torch.float32)
    return torch.cat([t, torch.zeros(len(t), 1)], 1), torch.tensor(faces), t


SQUARE = flat([[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]], [[0, 1, 2], [0, 2, 3]])


# ---- the judges themselves ----------------------------------------------------------------------------------------


def test_the_clipping_judge_on_handwritten_triangles() -> None:
    def common(p: np.ndarray, q: np.ndarray) -> tuple[float, float]:
        area, width = oracle.area_and_width(oracle.common_part(p, q))
        return area, width

    assert common(HALF, HALF) == pytest.approx((0.5, 0.5**0.5))
    assert common(HALF, HALF + np.array([2, 0])) == (0, 0)
    assert common(HALF, 1 - HALF)[0] == 0, "they share an edge"
    assert common(HALF, HALF + np.array([0.5, 0])) == pytest.approx((0.125, 0.125**0.5))
    assert common(HALF, HALF[::-1] * 0.5) == pytest.approx((0.125, 0.125**0.5)), "orientation does not matter"
    assert common(HALF, HALF[[0, 0, 1]] * 0.5) == (0, 0), "without area nothing is covered"
    assert common(HALF, np.array([[0, 0], [1, 0], [0, 0.01]])) == pytest.approx((0.005, 0.01), rel=1e-3)
    stacked = np.stack([HALF, HALF + np.array([0.5, 0]), 1 - HALF])
    assert oracle.overlapping_pairs(stacked) == {(0, 1), (1, 2)}
    assert oracle.overlapping_pairs(stacked, width=0.5) == set()


def test_the_texel_judge_on_handwritten_triangles() -> None:
    counts = oracle.texel_counts(np.stack([HALF, HALF * 0.5]), 4)
    assert counts.tolist() == [[2, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_the_stretch_judge_on_a_handwritten_triangle() -> None:
    surface = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0]], dtype=np.float64)
    assert oracle.stretch(surface, HALF) == pytest.approx((3, 2))


# ---- stretch --------------------------------------------------------------------------------------------------------


def test_stretch_of_handwritten_faces() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 2, 0]])
    uv = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 1], [0, 0, 1], [1, 1, 1]])
    assert uv_stretch(vertices, faces, uv).tolist() == [[3, 2, 3, 0.5], [3, 2, 3, -0.5], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert uv_stretch(vertices, faces[:1], uv * 0)[0].tolist() == [math.inf, 0, 3, 0]
    assert uv_stretch(vertices, faces[:0], uv).shape == (0, 4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("count", [0, 1, 257, 70_000], ids=lambda n: f"small-{n}" if n < 300 else str(n))
def test_stretch_on_a_device_is_that_of_the_cpu(count: int) -> None:
    rng = np.random.default_rng(count)
    p, t = torch.tensor(rng.standard_normal((90, 3))).float(), torch.tensor(rng.random((90, 2))).float()
    faces = torch.tensor(rng.integers(0, 90, (count, 3)))  # some of them without area
    ours, cpu = uv_stretch(p.cuda(), faces.cuda(), t.cuda()), uv_stretch(p, faces, t)
    assert torch.equal(ours.cpu(), cpu)  # a fused product would find a little area where a vertex comes twice


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_stretch_is_that_of_the_singular_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, t = rng.standard_normal((3, 3)).astype(np.float32), rng.random((3, 2)).astype(np.float32)
    if abs(oracle.signed_area(t.astype(np.float64))) < 1e-3:
        return
    largest, smallest, area, texture = uv_stretch(torch.tensor(p), torch.tensor([[0, 1, 2]]), torch.tensor(t))[
        0
    ].tolist()
    expected = oracle.stretch(p, t)
    # Relative to the largest: the smallest is a difference of squares.
    assert largest == pytest.approx(expected[0], rel=1e-5)
    assert smallest == pytest.approx(expected[1], abs=1e-5 * expected[0])
    assert area == pytest.approx(0.5 * np.linalg.norm(np.cross(p[1] - p[0], p[2] - p[0])), rel=1e-5)
    assert texture == pytest.approx(oracle.signed_area(t.astype(np.float64)), rel=1e-5)


def test_an_undistorted_layout_has_stretch_one_at_any_scale() -> None:
    v, f, t = SQUARE
    for scale in (1e-20, 1.0, 1e15):
        report = measure_uv(v * scale, f, t)
        assert report.stretch_l2 == pytest.approx(1, rel=1e-6) and report.stretch_linf == pytest.approx(1, rel=1e-6)


def test_stretch_norms_of_a_layout_worked_out_by_hand() -> None:
    # Two unit right triangles; the second has half the first's width in the texture.
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [6, 0, 0], [5, 1, 0]])
    t = torch.tensor([[0.0, 0], [0.4, 0], [0, 0.4], [0.5, 0.5], [0.7, 0.5], [0.5, 0.9]])
    report = measure_uv(v, torch.tensor([[0, 1, 2], [3, 4, 5]]), t)
    a, b = 1 / 0.4, 1 / 0.2
    unit = math.sqrt((0.08 + 0.04) / 1.0)
    assert report.stretch_l2 == pytest.approx(math.sqrt((a * a + (a * a + b * b) / 2) / 2) * unit, rel=1e-6)
    assert report.stretch_linf == pytest.approx(b * unit, rel=1e-6)
    assert report.utilisation == pytest.approx(0.12, rel=1e-6)
    assert report.charts == 2


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_a_good_layout_is_valid() -> None:
    report, faces = measure_uv(*SQUARE, return_faces=True, resolution=8, small_chart_texels=16)
    assert report.valid and report.charts == 1 and report.utilisation == 0.25 and report.mirrored_charts == 0
    assert report.texels_per_face == 8 and report.faces_below_one_texel == 0
    assert report.small_charts == 0, "it has exactly 16 texels"
    assert measure_uv(*SQUARE, resolution=8, small_chart_texels=16.01).small_charts == 1
    assert faces.chart.tolist() == [0, 0] and faces.chart.dtype == torch.int32
    assert not (faces.flipped | faces.overlapping | faces.outside | faces.collapsed).any()


@pytest.mark.parametrize(("depth", "found"), [(0.25, True), (2.0**-20, True), (2.0**-24, False), (0.0, False)])
def test_two_squares_that_reach_into_each_other(depth: float, found: bool) -> None:
    v, f, t = SQUARE
    t2 = torch.cat([t, t + torch.tensor([0.5 - depth, 0.0])])
    report, faces = measure_uv(torch.cat([v, v + 9]), torch.cat([f, f + 4]), t2, return_faces=True)
    assert (report.overlapping_faces > 0) == found
    if depth == 0.25:
        expected = {i for pair in oracle.overlapping_pairs(t2.numpy()[torch.cat([f, f + 4]).numpy()]) for i in pair}
        assert set(torch.nonzero(faces.overlapping).flatten().tolist()) == expected


def test_a_small_chart_inside_a_large_one_overlaps() -> None:
    uv = [[0, 0], [1, 0], [0, 1], [0.2, 0.2], [0.201, 0.2], [0.2, 0.201]]
    report = measure_uv(*flat(uv, [[0, 1, 2], [3, 4, 5]]))
    assert report.overlapping_faces == 2 and not report.valid


def test_stacked_layouts_are_found_without_asking_every_pair() -> None:
    t = torch.tensor([[0.0, 0], [1, 0], [0, 1]]).repeat(20000, 1)
    v = torch.cat([t, torch.arange(60000)[:, None].float()], 1)
    assert measure_uv(v, torch.arange(60000).view(-1, 3), t).overlapping_faces == 20000


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40), size=st.sampled_from([0.02, 0.1, 0.5]))
def test_overlaps_are_those_of_the_clipping_judge(seed: int, count: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    corners = (rng.random((count, 1, 2)) * (1 - size) + rng.random((count, 3, 2)) * size).astype(np.float32)
    if count > 2:
        corners[1] = corners[0][[1, 2, 0]]  # exactly on another
        corners[2] = corners[2][[0, 0, 1]]  # without area
    t = torch.tensor(corners.reshape(-1, 2))
    v = torch.tensor(rng.standard_normal((3 * count, 3)), dtype=torch.float32)
    _, faces = measure_uv(v, torch.arange(3 * count).view(-1, 3), t, return_faces=True)
    # Two sharp corners may reach deeper into each other than what they have in common is wide.
    found = set(torch.nonzero(faces.overlapping).flatten().tolist())
    certain = {i for pair in oracle.overlapping_pairs(corners) for i in pair}
    possible = {i for pair in oracle.overlapping_pairs(corners, width=0.0) for i in pair}
    assert certain <= found <= possible
    if not possible:
        assert oracle.texel_counts(corners, 64).max(initial=0) <= 1


def test_a_face_turned_against_its_chart() -> None:
    # A fan around vertex 0; its third face is folded back.
    uv = [[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1], [0.9, 0.9]]
    report, faces = measure_uv(*flat(uv, [[0, 1, 2], [0, 2, 3], [0, 3, 4]]), return_faces=True)
    assert report.flipped_faces == 1 and faces.flipped.tolist() == [False, False, True]
    assert report.mirrored_charts == 0 and not report.valid


def test_a_mirrored_chart_is_not_flipped_faces() -> None:
    v, f, t = SQUARE
    report = measure_uv(v, f, t.flip(1))
    assert report.mirrored_charts == 1 and report.flipped_faces == 0 and report.valid


def test_faces_outside_and_without_texels() -> None:
    v, f, t = SQUARE
    assert measure_uv(v, f, t + 0.75).outside_faces == 2
    assert measure_uv(v, f, t - 0.001).outside_faces == 2
    report, faces = measure_uv(v, f, t * 0 + 0.5, return_faces=True)
    assert report.collapsed_faces == 2 and faces.collapsed.all() and report.charts == 0 and not report.valid
    assert report.stretch_l2 == 0 and report.texels_per_face == 0


def test_a_face_degenerate_on_the_surface_needs_no_texels() -> None:
    v, f, t = SQUARE
    report = measure_uv(v, torch.cat([f, torch.tensor([[0, 0, 1], [2, 2, 2]])]), t)
    assert report.valid and report.charts == 1


def test_charts_are_parts_that_hang_together_by_edges() -> None:
    # Two triangles that share only vertex 2, and one more of its own.
    uv = [[0, 0], [0.1, 0], [0.1, 0.1], [0.2, 0.1], [0.2, 0.2], [0.5, 0.5], [0.6, 0.5], [0.6, 0.6]]
    report, faces = measure_uv(*flat(uv, [[5, 6, 7], [0, 1, 2], [2, 3, 4]]), return_faces=True)
    assert report.charts == 3 and faces.chart.tolist() == [0, 1, 2]


def test_no_faces() -> None:
    report = measure_uv(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 2))
    assert report.charts == 0 and report.utilisation == 0 and report.valid


def test_same_bits_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(5)
    v = torch.tensor(rng.standard_normal((3000, 3)), dtype=torch.float32)
    t = torch.tensor(rng.random((3000, 2)), dtype=torch.float32)
    f = torch.tensor(rng.integers(0, 3000, (6000, 3)))
    assert_same_bits_for_any_thread_count(
        EXTENSION, lambda: (measure_uv(v, f, t, return_faces=True), uv_stretch(v, f, t))
    )


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"uv": SQUARE[2][:3]}, ValueError, r"uv: expected shape \[4, 2\], got \[3, 2\]"),
        ({"uv": SQUARE[2].double()}, TypeError, "uv: expected dtype float32, got float64"),
        (
            {"uv": torch.full((4, 2), math.nan)},
            ValueError,
            r"uv: expected coordinates in \[-2\^20, 2\^20\], got -?nan in row 0",
        ),
        ({"uv": torch.full((4, 2), 2.0**21)}, ValueError, "uv: expected coordinates in"),
        (
            {"vertices": torch.full((4, 3), math.inf)},
            ValueError,
            "vertices: expected finite coordinates, got inf in vertex 0",
        ),
        ({"vertices": SQUARE[0].half()}, TypeError, "vertices: expected dtype float32, got float16"),
        ({"faces": torch.tensor([[0, 1, 4]])}, ValueError, r"faces: expected vertex indices in \[0, 4\), got 0 to 4"),
        ({"resolution": 0}, ValueError, r"resolution: expected in \[1, 65536\], got 0"),
        ({"resolution": 1.5}, TypeError, "resolution: expected an int, got float"),
        ({"small_chart_texels": -1.0}, ValueError, "small_chart_texels: expected"),
        ({"small_chart_texels": "8"}, TypeError, "small_chart_texels: expected a number, got str"),
    ],
)
def test_errors_name_argument_expected_and_actual(change: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = dict(zip(("vertices", "faces", "uv"), SQUARE, strict=True)) | change
    with pytest.raises(error, match=text):
        measure_uv(**arguments)


def test_uv_stretch_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match=r"uv: expected shape \[4, 2\]"):
        uv_stretch(SQUARE[0], SQUARE[1], torch.zeros(4, 3))
    with pytest.raises(TypeError, match=r"uv: expected a torch.Tensor, got list"):
        uv_stretch(SQUARE[0], SQUARE[1], [[0.0, 0.0]])  # type: ignore[arg-type]
