"""voxelize_attributes against brute force in NumPy, and what it makes of trimesh scenes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import trellis_voxel as tv
import trimesh
from attributes_meshes import BOX, f32, image_of, only, quad, random_soup, rows, soup_mesh, texture, trimesh_quad
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_voxel import PbrMaterial, TexturedMesh
from trellis_voxel._library import EXTENSION
from trimesh.visual.material import PBRMaterial

Array = npt.NDArray[Any]


# ---- oracles --------------------------------------------------------------------------------------


def crossed_voxels(triangle: Array, grid: int) -> set[tuple[int, int, int]]:
    """Voxels around the inner lattice edges that a triangle (voxel units, in general position) crosses."""
    found = set()
    for w in range(3):
        u, v = (w + 1) % 3, (w + 2) % 3
        a, b, c = triangle
        det = (b[u] - a[u]) * (c[v] - a[v]) - (c[u] - a[u]) * (b[v] - a[v])
        if det == 0:
            continue
        for i, j in itertools.product(range(1, grid), repeat=2):
            s = ((i - a[u]) * (c[v] - a[v]) - (c[u] - a[u]) * (j - a[v])) / det
            t = ((b[u] - a[u]) * (j - a[v]) - (i - a[u]) * (b[v] - a[v])) / det
            if s < 0 or t < 0 or s + t > 1:
                continue
            k = int(np.floor(a[w] + s * (b[w] - a[w]) + t * (c[w] - a[w])))
            if 0 <= k < grid:
                for di, dj in itertools.product((0, 1), repeat=2):
                    voxel = [0, 0, 0]
                    voxel[u], voxel[v], voxel[w] = i - di, j - dj, k
                    found.add(tuple(voxel))
    return found


def test_oracle_of_crossings() -> None:
    # A triangle at height 1.5 around the one lattice line (1, 1) along z.
    triangle = np.array([[0.5, 0.5, 1.5], [1.7, 0.6, 1.5], [0.6, 1.7, 1.5]])
    assert crossed_voxels(triangle, 4) == {(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1)}


def supersampled(
    triangles: Array, color: Callable[[Array, Array], Array], grid: int, n: int
) -> dict[tuple[int, ...], Array]:
    """Mean of color(triangle number, weights) over the surface in each voxel, from n^2 points a triangle."""
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    # Centroids of the n^2 congruent triangles that one is cut into.
    up = np.stack([i + 1 / 3, j + 1 / 3], -1)[i + j < n]
    down = np.stack([i + 2 / 3, j + 2 / 3], -1)[i + j < n - 1]
    s, t = (np.concatenate([up, down]) / n).T
    weights = np.stack([1 - s - t, s, t], 1)
    sums: dict[tuple[int, ...], Array] = {}
    for number, triangle in enumerate(triangles):
        area = np.linalg.norm(np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0]))
        values = color(np.full(len(weights), number), weights)
        voxels, inverse = np.unique(np.floor(weights @ triangle).astype(int), axis=0, return_inverse=True)
        for k, voxel in enumerate(voxels):
            inside = values[inverse.reshape(-1) == k]
            entry = np.append(inside.sum(0), len(inside)) * area
            sums[tuple(voxel)] = sums.get(tuple(voxel), 0) + entry
    return {k: v[:-1] / v[-1] for k, v in sums.items() if all(0 <= c < grid for c in k)}


def test_oracle_of_supersampling() -> None:
    # A right triangle over two voxels of which the first holds 3/4 of it: value 1 there, and a gradient's means.
    triangle = np.array([[0.0, 0.0, 0.5], [2.0, 0.0, 0.5], [0.0, 0.999, 0.5]])
    means = supersampled(triangle[None], lambda _, w: np.stack([w[:, 1] * 2, np.ones(len(w))], 1), 2, 60)
    assert set(means) == {(0, 0, 0), (1, 0, 0)}
    # Mean of x over [0, 1] with density 2 - x, and over [1, 2].
    assert means[0, 0, 0] == pytest.approx([(1 - 1 / 3) / 1.5, 1], abs=2e-3)
    assert means[1, 0, 0] == pytest.approx([(3 - 7 / 3) / 0.5, 1], abs=5e-3)


def bilinear(image: Array, uv: Array) -> Array:
    """Samples a texture that repeats, row 0 at v = 1, at texel centres (0.5, 1.5, ...)."""
    height, width, _ = image.shape
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    out = np.zeros((len(uv), image.shape[2]))
    for dx, dy in itertools.product((0, 1), repeat=2):
        weight = np.abs(1 - dx - (x - x0)) * np.abs(1 - dy - (y - y0))
        out += weight[:, None] * image[(y0 + dy) % height, (x0 + dx) % width]
    return out


def test_oracle_of_bilinear() -> None:
    image = np.array([[[0.0], [4.0]], [[8.0], [12.0]]])
    uv = np.array([[0.25, 0.75], [0.5, 0.75], [0.25, 0.5], [0.5, 0.5], [0.0, 0.75], [1.25, -0.75]])
    assert bilinear(image, uv)[:, 0].tolist() == [0, 2, 4, 6, 2, 8]


# ---- which voxels ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 16, 33]))
def test_voxels_are_those_around_crossed_lattice_edges(seed: int, grid: int) -> None:
    vertices, _ = random_soup(np.random.default_rng(seed), 3)
    expected = set().union(*(crossed_voxels(t, grid) for t in vertices.astype(np.float64).reshape(-1, 3, 3) * grid))
    for average in ("crossing", "area"):
        coords, _ = tv.voxelize_attributes(
            soup_mesh(vertices, None, PbrMaterial()), grid_size=grid, aabb=BOX, average=average
        )
        assert {tuple(c) for c in coords.tolist()} == expected


def test_coords_ascend() -> None:
    vertices, _ = random_soup(np.random.default_rng(0), 40)
    coords, attrs = tv.voxelize_attributes(soup_mesh(vertices, None, PbrMaterial()), grid_size=40, aabb=BOX)
    assert coords.dtype == torch.int32
    keys = (coords.long() * torch.tensor([1600, 40, 1])).sum(1)
    assert (keys.diff() > 0).all()
    assert {k: (v.dtype, v.shape) for k, v in attrs.items()} == {
        k: (torch.uint8, (len(coords), c)) for k, c in tv.ATTRIBUTES.items()
    }


@pytest.mark.parametrize("average", ["crossing", "area"])
def test_box_that_is_its_own_aabb(average: str) -> None:
    """Faces exactly on the grid's border, far ones too, belong to the outermost voxels."""
    mesh = trimesh.creation.box(bounds=[[0, 0, 0], [1, 1, 1]])
    coords, attrs = tv.voxelize_attributes(mesh, grid_size=8, aabb=BOX, average=average)
    expected = {c for c in itertools.product(range(8), repeat=3) if min(c) == 0 or max(c) == 7}
    assert {tuple(c) for c in coords.tolist()} == expected
    assert only(attrs, "base_color") == [255, 255, 255]


def test_geometry_outside_the_box_is_cut_off() -> None:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.6)
    mesh.apply_translation([1, 1, 1])
    coords, _ = tv.voxelize_attributes(mesh, grid_size=16, aabb=BOX)
    assert coords.min() >= 0 and coords.max() <= 15
    whole, _ = tv.voxelize_attributes(mesh, grid_size=32, aabb=[[0, 0, 0], [2, 2, 2]])
    inside = whole[(whole < 16).all(1)]
    assert {tuple(c) for c in inside.tolist()} >= {tuple(c) for c in coords.tolist()}
    # Lattice edges on the border itself are not looked at, so voxels there may be missing, and only there.
    missing = {tuple(c) for c in inside.tolist()} - {tuple(c) for c in coords.tolist()}
    assert all(15 in c for c in missing)
    far = tv.voxelize_attributes(trimesh.creation.box(bounds=[[5, 5, 5], [6, 6, 6]]), grid_size=16, aabb=BOX)
    assert len(far[0]) == 0


def test_anisotropic_grid() -> None:
    coords, attrs = tv.voxelize_attributes(quad(z=2.2), grid_size=(4, 8, 16), aabb=[[0, 0, 0], [1, 1, 4]])
    assert {tuple(c) for c in coords.tolist()} == {(x, y, 8) for x in range(4) for y in range(8)}
    assert only(attrs, "normal") == [128, 128, 255]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(-6, 6)] * 3), st.sampled_from(["crossing", "area"]))
def test_moving_the_mesh_by_whole_voxels_moves_the_voxels(seed: int, shift: tuple[int, int, int], average: str) -> None:
    rng = np.random.default_rng(seed)
    # Multiples of 2^-12 stay exact when moved.
    vertices = np.round(rng.uniform(-0.3, 0.3, (12, 3)) * 4096) / 4096
    material = PbrMaterial(base_color_texture=texture(rng.integers(0, 256, (4, 4, 3))))
    uvs = rng.uniform(0, 1, (12, 2))
    box = [[-1, -1, -1], [1, 1, 1]]
    coords, attrs = tv.voxelize_attributes(soup_mesh(vertices, uvs, material), grid_size=32, aabb=box, average=average)
    moved = soup_mesh(vertices + np.array(shift) / 16, uvs, material)
    coords2, attrs2 = tv.voxelize_attributes(moved, grid_size=32, aabb=box, average=average)
    assert torch.equal(coords + torch.tensor(shift, dtype=torch.int32), coords2)
    for name in attrs:  # rounding of positions far from or near the corner may turn a last bit
        assert (attrs[name].int() - attrs2[name].int()).abs().max() <= 1


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["crossing", "area"]))
def test_order_of_faces_does_not_matter(seed: int, average: str) -> None:
    rng = np.random.default_rng(seed)
    vertices, uvs = random_soup(rng, 12)
    material = PbrMaterial(base_color_texture=texture(rng.integers(0, 256, (8, 8, 3))))
    mesh = soup_mesh(vertices, uvs, material)
    other = TexturedMesh(mesh.vertices, mesh.faces[torch.from_numpy(rng.permutation(12))], mesh.materials, mesh.uvs)
    a, b = (tv.voxelize_attributes(m, grid_size=16, aabb=BOX, average=average) for m in (mesh, other))
    assert torch.equal(a[0], b[0])
    assert (a[1]["base_color"].int() - b[1]["base_color"].int()).abs().max() <= 1  # the order of sums


# ---- averages -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_crossing_average_samples_each_triangle_where_the_centre_drops_on_it(seed: int) -> None:
    rng, grid = np.random.default_rng(seed), 12
    vertices, uvs = random_soup(rng, 4)
    uvs = np.float32(uvs * 0.1)  # coarse texels, so that mip level 0 is used
    image = rng.integers(0, 256, (2, 4, 3))
    mesh = soup_mesh(vertices, uvs, PbrMaterial(base_color_texture=texture(image)))
    samples: dict[tuple[int, ...], list[Array]] = {}
    for triangle, uv in zip(
        vertices.astype(np.float64).reshape(-1, 3, 3) * grid, uvs.astype(np.float64).reshape(-1, 3, 2), strict=True
    ):
        edges = (triangle[1:] - triangle[0]).T
        for voxel in crossed_voxels(triangle, grid):
            s, t = np.linalg.lstsq(edges, np.array(voxel) + 0.5 - triangle[0], rcond=None)[0]
            point = uv[0] + s * (uv[1] - uv[0]) + t * (uv[2] - uv[0])
            samples.setdefault(voxel, []).append(bilinear(image, point[None])[0])
    # Footprint in texels: skip the rare soup with a sliver whose texture is stretched the other way.
    corner, corner_uv = vertices.reshape(-1, 3, 3).astype(np.float64), uvs.reshape(-1, 3, 2).astype(np.float64)
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    e1, e2 = corner_uv[:, 1] - corner_uv[:, 0], corner_uv[:, 2] - corner_uv[:, 0]
    if (np.abs(e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]) * 8 / area / grid**2 >= 1).any():
        return
    coords, attrs = tv.voxelize_attributes(mesh, grid_size=grid, aabb=BOX)
    got = rows(coords, attrs["base_color"])
    assert set(got) == set(samples)
    for voxel, values in samples.items():
        assert got[voxel] == pytest.approx(np.mean(values, axis=0), abs=0.51 + 1e-3)


@pytest.mark.parametrize("seed", range(2))
def test_area_average_is_the_mean_over_the_surface(seed: int) -> None:
    """Constant colours: exact up to rounding. A texture coarser than voxels: to 2 of 255."""
    rng, grid = np.random.default_rng(seed), 6
    vertices, uvs = random_soup(rng, 6)
    uvs = np.float32(uvs * 0.08)
    triangles = vertices.astype(np.float64).reshape(-1, 3, 3) * grid
    colors = rng.integers(0, 256, (6, 3)) / 255
    mesh = TexturedMesh(
        f32(vertices),
        torch.arange(18).reshape(-1, 3),
        [PbrMaterial(base_color_factor=(*c, 1.0)) for c in colors.tolist()],
        face_materials=torch.arange(6),
    )
    coords, attrs = tv.voxelize_attributes(mesh, grid_size=grid, aabb=BOX, average="area")
    expected = supersampled(triangles, lambda number, _: colors[number] * 255, grid, 250)
    for voxel, value in rows(coords, attrs["base_color"]).items():
        assert value == pytest.approx(expected[voxel], abs=2.0)  # the supersampling's own error at small corners

    image = rng.integers(0, 256, (4, 4, 3))
    corner_uv = uvs.astype(np.float64).reshape(-1, 3, 2)
    mesh = soup_mesh(vertices, uvs, PbrMaterial(base_color_texture=texture(image)))
    coords, attrs = tv.voxelize_attributes(mesh, grid_size=grid, aabb=BOX, average="area", mip_bias=-20.0)
    expected = supersampled(
        triangles, lambda k, w: bilinear(image, np.einsum("nk,nkc->nc", w, corner_uv[k])), grid, 200
    )
    gap = np.array([np.abs(np.array(v) - expected[k]) for k, v in rows(coords, attrs["base_color"]).items()])
    assert gap.mean() < 2.0


@pytest.mark.parametrize("seed", range(2))
def test_area_average_of_fine_texels(seed: int) -> None:
    """Voxels of some hundred texels of a ramp, whose mean is known whatever the filter: to 1.5 of 255 on average."""
    rng, grid = np.random.default_rng(seed), 6
    vertices, uvs = random_soup(rng, 6)
    uvs = np.float32(0.25 + uvs / 6)  # away from where the ramp starts over
    ramp = np.broadcast_to(np.arange(256)[None, :, None], (256, 256, 3))
    mesh = soup_mesh(vertices, uvs, PbrMaterial(base_color_texture=texture(ramp)))
    coords, attrs = tv.voxelize_attributes(mesh, grid_size=grid, aabb=BOX, average="area")
    corner_u = uvs[:, 0].astype(np.float64).reshape(-1, 3)
    triangles = vertices.astype(np.float64).reshape(-1, 3, 3) * grid
    expected = supersampled(
        triangles, lambda k, w: np.einsum("nk,nk->n", w, corner_u[k])[:, None] * 256 - 0.5, grid, 200
    )
    gap = [abs(v[0] - expected[k][0]) for k, v in rows(coords, attrs["base_color"]).items()]
    assert np.mean(gap) < 1.5


def test_area_average_keeps_other_charts_out() -> None:
    """Two charts side by side in the texture, red and green: no voxel of the red face turns green."""
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:, :32, 0] = 255
    image[:, 32:, 1] = 255
    mesh = TexturedMesh(
        vertices=f32([[0.1, 0.1, 0.53], [0.9, 0.1, 0.53], [0.1, 0.9, 0.53]]),
        faces=torch.tensor([[0, 1, 2]]),
        materials=(PbrMaterial(base_color_texture=texture(image)),),
        uvs=f32([[0.0, 0.0], [0.48, 0.0], [0.48, 1.0]]),
    )
    _, attrs = tv.voxelize_attributes(mesh, grid_size=16, aabb=BOX, average="area")
    assert (attrs["base_color"][:, 1] == 0).float().mean() > 0.8
    assert attrs["base_color"][:, 1].max() < 70


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.sampled_from(["crossing", "area"]), st.sampled_from([1, 3, 64]))
def test_constant_texture_gives_its_exact_value(color: tuple[int, int, int], average: str, size: int) -> None:
    image = np.broadcast_to(np.array(color), (size, size, 3))
    material = PbrMaterial(
        base_color_texture=texture(image),
        metallic_roughness_texture=texture(image),
        emissive_texture=texture(image),
        emissive_factor=(1.0, 1.0, 1.0),
    )
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=0.4)
    mesh = TexturedMesh(
        f32(sphere.vertices + 0.5), torch.tensor(sphere.faces), (material,), f32(sphere.vertices[:, :2])
    )
    _, attrs = tv.voxelize_attributes(mesh, grid_size=12, aabb=BOX, average=average)
    assert only(attrs, "base_color") == only(attrs, "emissive") == list(color)
    assert (only(attrs, "roughness"), only(attrs, "metallic")) == ([color[1]], [color[2]])


@pytest.mark.parametrize("average", ["crossing", "area"])
def test_gradient_texture_gives_a_gradient(average: str) -> None:
    ramp = np.broadcast_to(np.arange(256)[None, :, None], (256, 256, 3)).copy()
    ramp[..., 1] = np.arange(256)[::-1, None]  # v upwards: brightest in the top row
    coords, attrs = tv.voxelize_attributes(
        quad(material=PbrMaterial(base_color_texture=texture(ramp), wrap=("clamp", "clamp"))),
        grid_size=16,
        aabb=BOX,
        average=average,
    )
    assert len(coords) == 256
    image = attrs["base_color"].reshape(16, 16, 3).int()
    assert (image[1:, :, 0] > image[:-1, :, 0]).all()
    assert (image[:, 1:, 1] > image[:, :-1, 1]).all()
    centres = (torch.arange(16) + 0.5) * 16 - 0.5
    assert (image[:, :, 0] - centres[:, None]).abs()[1:-1].max() <= 1.01


# ---- texture filtering ----------------------------------------------------------------------------


@pytest.mark.parametrize("average", ["crossing", "area"])
@pytest.mark.parametrize("shape", [(64, 64), (63, 65), (1, 37), (50, 3)])
def test_large_footprint_gives_the_mean_of_the_texture(shape: tuple[int, int], average: str) -> None:
    """A texture that repeats 16 times in each voxel; halving odd sizes keeps the mean."""
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3))
    material = PbrMaterial(base_color_texture=texture(image))
    _, attrs = tv.voxelize_attributes(
        quad(uv_scale=64.0, material=material), grid_size=4, aabb=BOX, average=average, mip_bias=3.0
    )
    assert attrs["base_color"].float().numpy() == pytest.approx(np.broadcast_to(image.mean((0, 1)), (16, 3)), abs=0.6)


@pytest.mark.parametrize("average", ["crossing", "area"])
@pytest.mark.parametrize("size", [16, 64, 256])
def test_mip_filter_matches_the_box_mean_of_each_voxel(size: int, average: str) -> None:
    """8 voxels across; a voxel holds size/8 squared texels of smooth random content."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (16, 16, 3)).astype(np.float64)
    image = np.kron(coarse, np.ones((size // 16, size // 16, 1)))
    material = PbrMaterial(base_color_texture=texture(image))
    coords, attrs = tv.voxelize_attributes(quad(material=material), grid_size=8, aabb=BOX, average=average)
    boxes = coarse.reshape(8, 2, 8, 2, 3).mean((1, 3))[::-1].transpose(1, 0, 2).reshape(64, 3)
    gap = np.abs(attrs["base_color"].numpy() - boxes)
    assert len(coords) == 64
    # Level 0 interpolates between the four texels, finer levels see more of the neighbours.
    assert gap.mean() < 20 and np.corrcoef(attrs["base_color"].numpy().ravel(), boxes.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("bias", "expected"), [(-2.0, 0), (-1.0, 0), (-0.5, 64), (0.0, 128), (1.0, 128)])
def test_mip_level_is_that_of_a_footprint_of_one_voxel(bias: float, expected: int) -> None:
    """Stripes four texels wide, voxels of eight texels centred on dark stripes: level 2 shows them, level 3 cannot."""
    stripes = np.broadcast_to(np.where(np.arange(64) % 8 < 4, 255, 0)[None, :, None], (64, 64, 3))
    material = PbrMaterial(base_color_texture=texture(stripes))
    _, attrs = tv.voxelize_attributes(quad(uv_offset=2 / 64, material=material), grid_size=8, aabb=BOX, mip_bias=bias)
    assert (attrs["base_color"].int() - expected).abs().max() <= 1


@pytest.mark.parametrize(("slope", "expected"), [(0.0, 128), (3**0.5, 64), (15**0.5, 0)])
def test_an_oblique_mapping_takes_the_mean_of_both_directions(slope: float, expected: int) -> None:
    """v = y + slope x: one step along u at constant v is sqrt(1 + slope²) long, so that the level falls by a quarter of
    log2(1 + slope²), though a voxel covers as many texels as before."""
    stripes = np.broadcast_to(np.where(np.arange(64) % 8 < 4, 255, 0)[None, :, None], (64, 64, 3))
    base = quad(uv_offset=2 / 64, material=PbrMaterial(base_color_texture=texture(stripes)))
    assert base.uvs is not None
    uvs = base.uvs + slope * base.vertices[:, :1] * torch.tensor([0.0, 1.0])
    mesh = TexturedMesh(base.vertices, base.faces, base.materials, uvs)
    _, attrs = tv.voxelize_attributes(mesh, grid_size=8, aabb=BOX)
    assert (attrs["base_color"].int() - expected).abs().max() <= 1


@pytest.mark.parametrize(("wrap", "pad"), [("repeat", "wrap"), ("clamp", "edge"), ("mirror", "symmetric")])
@pytest.mark.parametrize("average", ["crossing", "area"])
def test_wrap_modes_are_as_if_the_texture_were_larger(wrap: str, pad: Any, average: str) -> None:
    image = np.random.default_rng(3).integers(0, 256, (4, 6, 3))
    larger = np.pad(image, ((8, 8), (12, 12), (0, 0)), mode=pad)  # five textures across, for u and v in [-2, 3]
    small = quad(
        uv_scale=3.8, uv_offset=-1.4, material=PbrMaterial(base_color_texture=texture(image), wrap=(wrap, wrap))
    )
    whole = quad(uv_scale=3.8 / 5, uv_offset=0.6 / 5, material=PbrMaterial(base_color_texture=texture(larger)))
    a, b = (
        tv.voxelize_attributes(m, grid_size=32, aabb=BOX, average=average, mip_bias=-20.0)[1]["base_color"]
        for m in (small, whole)
    )
    assert (a.int() - b.int()).abs().max() <= 1


def test_wrap_modes_are_of_each_axis() -> None:
    image = np.zeros((1, 2, 3), dtype=np.uint8)
    image[0, 1] = 255
    corners = quad(
        uv_scale=0.0, uv_offset=1.25, material=PbrMaterial(base_color_texture=texture(image), wrap=("clamp", "repeat"))
    )
    assert only(tv.voxelize_attributes(corners, grid_size=4, aabb=BOX)[1], "base_color") == [255] * 3
    corners = quad(
        uv_scale=0.0, uv_offset=1.25, material=PbrMaterial(base_color_texture=texture(image), wrap=("repeat", "clamp"))
    )
    assert only(tv.voxelize_attributes(corners, grid_size=4, aabb=BOX)[1], "base_color") == [0] * 3


def test_nearest_filter_reads_single_texels() -> None:
    image = np.random.default_rng(4).integers(0, 256, (8, 8, 3))
    material = PbrMaterial(base_color_texture=texture(image), filter="nearest")
    _, attrs = tv.voxelize_attributes(quad(material=material), grid_size=8, aabb=BOX)
    assert np.array_equal(attrs["base_color"].numpy().reshape(8, 8, 3), image[::-1].transpose(1, 0, 2))


@pytest.mark.parametrize("large", [1e9, -1e9, 3e38])
def test_huge_texture_coordinates_are_read_somewhere(large: float) -> None:
    image = np.full((4, 4, 3), 77)
    for wrap in ("repeat", "clamp", "mirror"):
        mesh = quad(uv_offset=large, material=PbrMaterial(base_color_texture=texture(image), wrap=(wrap, wrap)))
        assert only(tv.voxelize_attributes(mesh, grid_size=4, aabb=BOX)[1], "base_color") == [77] * 3


# ---- nothing there, and what is refused -----------------------------------------------------------


def test_nothing_to_voxelise() -> None:
    empty = TexturedMesh(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int32))
    point = TexturedMesh(torch.full((3, 3), 0.3), torch.tensor([[0, 1, 2]]))
    line = TexturedMesh(f32([[0.1, 0.1, 0.1], [0.9, 0.8, 0.7], [0.5, 0.45, 0.4]]), torch.tensor([[0, 1, 1], [0, 0, 0]]))
    for nothing in (empty, point, line, [], [empty, point], trimesh.Scene(), trimesh.Trimesh()):
        coords, attrs = tv.voxelize_attributes(nothing, grid_size=8, aabb=BOX)
        assert coords.shape == (0, 3) and coords.dtype == torch.int32
        assert {k: tuple(v.shape) for k, v in attrs.items()} == {k: (0, c) for k, c in tv.ATTRIBUTES.items()}


def test_non_contiguous_tensors_and_int64_faces() -> None:
    base = quad(material=PbrMaterial(base_color_texture=texture(np.random.default_rng(7).integers(0, 256, (8, 8, 3)))))
    wide = torch.zeros(4, 6)
    wide[:, ::2], wide_uv = base.vertices, torch.zeros(4, 4)
    wide_uv[:, 1::2] = base.uvs
    flipped = texture(base.materials[0].base_color_texture.numpy()[:, ::-1]).flip(1)
    odd = TexturedMesh(
        wide[:, ::2], base.faces.to(torch.int32), (PbrMaterial(base_color_texture=flipped),), wide_uv[:, 1::2]
    )
    a, b = (tv.voxelize_attributes(m, grid_size=8, aabb=BOX) for m in (base, odd))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1]["base_color"], b[1]["base_color"])


def with_vertex(value: float) -> TexturedMesh:
    base = quad()
    vertices = base.vertices.clone()
    vertices[2, 1] = value
    return TexturedMesh(vertices, base.faces)


BASE = quad()


def other(materials: Any = BASE.materials, **more: Any) -> TexturedMesh:
    return TexturedMesh(BASE.vertices, BASE.faces, materials, **more)


META = TexturedMesh(BASE.vertices.to("meta"), torch.empty(0, 3, dtype=torch.int32, device="meta"))
PIXELS = torch.zeros(2, 2, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("mesh", "error", "message"),
    [
        ("scene.glb", TypeError, "scene_or_mesh: expected a trimesh Scene or Trimesh.*got str"),
        ([BASE, 3], TypeError, "scene_or_mesh: expected TexturedMesh, got int"),
        (with_vertex(float("nan")), ValueError, r"vertices: expected finite numbers, got \[1.0, nan, .*\] in row 2"),
        (with_vertex(float("inf")), ValueError, "vertices: expected finite numbers"),
        (TexturedMesh(BASE.vertices.double(), BASE.faces), TypeError, "vertices: expected dtype float32, got float64"),
        (TexturedMesh(BASE.vertices, BASE.faces + 2), ValueError, r"faces: expected vertex indices in \[0, 4\), got 2 to 5"),
        (TexturedMesh(BASE.vertices, BASE.faces - 1), ValueError, "faces: expected vertex indices"),
        (other(uvs=torch.zeros(3, 2)), ValueError, r"uvs: expected shape \[4, 2\], got \[3, 2\]"),
        (other(uvs=torch.full((4, 2), torch.nan)), ValueError, "uvs: expected finite numbers"),
        (other(normals=torch.zeros(4, 2)), ValueError, r"normals: expected shape \[4, 3\]"),
        (other(colors=torch.zeros(4, 3)), ValueError, r"colors: expected shape \[4, 4\]"),
        (other(colors=torch.zeros(4, 4, dtype=torch.uint8)), TypeError, "colors: expected dtype float32"),
        (other(()), TypeError, r"materials: expected at least one PbrMaterial, got \[\]"),
        (other((None,)), TypeError, "materials: expected at least one PbrMaterial, got"),
        (other(face_materials=torch.tensor([0, 1])), ValueError, r"face_materials: expected indices in \[0, 1\), got 0 to 1"),
        (other(face_materials=torch.tensor([0])), ValueError, r"face_materials: expected shape \[2\]"),
        (other(normals=torch.empty(4, 3, device="meta")), ValueError, "normals: expected a tensor on cpu"),
        ([BASE, META], ValueError, "vertices: expected a tensor on cpu like the other arguments, got one on meta"),
    ],
)  # fmt: skip
def test_refused_meshes(mesh: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        tv.voxelize_attributes(mesh, grid_size=8, aabb=BOX)


@pytest.mark.parametrize(
    ("material", "error", "message"),
    [
        ({"base_color_factor": (1.0, 1.0, 1.0)}, ValueError, "base_color_factor: expected 4 numbers, got 3"),
        ({"emissive_factor": (1.0, 1.0, "red")}, TypeError, "emissive_factor: expected a number, got str"),
        ({"metallic_factor": float("nan")}, ValueError, "metallic_factor: expected a finite number"),
        ({"roughness_factor": None}, TypeError, "roughness_factor: expected a number"),
        ({"alpha_cutoff": float("inf")}, ValueError, "alpha_cutoff: expected a finite number"),
        ({"normal_scale": "1"}, TypeError, "normal_scale: expected a number"),
        ({"alpha_mode": "CLEAR"}, ValueError, "alpha_mode: expected 'OPAQUE', 'MASK' or 'BLEND', got 'CLEAR'"),
        ({"base_color_texture": PIXELS.float()}, TypeError, "base_color_texture: expected dtype uint8, got float32"),
        ({"base_color_texture": PIXELS[..., :1]}, ValueError, "base_color_texture: expected 3 or more channels, got 1"),
        ({"metallic_roughness_texture": PIXELS[..., :2]}, ValueError, "metallic_roughness_texture: expected 3 or more channels, got 2"),
        ({"emissive_texture": PIXELS[0]}, ValueError, r"emissive_texture: expected shape \[H, W, C\]"),
        ({"normal_texture": PIXELS[:0]}, ValueError, r"normal_texture: expected sizes in \[1, 65536\], got 0 x 2"),
        ({"base_color_texture": PIXELS, "wrap": ("repeat",)}, ValueError, "wrap: expected two modes"),
        ({"base_color_texture": PIXELS, "wrap": ("repeat", "border")}, ValueError, "wrap: expected .* got 'border'"),
        ({"base_color_texture": PIXELS, "filter": "cubic"}, ValueError, "filter: expected 'nearest' or 'linear', got 'cubic'"),
    ],
)  # fmt: skip
def test_refused_materials(material: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tv.voxelize_attributes(quad(material=PbrMaterial(**material)), grid_size=8, aabb=BOX)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"grid_size": 0}, ValueError, "grid_size: expected"),
        ({"grid_size": 65537}, ValueError, "grid_size: expected"),
        ({"grid_size": 2.5}, TypeError, "grid_size: expected"),
        ({"aabb": [[0, 0, 0], [1, 1, 0]]}, ValueError, "aabb: expected a maximum above the minimum"),
        ({"aabb": [[0, 0, 0], [1, 1, float("nan")]]}, ValueError, "aabb: expected finite"),
        ({"average": "mean"}, ValueError, "average: expected 'crossing' or 'area', got 'mean'"),
        ({"mip_bias": float("nan")}, ValueError, "mip_bias: expected a finite number"),
        ({"mip_bias": None}, TypeError, "mip_bias: expected a number"),
    ],
)
def test_refused_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tv.voxelize_attributes(BASE, **{"grid_size": 8, "aabb": BOX, **options})


def test_image_that_cannot_be_decoded(tmp_path: Any) -> None:
    import io

    buffer = io.BytesIO()
    image_of(np.random.default_rng(8).integers(0, 256, (64, 64, 3))).save(buffer, "PNG")
    picture = Image.open(io.BytesIO(buffer.getvalue()[:500]))
    with pytest.raises(ValueError, match="material 'skin': baseColorTexture: the image cannot be decoded"):
        tv.voxelize_attributes(trimesh_quad(PBRMaterial(name="skin", baseColorTexture=picture)), grid_size=4, aabb=BOX)


def test_vertex_colors_of_another_shape() -> None:
    mesh = trimesh_quad(PBRMaterial())
    mesh.visual.vertex_attributes["color"] = np.zeros((4, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"vertex colours: expected 3 or 4 channels, got shape \[4, 2\]"):
        tv.voxelize_attributes(mesh, grid_size=4, aabb=BOX)


# ---- the native half ------------------------------------------------------------------------------


@pytest.mark.parametrize("average", ["crossing", "area"])
def test_same_bits_for_any_number_of_threads(average: str) -> None:
    rng = np.random.default_rng(9)
    vertices, uvs = random_soup(rng, 300)
    image = texture(rng.integers(0, 256, (130, 67, 3)))
    mesh = soup_mesh(
        vertices, uvs, PbrMaterial(base_color_texture=image, metallic_roughness_texture=image, normal_texture=image)
    )
    assert_same_bits_for_any_thread_count(
        EXTENSION, lambda: tv.voxelize_attributes(mesh, grid_size=48, aabb=BOX, average=average)
    )


def scene_arguments() -> dict[str, torch.Tensor]:
    from trellis_voxel._materials import pack

    return vars(pack([quad(material=PbrMaterial(base_color_texture=PIXELS))])).copy()


def call(
    arguments: dict[str, torch.Tensor], voxel: float = 0.25, grid: int = 4, average: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    result: tuple[torch.Tensor, torch.Tensor] = torch.ops.trellis_voxel.voxelize_attributes(
        *arguments.values(), [voxel] * 3, [grid] * 3, 0.0, average
    )
    return result


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "message"),
    [
        ("textures", 0, 0, 1, "textures: row 0 reaches beyond the 16 bytes"),
        ("textures", 0, 0, -1, "textures: row 0 reaches beyond"),
        ("textures", 0, 1, 3, "textures: row 0 reaches beyond"),
        ("textures", 0, 1, 0, r"textures: row 0: expected sizes in \[1, 65536\]"),
        ("textures", 0, 2, 1 << 40, "textures: row 0: expected sizes"),
        ("textures", 0, 3, 5, "textures: row 0: expected sizes in .* and 1 to 4 channels"),
        ("textures", 0, 4, 3, r"textures: row 0: expected wrap modes in \[0, 2\]"),
        ("textures", 0, 6, 2, "textures: row 0: expected wrap modes .* and filter 0 or 1"),
        ("material_indices", 0, 0, 1, "material_indices: material 0 names texture 1 of 1"),
        ("material_indices", 0, 1, 0, "material_indices: material 0: expected a texture of 2 channels in slot 1"),
        ("material_indices", 0, 4, 3, r"material_indices: material 0: expected an alpha mode in \[0, 2\], got 3"),
    ],
)
def test_native_checks_of_tables(table: str, row: int, column: int, value: int, message: str) -> None:
    arguments = scene_arguments()
    assert len(call(arguments)[0]) == 16
    arguments[table][row, column] = value
    with pytest.raises(ValueError, match=message):
        call(arguments)


def test_native_checks_of_numbers() -> None:
    for options, message in (
        ({"grid": 0}, r"grid_size: expected sizes in \[1, 65536\], got 0"),
        ({"voxel": 0.0}, "voxel_size: expected positive sizes, got 0"),
        ({"average": 2}, "average: expected 0 or 1, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call(scene_arguments(), **options)  # type: ignore[arg-type]


def test_operator_registration() -> None:
    arguments = scene_arguments()
    torch.library.opcheck(
        torch.ops.trellis_voxel.voxelize_attributes.default,
        (*arguments.values(), [0.25] * 3, [4] * 3, 0.0, 0),
        test_utils=("test_schema", "test_faketensor"),
    )
