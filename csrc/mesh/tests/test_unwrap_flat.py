"""The flat path of unwrap_uv, which CUDA tensors take: its contract on the CPU, and on a device where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
import uv_meshes as meshes
import uv_oracle as oracle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trellis_mesh import UnwrapReport, _flat, _flat_measure, _flat_pack, measure_uv, unwrap_uv
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)
on_each_device = pytest.mark.parametrize("device", ["cpu", CUDA])
Result = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def small_first(name: str) -> str:
    """Names of tests on few faces begin so that they can be picked by it."""
    return f"small-{name}" if name == "soup" or len(meshes.NAMED[name][1]) < 40 else name


def unwrap(
    v: torch.Tensor,
    f: torch.Tensor,
    device: str,
    resolution: int = 2048,
    padding: float = 2.0,
    max_stretch: float = 4.0,
) -> Result:
    """Vertices, faces, uv and vertex map on the CPU, by the flat path on `device`."""
    if device == "cuda":
        options = {"resolution": resolution, "padding": padding, "max_stretch": max_stretch}
        return tuple(t.cpu() for t in unwrap_uv(v.cuda(), f.cuda(), **options))  # type: ignore[arg-type,return-value]
    new_faces, vertex_map, uv, _ = _flat.unwrap(v, f.int(), resolution, padding, max_stretch)
    return v[vertex_map.long()], new_faces, uv, vertex_map


def report_of(result: Result) -> UnwrapReport:
    return measure_uv(result[0], result[1], result[2])


@on_each_device
@pytest.mark.parametrize("name", meshes.NAMED, ids=small_first)
def test_contract(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = meshes.NAMED[name]
    resolution = 512
    if small_first(name) != name:  # to be quick under a sanitizer too, which follows each access to the grid of cells
        resolution = 64
        monkeypatch.setattr(_flat_pack, "_LEAST_GRID", 64.0)
        monkeypatch.setattr(_flat_pack, "_ORDERS", 4)
    oracle.assert_valid_unwrap(*mesh, unwrap(*mesh, device, resolution=resolution))


@on_each_device
def test_no_faces(device: str) -> None:
    v, f, uv, vertex_map = unwrap(torch.rand(5, 3), torch.zeros(0, 3, dtype=torch.int64), device)
    assert v.shape == (0, 3) and f.shape == (0, 3) and uv.shape == (0, 2) and vertex_map.shape == (0,)


@on_each_device
@pytest.mark.parametrize("faces", [[[0, 0, 1]], [[1, 1, 1]], [[0, 1, 2]], [[0, 1, 2], [2, 2, 0]]])
def test_a_mesh_without_area(faces: list[list[int]], device: str) -> None:
    mesh = torch.tensor([[0.0, 0, 0], [1, 1, 1], [3, 3, 3]]), torch.tensor(faces)
    oracle.assert_valid_unwrap(*mesh, unwrap(*mesh, device))


@on_each_device
def test_degenerate_faces_come_back_in_a_chart_of_a_neighbour(device: str) -> None:
    v, f = meshes.NAMED["sphere"]
    f = torch.cat([f[:9], torch.tensor([[3, 3, 7], [5, 5, 5]]), f[9:], torch.tensor([[0, 1, 0]])])
    result = unwrap(v, f, device)
    oracle.assert_valid_unwrap(v, f, result)
    real = torch.ones(len(f), dtype=torch.bool)
    real[[9, 10, len(f) - 1]] = False
    texture = {tuple(t) for t in result[2][result[1][real].long()].view(-1, 2).tolist()}
    for i in (9, 10, len(f) - 1):
        corners = {tuple(t) for t in result[2][result[1][i].long()].tolist()}
        assert len(corners) == 1 and corners <= texture


@on_each_device
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_does_not_matter(scale: float, device: str) -> None:
    v, f = meshes.NAMED["torus"]
    result = unwrap(v * scale, f, device)
    oracle.assert_valid_unwrap(v * scale, f, result)
    assert report_of(result).utilisation > 0.4


@on_each_device
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_contract_on_random_meshes(device: str, seed: int) -> None:
    v, f = meshes.random_mesh(seed)
    result = unwrap(v, f, device, resolution=1024, padding=1.0)
    oracle.assert_valid_unwrap(v, f, result)
    report = report_of(result)
    assert report.valid and report.mirrored_charts == 0


@on_each_device
@pytest.mark.parametrize("padding", [0.0, 1.0, 6.0])
def test_padding_keeps_charts_apart(padding: float, device: str) -> None:
    resolution = 256
    v, f, uv, _ = unwrap(*meshes.NAMED["torus"], device, resolution=resolution, padding=padding)
    _, faces = measure_uv(v, f, uv, return_faces=True)
    assert int(faces.chart.max()) > 2
    texels = uv.double() * resolution
    assert float(texels.min()) >= padding / 2 - 1e-4 and float(texels.max()) <= resolution - padding / 2 + 1e-4
    along = torch.linspace(0, 1, 9).double()[:, None, None, None]
    ends = texels[f.long()]
    points = (ends * (1 - along) + ends.roll(-1, 1) * along).movedim(0, 2).reshape(len(f), -1, 2)
    for c in range(int(faces.chart.max()) + 1):
        mine, others = points[faces.chart == c].reshape(-1, 2), points[faces.chart != c].reshape(-1, 2)
        assert float(torch.cdist(mine, others).min()) >= padding - 1e-3


@on_each_device
def test_padding_that_fills_the_texture_is_an_error(device: str) -> None:
    with pytest.raises(ValueError, match=r"padding: 6 charts with 16 texels between them do not fit a texture of 32"):
        unwrap(*meshes.BOX, device, resolution=32, padding=16.0)


@on_each_device
def test_coordinates_that_are_not_finite_are_an_error(device: str) -> None:
    with pytest.raises(ValueError, match="vertices: expected finite coordinates, got nan in vertex 0"):
        unwrap(torch.full_like(meshes.BOX[0], torch.nan), meshes.BOX[1], device)


@on_each_device
def test_a_flat_sheet_is_one_chart_without_distortion(device: str) -> None:
    v, f = meshes.height_field(np.zeros((20, 20)))
    turn = torch.linalg.qr(torch.tensor(np.random.default_rng(0).standard_normal((3, 3))).float())[0]
    report = report_of(unwrap(v @ turn, f, device, padding=0.0))
    assert report.charts == 1 and report.utilisation > 0.9
    assert report.stretch_l2 == pytest.approx(1, abs=1e-4) and report.stretch_linf == pytest.approx(1, abs=1e-3)


@on_each_device
@pytest.mark.parametrize(
    ("name", "charts", "l2", "linf", "used"),
    [("sphere", 30, 1.01, 1.3, 0.55), ("noisy sphere", 30, 1.02, 4.0, 0.55), ("crags", 250, 1.1, 4.5, 0.5)],
)
def test_quality(name: str, charts: int, l2: float, linf: float, used: float, device: str) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=4)
    if name == "noisy sphere":
        sphere.vertices *= 1 + 0.01 * np.random.default_rng(0).standard_normal((len(sphere.vertices), 1))
    crags = meshes.height_field(np.random.default_rng(1).standard_normal((30, 30)))
    report = report_of(unwrap(*(crags if name == "crags" else meshes.as_mesh(sphere)), device))
    assert report.valid and report.mirrored_charts == 0
    assert report.charts <= charts and report.utilisation >= used
    assert report.stretch_l2 <= l2 and report.stretch_linf <= linf


@on_each_device
def test_the_stretch_limit_is_kept(device: str) -> None:
    mesh = meshes.height_field(np.random.default_rng(1).standard_normal((20, 20)))
    tight = report_of(unwrap(*mesh, device, max_stretch=1.5))
    # A chart that lost faces to others is a little off the common density.
    assert tight.stretch_linf <= 1.5 * 1.1 < report_of(unwrap(*mesh, device)).stretch_linf


@on_each_device
def test_charts_fit_into_each_others_hollows(device: str) -> None:
    """Two L-shapes of three squares each: boxes alone would leave half of the texture empty."""
    square = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], dtype=float)
    shape = np.concatenate([square, square + [1, 0], square + [0, 1]])
    uv = torch.tensor(np.concatenate([shape, shape]))
    label = torch.arange(12).div(6, rounding_mode="floor").int()
    area, seam = torch.full((12,), 0.5, dtype=torch.float64), torch.ones(12, 3, dtype=torch.bool)
    first = torch.tensor([0, 6, 12])
    packed = _flat_pack.pack(*(t.to(device) for t in (uv, label, first, area, seam)), resolution=64, padding=0.0).cpu()
    a, b = packed[:, 1] - packed[:, 0], packed[:, 2] - packed[:, 0]
    assert not oracle.overlapping_pairs(packed.numpy())
    assert float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2) > 0.6, "two boxes alone would give 0.375"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("charts", "grid"), [(40, 256), (700, 512), (60, 1664)], ids=["small-few", "many", "wide"])
def test_places_are_those_of_the_cpu(charts: int, grid: int) -> None:
    """The same search: the lowest place of all turns, though a device looks at many at once and skips full rows.
    The wide grid does not fit in the memory of a block."""
    rng = np.random.default_rng(charts)
    corners = torch.tensor(rng.integers(0, grid // int(charts**0.5), (charts, 3, 2))).double()
    corners -= corners.amin(1, keepdim=True)
    extent, label = corners.amax(1), torch.arange(charts, dtype=torch.int32)
    orders = torch.stack(
        [torch.sort(k, descending=True, stable=True).indices.int() for k in (extent.sum(1), extent[:, 0])]
    )
    tried = [3.2, 2.8, 2.4]
    (fails, best), other = (
        _flat_pack._attempt(
            (corners.to(device), label.to(device), charts, charts),
            extent.to(device),
            tried,
            4.0,
            0.5,
            grid,
            orders.to(device),
        )
        for device in ("cpu", "cuda")
    )
    assert best is not None and other[1] is not None
    assert (fails, best[0]) == (other[0], other[1][0]) and torch.equal(best[1], other[1][1].cpu())
    assert torch.equal(best[2], other[1][2].cpu())


@on_each_device
@pytest.mark.parametrize("size", [(1.0, 1.0, 0.02), (1.0, 0.1, 0.04), (1.0, 1.0, 0.15)], ids=["plate", "bar", "slab"])
def test_large_charts_are_halved_where_they_leave_much_empty(size: tuple[float, ...], device: str) -> None:
    """Whole, the two sides of a plate fill less than half of a square, and a bar's four are as long as it is. A slab is
    filled well only once its large charts are cut again."""
    box = trimesh.creation.box(size)
    v, f = meshes.as_mesh(box.subdivide().subdivide().subdivide())
    result = unwrap(v, f, device, padding=1.0)
    oracle.assert_valid_unwrap(v, f, result)
    report = report_of(result)
    assert report.valid and report.utilisation > 0.7 and report.charts < 30


def test_same_bits_for_any_number_of_threads() -> None:
    mesh = meshes.height_field(np.random.default_rng(4).standard_normal((40, 40)))
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: unwrap(*mesh, "cpu"))


@on_each_device
@pytest.mark.parametrize("name", [*meshes.NAMED, "soup"], ids=small_first)
def test_measure_agrees_with_the_serial_one(name: str, device: str) -> None:
    rng = np.random.default_rng(5)
    v, f = (torch.tensor(rng.standard_normal((60, 3))).float(), torch.tensor(rng.integers(0, 60, (90, 3))))
    if name != "soup":
        v, f = meshes.NAMED[name]
        f = f[1:]  # over a closed surface signed areas add up to 0, and rounding would say which way it faces
    uv = torch.tensor(rng.random((len(v), 2))).float() * 1.2 - 0.1
    expected, faces = measure_uv(v, f, uv, return_faces=True)
    figures, chart, fault = (
        t.cpu() if isinstance(t, torch.Tensor) else t
        for t in _flat_measure.measure(v.to(device), f.int().to(device), uv.to(device), 2048, 8.0)
    )
    assert torch.equal(chart, faces.chart)
    for bit, what in enumerate((faces.flipped, faces.overlapping, faces.outside, faces.collapsed)):
        assert torch.equal((fault >> bit & 1).bool(), what)
    e = expected
    found = [e.charts, e.mirrored_charts, e.small_charts, e.stretch_l2, e.stretch_linf, e.utilisation]
    assert figures == pytest.approx([*found, e.flipped_faces, e.overlapping_faces, e.outside_faces, e.collapsed_faces])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_same_bits_again_and_on_another_stream() -> None:
    v, f = (t.cuda() for t in meshes.height_field(np.random.default_rng(4).standard_normal((60, 60))))
    expected = unwrap_uv(v, f)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        again = unwrap_uv(v, f)
    stream.synchronize()
    for a, b in zip(expected, again, strict=True):
        assert torch.equal(a, b)
