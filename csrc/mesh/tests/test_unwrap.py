"""unwrap_uv: its contract on meshes of every kind, and the quality of what it makes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import uv_oracle as oracle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trellis_mesh import measure_uv, unwrap_uv
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count
from uv_meshes import BOX, NAMED, ONE, as_mesh, height_field, random_mesh


@pytest.mark.parametrize("name", NAMED)
def test_contract(name: str) -> None:
    mesh = NAMED[name]
    oracle.assert_valid_unwrap(*mesh, unwrap_uv(*mesh, resolution=512))


def test_no_faces() -> None:
    v, f, uv, vertex_map = unwrap_uv(torch.rand(5, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert v.shape == (0, 3) and f.shape == (0, 3) and uv.shape == (0, 2) and vertex_map.shape == (0,)


def test_one_triangle_keeps_its_shape() -> None:
    v, f, uv, _ = unwrap_uv(*ONE, padding=0.0)
    length = torch.cdist(v, v) / torch.cdist(uv, uv)
    assert torch.allclose(length[~torch.eye(3, dtype=bool)], length[0, 1], rtol=1e-5)
    assert measure_uv(v, f, uv).utilisation > 0.2, "half of a box of two to one"


@pytest.mark.parametrize(
    "faces",
    [[[0, 0, 1]], [[1, 1, 1]], [[0, 1, 2]], [[0, 1, 2], [2, 2, 0]]],
    ids=["segment", "point", "collinear", "both"],
)
def test_a_mesh_without_area(faces: list[list[int]]) -> None:
    mesh = torch.tensor([[0.0, 0, 0], [1, 1, 1], [3, 3, 3]]), torch.tensor(faces)
    oracle.assert_valid_unwrap(*mesh, unwrap_uv(*mesh))


def test_degenerate_faces_come_back_in_a_chart_of_a_neighbour() -> None:
    v, f = NAMED["sphere"]
    f = torch.cat([f[:9], torch.tensor([[3, 3, 7], [5, 5, 5]]), f[9:], torch.tensor([[0, 1, 0]])])
    result = unwrap_uv(v, f)
    oracle.assert_valid_unwrap(v, f, result)
    texture = {tuple(t) for t in result[2][result[1][:9].long()].view(-1, 2).tolist()} | {
        tuple(t) for t in result[2][result[1][11:-1].long()].view(-1, 2).tolist()
    }
    for i in (9, 10, len(f) - 1):
        corners = {tuple(t) for t in result[2][result[1][i].long()].tolist()}
        assert len(corners) == 1 and corners <= texture


def test_a_sliver_of_a_t_junction() -> None:
    v = torch.tensor([[0.0, 0, 0], [2, 0, 0], [1, 0, 0], [1, 1, 0], [1, -1, 0]])
    mesh = v, torch.tensor([[0, 2, 3], [2, 1, 3], [1, 0, 4], [0, 1, 2]])
    oracle.assert_valid_unwrap(*mesh, unwrap_uv(*mesh))


def test_vertices_at_one_position_do_not_end_a_chart() -> None:
    v, f = height_field(np.zeros((8, 8)))
    apart = v[f.view(-1)], torch.arange(f.numel()).view(-1, 3)
    result = unwrap_uv(*apart, return_report=True)
    oracle.assert_valid_unwrap(*apart, result[:4])
    together = unwrap_uv(v, f, return_report=True)
    assert torch.equal(result[2][result[1].long()], together[2][together[1].long()])
    assert len(together[0]) == len(v) and together[4].charts == 1


def test_unused_vertices_are_left_out_whatever_they_are() -> None:
    v = torch.cat([torch.full((1, 3), torch.nan), BOX[0], torch.full((1, 3), torch.inf)])
    oracle.assert_valid_unwrap(v, BOX[1] + 1, unwrap_uv(v, BOX[1] + 1))


def test_inputs_of_other_layouts_give_the_same() -> None:
    v, f = NAMED["torus"]
    expected = unwrap_uv(v, f)
    wide = torch.zeros(len(v), 6)
    wide[:, ::2] = v
    for faces in (f.int(), f.t().contiguous().t()):
        for a, b in zip(expected, unwrap_uv(wide[:, ::2], faces), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_scale_does_not_matter(scale: float) -> None:
    v, f = NAMED["torus"]
    result = unwrap_uv(v * scale, f, return_report=True)
    oracle.assert_valid_unwrap(v * scale, f, result[:4])
    assert result[4].utilisation > 0.4


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_contract_on_random_meshes(seed: int) -> None:
    v, f = random_mesh(seed)
    result = unwrap_uv(v, f, resolution=1024, padding=1.0)
    oracle.assert_valid_unwrap(v, f, result)
    report = measure_uv(result[0], result[1], result[2])
    assert report.valid and report.mirrored_charts == 0


@pytest.mark.parametrize("padding", [0.0, 1.0, 6.0])
def test_padding_keeps_charts_apart(padding: float) -> None:
    resolution = 256
    v, f, uv, _ = unwrap_uv(*NAMED["torus"], resolution=resolution, padding=padding)
    _, faces = measure_uv(v, f, uv, return_faces=True)
    assert int(faces.chart.max()) > 2
    texels = uv.double() * resolution
    assert float(texels.min()) >= padding / 2 - 1e-4 and float(texels.max()) <= resolution - padding / 2 + 1e-4
    # Points close together along every edge of every chart, against those of the others.
    along = torch.linspace(0, 1, 9).double()[:, None, None, None]
    ends = texels[f.long()]
    points = (ends * (1 - along) + ends.roll(-1, 1) * along).movedim(0, 2).reshape(len(f), -1, 2)
    for c in range(int(faces.chart.max()) + 1):
        mine, others = points[faces.chart == c].reshape(-1, 2), points[faces.chart != c].reshape(-1, 2)
        assert float(torch.cdist(mine, others).min()) >= padding - 1e-3


def test_padding_costs_texture() -> None:
    used = [
        unwrap_uv(*NAMED["torus"], resolution=256, padding=p, return_report=True)[4].utilisation
        for p in (0.0, 4.0, 16.0)
    ]
    assert used[0] > used[1] > used[2] > 0


def test_padding_that_fills_the_texture() -> None:
    with pytest.raises(
        ValueError, match=r"padding: 6 charts with 16 texels between them do not fit a texture of 32 x 32"
    ):
        unwrap_uv(*BOX, resolution=32, padding=16.0)


# ---- quality --------------------------------------------------------------------------------------------------------


def test_a_flat_sheet_is_one_chart_without_distortion() -> None:
    v, f = height_field(np.zeros((20, 20)))
    turn = torch.linalg.qr(torch.tensor(np.random.default_rng(0).standard_normal((3, 3))).float())[0]
    report = unwrap_uv(v @ turn, f, padding=0.0, return_report=True)[4]
    assert report.charts == 1 and report.utilisation > 0.98
    assert report.stretch_l2 == pytest.approx(1, abs=1e-4) and report.stretch_linf == pytest.approx(1, abs=1e-3)


def test_a_box_is_six_squares() -> None:
    report = unwrap_uv(*BOX, padding=0.0, return_report=True)[4]
    assert report.charts == 6 and report.stretch_linf == pytest.approx(1, abs=1e-4)
    assert report.utilisation > 0.62, "six of nine squares is the best"


@pytest.mark.parametrize(
    ("name", "charts", "l2", "linf", "used"),
    [
        ("sphere", 12, 1.01, 1.3, 0.55),
        ("torus", 18, 1.02, 2.5, 0.6),
        ("noisy sphere", 16, 1.02, 4.0, 0.55),
        ("bumps", 12, 1.02, 3.0, 0.5),
        ("crags", 110, 1.1, 4.5, 0.55),  # 200 without joining small charts to their neighbours
        ("cylinder", 8, 1.01, 1.5, 0.55),
    ],
)
def test_quality(name: str, charts: int, l2: float, linf: float, used: float) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=4)
    if name == "noisy sphere":
        sphere.vertices *= 1 + 0.01 * np.random.default_rng(0).standard_normal((len(sphere.vertices), 1))
    x = np.linspace(0, 12, 60)
    mesh = {
        "torus": as_mesh(trimesh.creation.torus(1, 0.3, major_sections=64, minor_sections=32)),
        "crags": height_field(np.random.default_rng(1).standard_normal((40, 40))),
        "cylinder": as_mesh(trimesh.creation.cylinder(radius=1, height=3, sections=64)),
        "bumps": height_field(4 * np.sin(x)[:, None] * np.cos(x)),
    }.get(name, as_mesh(sphere))
    report = unwrap_uv(*mesh, return_report=True)[4]
    assert report.valid and report.mirrored_charts == 0
    assert report.charts <= charts and report.small_charts == 0
    assert report.stretch_l2 <= l2 and report.stretch_linf <= linf
    assert report.utilisation >= used


@pytest.mark.parametrize("size", [(1.0, 1.0, 0.02), (1.0, 0.1, 0.04), (1.0, 1.0, 0.15)], ids=["plate", "bar", "slab"])
def test_large_charts_are_halved_where_they_leave_much_empty(size: tuple[float, ...]) -> None:
    """Whole, the two sides of a plate fill less than half of a square, and a bar's four are as long as it is."""
    v, f = as_mesh(trimesh.creation.box(size).subdivide().subdivide().subdivide())
    result = unwrap_uv(v, f, padding=1.0)
    oracle.assert_valid_unwrap(v, f, result)
    report = measure_uv(*result[:3])
    assert report.valid and report.utilisation > 0.7 and report.charts < 30


def test_the_stretch_limit_is_kept() -> None:
    mesh = height_field(np.random.default_rng(1).standard_normal((40, 40)))
    loose = unwrap_uv(*mesh, max_stretch=6.0, return_report=True)[4]
    tight = unwrap_uv(*mesh, max_stretch=1.5, return_report=True)[4]
    # A chart that lost faces to others is a little off the common density.
    assert tight.stretch_linf <= 1.5 * 1.1 < loose.stretch_linf
    assert tight.charts > loose.charts


def test_density_is_even() -> None:
    v, f, uv, _ = unwrap_uv(*NAMED["torus"])
    _, faces = measure_uv(v, f, uv, return_faces=True)
    corners, texture = v[f.long()].double(), uv[f.long()].double()
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    a, b = texture[:, 1] - texture[:, 0], texture[:, 2] - texture[:, 0]
    texels = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    chart = faces.chart.long()
    density = torch.bincount(chart, texels) / torch.bincount(chart, area)
    assert float(density.max() / density.min()) == pytest.approx(1, abs=0.02)


def test_thousands_of_loose_triangles_are_packed() -> None:
    rng = np.random.default_rng(2)
    v = torch.tensor(rng.standard_normal((9000, 3)), dtype=torch.float32)
    mesh = v, torch.arange(9000).view(-1, 3)
    result = unwrap_uv(*mesh, padding=0.5, return_report=True)
    report = result[4]
    assert report.charts == 3000 and report.valid and report.utilisation > 0.35
    assert torch.equal(result[3][result[1].long()].long(), mesh[1])


def test_same_bits_for_any_number_of_threads() -> None:
    mesh = height_field(np.random.default_rng(4).standard_normal((40, 40)))
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: unwrap_uv(*mesh))


def test_operators_pass_opcheck() -> None:
    ops = torch.ops.trellis_mesh
    v, f = BOX[0], BOX[1].int()
    torch.library.opcheck(ops.unwrap_uv.default, (v, f, 512, 2.0, 4.0))
    torch.library.opcheck(ops.uv_stretch.default, (v, f, v[:, :2].contiguous()))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"vertices": BOX[0].double()}, TypeError, "vertices: expected dtype float32, got float64"),
        (
            {"vertices": torch.full_like(BOX[0], torch.nan)},
            ValueError,
            "vertices: expected finite coordinates, got -?nan in vertex",
        ),
        ({"faces": BOX[1][:, :2]}, ValueError, r"faces: expected shape \[F, 3\], got \[12, 2\]"),
        ({"faces": BOX[1] + 1}, ValueError, r"faces: expected vertex indices in \[0, 8\), got 1 to 8"),
        ({"method": "slow"}, ValueError, "method: expected 'fast' or 'xatlas', got 'slow'"),
        ({"resolution": 0}, ValueError, r"resolution: expected in \[1, 65536\], got 0"),
        ({"resolution": True}, TypeError, "resolution: expected an int, got bool"),
        ({"padding": -1.0}, ValueError, r"padding: expected a number in \[0.0, 1024.0\], got -1.0"),
        ({"padding": None}, TypeError, "padding: expected a number, got NoneType"),
        ({"max_stretch": 1.0}, ValueError, "max_stretch: expected a number of at least 1.1, got 1.0"),
        ({"max_stretch": float("inf")}, ValueError, "max_stretch: expected a finite number, got inf"),
    ],
)
def test_errors_name_argument_expected_and_actual(change: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments: dict[str, Any] = {"vertices": BOX[0], "faces": BOX[1]} | change
    with pytest.raises(error, match=text):
        unwrap_uv(**arguments)


# ---- xatlas ---------------------------------------------------------------------------------------------------------


def test_without_xatlas_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xatlas", None)
    with pytest.raises(ImportError, match=r"pip install 'trellis-mesh\[xatlas\]', or use method='fast'"):
        unwrap_uv(*BOX, method="xatlas")


def test_fast_does_not_import_xatlas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xatlas", None)
    unwrap_uv(*BOX)


class TestXatlas:
    @pytest.fixture(autouse=True)
    def _needs_xatlas(self) -> None:
        pytest.importorskip("xatlas")

    def test_contract(self) -> None:
        v, f = NAMED["sphere"]
        nv, nf, uv, vertex_map, report = unwrap_uv(v, f, method="xatlas", return_report=True)
        assert torch.equal(nv, v[vertex_map.long()]) and torch.equal(vertex_map[nf.long()].long(), f)
        assert nf.dtype == vertex_map.dtype == torch.int32 and uv.dtype == torch.float32
        assert report.valid and report.charts > 1 and report.stretch_l2 < 1.1 and report.utilisation > 0.4

    def test_texels_are_square(self) -> None:
        report = unwrap_uv(*BOX, method="xatlas", return_report=True)[4]
        assert report.stretch_linf == pytest.approx(1, abs=0.02)

    def test_size_does_not_matter(self) -> None:
        """It calls faces of less than 1.2e-7 degenerate: slivers of a mesh in the unit cube were in no chart."""
        small = unwrap_uv(BOX[0] * 1e-4, BOX[1], method="xatlas")
        for a, b in zip(small[1:], unwrap_uv(*BOX, method="xatlas")[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("faces", [[[0, 0, 1]], [[0, 1, 2]]])
    def test_a_mesh_without_area_is_an_error_not_an_empty_result(self, faces: list[list[int]]) -> None:
        with pytest.raises(RuntimeError, match=r"xatlas .*method='fast'"):
            unwrap_uv(torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]), torch.tensor(faces), method="xatlas")

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="faces: expected at least one face with method='xatlas', got none"):
            unwrap_uv(BOX[0], BOX[1][:0], method="xatlas")
        with pytest.raises(
            ValueError, match=r"padding: expected a whole number of texels with method='xatlas', got 0\.5"
        ):
            unwrap_uv(*BOX, method="xatlas", padding=0.5)
        with pytest.raises(ValueError, match="vertices: expected finite coordinates"):
            unwrap_uv(BOX[0] * torch.nan, BOX[1], method="xatlas")

    @pytest.mark.parametrize(
        ("charts", "textures", "drop", "spoil", "text"),
        [
            (0, 0, 0, False, "xatlas made 0 charts in 0 textures"),
            (6, 2, 0, False, "in 2 textures"),
            (6, 1, 1, False, r"gave back other faces than the 12 it got \(11\)"),
            (6, 1, 0, True, "not finite"),
        ],
    )
    def test_a_bad_result_is_never_passed_on(
        self, monkeypatch: pytest.MonkeyPatch, charts: int, textures: int, drop: int, spoil: bool, text: str
    ) -> None:
        import xatlas

        class Atlas:
            chart_count, atlas_count, width, height = charts, textures, 8, 8

            def add_mesh(self, *_: Any) -> None: ...
            def generate(self, *_: Any) -> None: ...
            def get_mesh_chart_count(self, _: int) -> int:
                return 0

            def __getitem__(self, _: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
                uv = np.full((8, 2), np.nan if spoil else 0.5, np.float32)
                return np.arange(8, dtype=np.uint32), BOX[1].numpy().astype(np.uint32)[drop:], uv

        monkeypatch.setattr(xatlas, "Atlas", Atlas)
        with pytest.raises(RuntimeError, match=text):
            unwrap_uv(*BOX, method="xatlas")

    def test_faces_in_no_chart_are_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import xatlas

        real = xatlas.Atlas

        class Atlas(real):  # type: ignore[misc, valid-type]
            def get_mesh_chart_count(self, _: int) -> int:
                return int(super().get_mesh_chart_count(0)) - 1

        monkeypatch.setattr(xatlas, "Atlas", Atlas)
        with pytest.raises(RuntimeError, match="xatlas gave 2 of 12 faces no place in the texture"):
            unwrap_uv(*BOX, method="xatlas")
