"""Coverage, weights, depth, clipping and peeling of `rasterize`."""

import math

import numpy as np
import pytest
import raster_oracle as oracle
import torch
import trellis_raster as raster
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay
from trellis_native.testing import assert_same_bits_for_any_thread_count


def flat(points, z=0.0):
    """Points (x, y) of the image plane in pixels of a W x H image as clip positions, given as [(x, y)], W, H."""
    points, width, height = points
    p = torch.tensor(points, dtype=torch.float64)
    clip = torch.stack(
        [p[:, 0] * 2 / width - 1, p[:, 1] * 2 / height - 1, torch.full_like(p[:, 0], z), torch.ones_like(p[:, 0])], 1
    )
    return clip.float()[None]


def faces_of(*rows):
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 3)


def perspective(near=0.1, far=10.0, scale=1.0):
    """An OpenGL projection: looks along -z, maps near and far to z/w = -1 and 1."""
    return torch.tensor(
        [
            [scale, 0, 0, 0],
            [0, scale, 0, 0],
            [0, 0, (far + near) / (near - far), 2 * far * near / (near - far)],
            [0, 0, -1, 0],
        ]
    )


def project(points, matrix):
    return (torch.cat([points, torch.ones(len(points), 1)], 1) @ matrix.T)[None]


def each_face_alone(clip, faces, resolution, **options):
    """[F, H, W, 4]: every face rasterised with no other."""
    return raster.rasterize(clip[0][faces.long()], faces_of(0, 1, 2), resolution, **options)


# ---- the oracle itself, on cases worked out by hand ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        # Right triangle whose two short sides run through pixel centres: left and top sides count, the longest one
        # (from (3.5, .5) to (.5, 3.5), through centres too) is a right edge and does not.
        ([(0.5, 0.5), (3.5, 0.5), (0.5, 3.5)], ["###.", "##..", "#...", "...."]),
        # The other half of that square: its right and bottom sides do not count, the shared diagonal is its left edge.
        ([(3.5, 0.5), (3.5, 3.5), (0.5, 3.5)], ["....", "..#.", ".##.", "...."]),
        ([(0, 0), (8, 0), (0, 8)], ["####", "####", "####", "####"]),
        ([(1, 1), (3, 1), (2, 1)], ["....", "....", "....", "...."]),
    ],
)
def test_oracle_and_library_on_handwritten_coverage(points, expected):
    clip = flat((points, 4, 4))
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        face, _, _ = oracle.rasterize(clip[0].numpy(), np.array([order]), 4, 4)
        rast = raster.rasterize(clip, faces_of(*order), (4, 4))[0]
        assert ["".join("#" if c else "." for c in row) for row in face] == expected
        assert ["".join("#" if c else "." for c in row) for row in rast[..., 3].tolist()] == expected


def test_weights_depth_and_rows_by_hand():
    # Vertex 0 at the lower left of clip space, which is row 0, column 0.
    clip = torch.tensor([[[-1.0, -1, -0.5, 1], [1, -1, 0.5, 1], [-1, 1, 0.5, 1]]])
    rast = raster.rasterize(clip, faces_of(0, 1, 2), (2, 2))[0]
    assert rast[0, 0].tolist() == [0.5, 0.25, 0.0, 1.0]
    assert rast[1, 1].tolist() == [0.0, 0.0, 0.0, 0.0]  # on the long side, which is a right edge


def test_perspective_weights_by_hand():
    # A line from w = 1 at the left border to w = 3 at the right: halfway on the screen the far end weighs 1 / 4.
    clip = torch.tensor([[[-1.0, -1, 0, 1], [3, -3, 0, 3], [-1, 1, 0, 1], [3, 3, 0, 3]]])
    rast = raster.rasterize(clip, faces_of(0, 1, 2, 2, 1, 3), (1, 1))
    value = raster.interpolate(torch.tensor([[[0.0], [1.0], [0.0], [1.0]]]), rast, faces_of(0, 1, 2, 2, 1, 3))
    assert value.item() == pytest.approx(0.25, abs=1e-6)


# ---- against the oracle --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize(("height", "width"), [(9, 13), (1, 17), (16, 1)])
def test_random_scene_equals_the_oracle(bits, height, width):
    rng = np.random.default_rng(bits * 100 + height)
    w = rng.uniform(0.5, 3, (36, 1))
    clip = np.concatenate([rng.uniform(-1.2, 1.2, (36, 2)) * w, rng.uniform(-0.9, 0.9, (36, 1)) * w, w], 1).astype(
        np.float32
    )
    faces = rng.integers(0, 36, (14, 3)).astype(np.int32)
    face, weights, depth = oracle.rasterize(clip, faces, height, width, bits)
    rast = raster.rasterize(torch.from_numpy(clip)[None], torch.from_numpy(faces), (height, width), subpixel_bits=bits)[
        0
    ].numpy()
    np.testing.assert_array_equal(rast[..., 3] > 0, face > 0)
    sure = (face > 0) & (depth[..., 1] > depth[..., 0] + 1e-3)
    inside = sure & (weights.min(-1) >= 0)  # elsewhere both clamp, each in its way
    assert (face > 0).sum() > 0 and inside.sum() > 0.5 * sure.sum()
    np.testing.assert_array_equal(rast[..., 3][inside], face[inside])
    np.testing.assert_allclose(rast[..., :2][inside], weights[inside][:, :2], atol=2e-6)  # float32 rounding of results
    np.testing.assert_allclose(rast[..., 2][inside], depth[..., 0][inside], atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(-8, 72), st.integers(-8, 72)), min_size=3, max_size=3), st.integers(0, 5))
def test_any_triangle_on_quarter_pixels_equals_the_oracle(points, turn):
    # Quarter pixels hit centres and shared lines all the time.
    clip = flat(([(x / 4, y / 4) for x, y in points], 16, 16))
    order = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (1, 0, 2), (0, 2, 1)][turn]
    snapped = [(x * 4, y * 4) for x, y in points]
    expected = [[oracle.covers(snapped, i * 16 + 8, j * 16 + 8) for i in range(16)] for j in range(16)]
    assert (raster.rasterize(clip, faces_of(*order), (16, 16))[0, ..., 3] > 0).tolist() == expected


def test_clamped_weights_stay_in_the_triangle():
    rng = np.random.default_rng(5)
    clip = torch.tensor(
        np.concatenate([rng.uniform(-1, 1, (600, 2)), np.zeros((600, 1)), np.ones((600, 1))], 1), dtype=torch.float32
    )
    clip[2::3] = clip[::3] + (clip[1::3] - clip[::3]) * 0.5 + 4e-3  # slivers
    rast = raster.rasterize(clip[None], torch.arange(600, dtype=torch.int32).view(-1, 3), (200, 150))
    u, v = rast[..., 0], rast[..., 1]
    assert (rast[..., 3] > 0).sum() > 1000
    assert u.min() >= 0 and v.min() >= 0 and (u + v).max() <= 1 + 2e-7  # an ulp of each


# ---- shared edges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8])
def test_mesh_of_the_plane_covers_each_centre_once(bits):
    rng = np.random.default_rng(bits)
    points = rng.uniform(-1, 1, (120, 2))
    points[:40] = np.round(points[:40] * 16) / 16  # vertices and edges on centres and borders of pixels
    points = np.concatenate([points, [[-1.5, -1.5], [1.5, -1.5], [-1.5, 1.5], [1.5, 1.5]]])
    triangles = torch.from_numpy(Delaunay(points).simplices.astype(np.int32))
    w = torch.from_numpy(rng.uniform(0.2, 5, (len(points), 1))).float()
    clip = torch.cat([torch.from_numpy(points).float() * w, 0 * w, w], 1)[None]
    alone = each_face_alone(clip, triangles, (64, 64), subpixel_bits=bits)
    assert ((alone[..., 3] > 0).sum(0) == 1).all()
    together = raster.rasterize(clip, triangles, (64, 64), subpixel_bits=bits)[0]
    assert (together[..., 3].long() - 1 == (alone[..., 3] > 0).int().argmax(0)).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 40), st.integers(0, 2**31))
def test_fan_around_a_vertex_covers_each_centre_once(spokes, seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * math.pi, spokes))
    angles = np.concatenate([angles, np.arange(4) * math.pi / 2])  # no step of half a turn or more
    angles.sort()
    centre = np.round(rng.uniform(6, 26, 2) * 2) / 2  # half-pixels: often exactly a pixel centre
    rim = centre + 100 * np.stack([np.cos(angles), np.sin(angles)], 1)
    clip = flat((np.concatenate([[centre], rim]).tolist(), 32, 32))
    n = len(angles)
    faces = torch.tensor([[0, 1 + i, 1 + (i + 1) % n] for i in range(n)], dtype=torch.int32)
    assert ((each_face_alone(clip, faces, (32, 32))[..., 3] > 0).sum(0) == 1).all()


def test_plane_through_the_eye_is_watertight():
    # Ground that reaches from behind the eye to beyond the far plane, cut into random triangles.
    rng = np.random.default_rng(3)
    ground = rng.uniform(-1, 1, (300, 2)) * [6, 9]
    ground = np.concatenate([ground, [[-40, -40], [40, -40], [-40, 40], [40, 40]]])
    triangles = torch.from_numpy(Delaunay(ground).simplices.astype(np.int32))
    points = torch.tensor(np.stack([ground[:, 0], np.full(len(ground), -0.5), ground[:, 1]], 1), dtype=torch.float32)
    clip = project(points, perspective(near=0.1, far=20.0))
    assert (clip[0, :, 3] < 0).sum() > 50
    count = (each_face_alone(clip, triangles, (96, 96))[..., 3] > 0).sum(0)
    # The ground fills every row below the one where it leaves the far plane: y/w = -0.5 / 20.
    horizon = int((1 - 0.5 / 20) / 2 * 96)
    assert (count[: horizon - 1] == 1).all()
    assert (count[horizon + 1 :] == 0).all()


# ---- clipping ------------------------------------------------------------------------------------------------------


def analytic_cover(clip, x, y):
    """[F, ...] whether the point (x, y) of normalised device coordinates sees each face of [F, 3, 4]: by solving for the
    combination of its vertices that projects there."""
    m = clip[:, :, [0, 1, 3]].transpose(0, 2, 1)  # columns are vertices
    target = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3).T
    b = np.linalg.inv(m) @ target  # [F, 3, P]; its sign is that of w at the point
    z = np.einsum("fk,fkp->fp", clip[:, :, 2], b)  # z / w, as w is 1 for this b
    return ((b >= 0).all(1) & (np.abs(z) <= 1)).reshape(len(clip), *x.shape)


def test_faces_through_the_near_plane_equal_their_analytic_part():
    rng = np.random.default_rng(11)
    points = torch.tensor(rng.uniform(-2, 2, (240, 3)), dtype=torch.float32)
    clip = project(points, perspective(near=0.3, far=1.5))
    faces = torch.arange(240, dtype=torch.int32).view(-1, 3)
    corners = clip[0][faces.long()].double().numpy()
    assert ((corners[..., 3] < 0).any(1) & (corners[..., 3] > 0).any(1)).sum() > 20
    size = 48
    seen = (each_face_alone(clip, faces, (size, size))[..., 3] > 0).numpy()
    y, x = np.meshgrid((np.arange(size) * 2 + 1) / size - 1, (np.arange(size) * 2 + 1) / size - 1, indexing="ij")
    # Centres within an eighth of a pixel of a border may go either way: corners are rounded to sixteenths.
    step = 2 / size / 8
    votes = sum(
        analytic_cover(corners, x + dx, y + dy).astype(int) for dx in (-step, 0, step) for dy in (-step, 0, step)
    )
    assert (votes == 9).sum() > 3000
    assert seen[votes == 9].all()
    assert not seen[votes == 0].any()


def test_depth_and_weights_of_a_clipped_face():
    clip = project(
        torch.tensor([[-0.5, -0.5, -2.0], [0.5, -0.5, -2.0], [0.0, 0.5, 3.0]]), perspective(near=0.1, far=10.0)
    )
    rast = raster.rasterize(clip, faces_of(0, 1, 2), (40, 40))
    seen = rast[0, ..., 3] > 0
    assert seen.sum() > 100
    weights = torch.stack([rast[0, ..., 0], rast[0, ..., 1], 1 - rast[0, ..., 0] - rast[0, ..., 1]], -1)[seen].double()
    back = weights @ clip[0].double()
    y, x = torch.meshgrid((torch.arange(40) * 2 + 1) / 40 - 1, (torch.arange(40) * 2 + 1) / 40 - 1, indexing="ij")
    assert (back[:, 3] > 0).all()
    inside = weights.min(1).values > 1e-6  # clamped ones lie beside their pixel
    assert inside.sum() > 100
    for axis, at in ((0, x), (1, y)):
        assert (back[:, axis] / back[:, 3] - at[seen])[inside].abs().max() < 1e-5
    assert (back[:, 2] / back[:, 3] - rast[0, ..., 2][seen])[inside].abs().max() < 1e-5


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_depth_limits_are_inclusive(sign):
    for z, seen in ((1.0, True), (1.0000001, False)):
        clip = torch.tensor([[[-4.0, -4, sign * z, 1], [4, -4, sign * z, 1], [0, 8, sign * z, 1]]])
        rast = raster.rasterize(clip, faces_of(0, 1, 2), (3, 3))
        assert bool((rast[..., 3] == 1).all()) == seen and bool((rast[..., 3] == 0).all()) != seen


def test_a_zero_vertex_is_no_point():
    clip = torch.tensor([[[-4.0, -4, 0, 1], [4, -4, 0, 1], [0, 0, 0, 0], [0, 8, 0, 1]]])
    rast = raster.rasterize(clip, faces_of(0, 1, 2, 1, 3, 2, 2, 3, 0, 0, 1, 3), (3, 3))
    assert (rast[..., 3] == 4).all() and torch.isfinite(rast).all()


def test_behind_the_eye_is_not_seen():
    clip = torch.tensor([[[-4.0, -4, 0, -1], [4, -4, 0, -1], [0, 8, 0, -1]]])
    assert (raster.rasterize(clip, faces_of(0, 1, 2), (3, 3)) == 0).all()
    assert (raster.rasterize(torch.zeros(1, 3, 4), faces_of(0, 1, 2), (3, 3)) == 0).all()


@pytest.mark.parametrize("big", [1e3, 1e6, 1e9])
def test_faces_far_beyond_the_picture(big):
    # The half plane y < x / 3, its border from one far vertex to another.
    clip = torch.tensor([[[-3 * big, -big, 0, 1], [1.5 * big, 0.5 * big, 0, 1], [big, -9 * big, 0, 1]]])
    rast = raster.rasterize(clip, faces_of(0, 1, 2), (32, 32))[0]
    x, y = torch.meshgrid((torch.arange(32) * 2 + 1) / 32 - 1, (torch.arange(32) * 2 + 1) / 32 - 1, indexing="xy")
    assert (rast[..., 3] > 0)[y < x / 3 - 0.01].all() and not (rast[..., 3] > 0)[y > x / 3 + 0.01].any()
    assert torch.isfinite(rast).all()


@pytest.mark.parametrize("big", [1e15, 1e25, 3.4e38])
def test_absurd_coordinates_stay_finite_and_watertight(big):
    clip = torch.tensor([[[-big, -big, 0, 1], [big, big / 7, 0, 1], [big, -big, 0, 1], [-big / 3, big, 0, 1]]])
    alone = each_face_alone(clip, faces_of(0, 1, 2, 1, 0, 3), (32, 32))
    assert torch.isfinite(alone).all()
    assert (alone[..., 3].sum(0) <= 1).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("component", range(4))
def test_faces_with_a_vertex_that_is_not_finite_are_left_out(bad, component):
    clip = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1], [0, 0, 0, 1]]])
    clip[0, 3, component] = bad
    rast = raster.rasterize(clip, faces_of(0, 1, 3, 0, 1, 2, 3, 3, 3), (4, 4))
    assert (rast[..., 3] == 2).all() and torch.isfinite(rast).all()


# ---- depth, ties, layers -------------------------------------------------------------------------------------------


def test_nearest_wins_and_ties_go_to_the_lower_face():
    big = [(-9.0, -9.0), (29.0, -9.0), (-9.0, 29.0)]
    clip = torch.cat([flat((big, 4, 4), z) for z in (0.5, -0.25, -0.25, 0.75)], 1)
    faces = torch.arange(12, dtype=torch.int32).view(-1, 3)
    rast = raster.rasterize(clip, faces, (4, 4))
    assert (rast[..., 3] == 2).all() and (rast[..., 2] == -0.25).all()
    assert (raster.rasterize(clip, faces.flip(0), (4, 4))[..., 3] == 2).all()
    layers = [
        (layer[0, 0, 0, 3].item(), layer[0, 0, 0, 2].item()) for layer in raster.depth_layers(clip, faces, (4, 4))
    ]
    assert layers == [(2, -0.25), (3, -0.25), (1, 0.5), (4, 0.75)]
    assert len(list(raster.depth_layers(clip, faces, (4, 4), max_layers=2))) == 2


def test_layers_hold_every_fragment_in_order():
    rng = np.random.default_rng(8)
    clip = torch.tensor(rng.uniform(-1, 1, (2, 90, 4)), dtype=torch.float32)
    clip[..., 2] *= 0.9
    clip[..., 3] = 1
    clip[:, 30:60, 2] = 0.25  # many ties
    faces = torch.arange(90, dtype=torch.int32).view(-1, 3)
    layers = torch.stack(list(raster.depth_layers(clip, faces, (33, 70))))
    for image in range(2):
        alone = each_face_alone(clip[image : image + 1], faces, (33, 70))
        for j, i in ((j, i) for j in range(0, 33, 2) for i in range(70)):
            fragments = sorted((alone[f, j, i, 2].item(), f + 1.0) for f in range(30) if alone[f, j, i, 3] > 0)
            got = [(p[2].item(), p[3].item()) for p in layers[:, image, j, i] if p[3] > 0]
            assert got == fragments


def test_peeling_an_empty_layer_is_empty():
    clip = flat(([(0, 0), (8, 0), (0, 8)], 4, 4))
    assert (raster.rasterize(clip, faces_of(0, 1, 2), (4, 4), peel=torch.zeros(1, 4, 4, 4)) == 0).all()


# ---- structure -----------------------------------------------------------------------------------------------------


def soup(seed, count=400, size=0.3):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-1, 1, (count, 1, 3))
    corners = centre + rng.uniform(-size, size, (count, 3, 3))
    corners[::17] *= 40  # some over many tiles
    clip = np.concatenate([corners, np.ones((count, 3, 1))], -1).reshape(1, -1, 4)
    return torch.tensor(clip, dtype=torch.float32), torch.arange(count * 3, dtype=torch.int32).view(-1, 3)


def test_large_image_equals_its_faces_composed():
    # Beyond one tile, with faces in the list of large ones: compose single faces by depth, then number.
    clip, faces = soup(1, 60, 0.5)
    rast = raster.rasterize(clip, faces, (700, 500))[0]
    alone = each_face_alone(clip, faces, (700, 500))
    depth = torch.where(alone[..., 3] > 0, alone[..., 2], math.inf)
    nearest = depth.min(0)
    first = (depth == nearest.values).int().argmax(0)
    expected = torch.where(torch.isinf(nearest.values), 0, first + 1)
    assert (rast[..., 3].long() == expected).all()
    took = alone.gather(0, first[None, ..., None].expand(1, 700, 500, 4))[0]
    seen = expected > 0
    assert (rast[..., :3][seen] == took[..., :3][seen]).all()


def test_ties_between_large_and_small_faces_go_to_the_lower_one():
    # Faces over many tiles are kept in another list than those over few.
    size = 640
    large, small = [(-9, -9), (2000, -9), (-9, 2000)], [(10, 10), (60, 10), (10, 60)]
    clip = torch.cat([flat((points, size, size), 0.5) for points in (large, small, large)], 1)
    order = faces_of(0, 1, 2, 3, 4, 5, 6, 7, 8)
    assert (raster.rasterize(clip, order, (size, size))[..., 3] == 1).all()
    small_first = raster.rasterize(clip, order[[1, 0, 2]], (size, size))[0, ..., 3]
    assert small_first[12, 12] == 1 and (small_first == 2).sum() == size * size - (small_first == 1).sum()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(-20, 20), st.integers(-20, 20))
def test_translation_by_whole_pixels_moves_the_image(seed, dx, dy):
    rng = np.random.default_rng(seed)
    points = np.round(rng.uniform(24, 40, (30, 2)) * 64) / 64  # so that moving them is exact
    faces = torch.from_numpy(rng.integers(0, 30, (20, 3)).astype(np.int32))
    here = raster.rasterize(flat((points.tolist(), 64, 64)), faces, (64, 64))
    there = raster.rasterize(flat(((points + np.array([dx, dy])).tolist(), 64, 64)), faces, (64, 64))
    assert (torch.roll(here, (dy, dx), (1, 2))[..., 3] == there[..., 3]).all()
    assert (torch.roll(here, (dy, dx), (1, 2)) - there).abs().max() < 1e-6


def test_order_of_faces_only_renames_them():
    clip, faces = soup(2)
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))
    a, b = raster.rasterize(clip, faces, (90, 110)), raster.rasterize(clip, faces[order], (90, 110))
    renamed = torch.where(b[..., 3] > 0, order[(b[..., 3].long() - 1).clamp(min=0)] + 1, 0)
    assert (a[..., 3].long() == renamed).all() and (a[..., :3] == b[..., :3]).all()


def test_batch_equals_images_one_by_one():
    clip = torch.cat([soup(s, 50)[0] for s in range(3)])
    faces = soup(0, 50)[1]
    together = raster.rasterize(clip, faces, (40, 66))
    assert together.shape == (3, 40, 66, 4)
    for b in range(3):
        assert torch.equal(together[b : b + 1], raster.rasterize(clip[b : b + 1], faces, (40, 66)))


def test_empty_inputs():
    no_faces = torch.zeros(0, 3, dtype=torch.int32)
    assert (raster.rasterize(torch.zeros(2, 5, 4), no_faces, (3, 4)) == 0).all()
    assert (raster.rasterize(torch.zeros(1, 0, 4), no_faces, (3, 4)) == 0).all()
    assert raster.rasterize(torch.zeros(0, 5, 4), no_faces, (3, 4)).shape == (0, 3, 4, 4)
    assert list(raster.depth_layers(torch.zeros(1, 0, 4), no_faces, (3, 4))) == []


def test_int64_faces_and_strided_positions():
    clip, faces = soup(4, 30)
    expected = raster.rasterize(clip, faces, (20, 20))
    strided = torch.stack([clip, clip], -1)[..., 0]
    assert not strided.is_contiguous()
    assert torch.equal(raster.rasterize(strided, faces.long(), (20, 20)), expected)


def test_same_bits_for_any_thread_count():
    clip, faces = soup(6, 20000, 0.02)
    assert_same_bits_for_any_thread_count(
        raster.EXTENSION, lambda: list(raster.depth_layers(clip, faces, (300, 333), max_layers=3))
    )


# ---- arguments -----------------------------------------------------------------------------------------------------

CLIP, FACES = torch.zeros(1, 3, 4), faces_of(0, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((CLIP.double(), FACES, (4, 4)), {}, TypeError, "clip: expected dtype float32, got float64"),
        ((CLIP[0], FACES, (4, 4)), {}, ValueError, r"clip: expected shape \[B, V, 4\], got \[3, 4\]"),
        ((CLIP, FACES.short(), (4, 4)), {}, TypeError, "faces: expected dtype int32 or int64, got int16"),
        ((CLIP, FACES[:, :2], (4, 4)), {}, ValueError, r"faces: expected shape \[F, 3\], got \[1, 2\]"),
        ((CLIP, FACES + 1, (4, 4)), {}, ValueError, r"faces: expected vertex indices in \[0, 3\), got 1 to 3"),
        ((CLIP, FACES - 1, (4, 4)), {}, ValueError, r"faces: expected vertex indices in \[0, 3\), got -1 to 1"),
        ((CLIP, FACES.to("meta"), (4, 4)), {}, ValueError, "faces: expected a tensor on cpu"),
        ((CLIP, FACES[:1].expand(raster.MAX_FACES + 1, 3), (4, 4)), {}, ValueError, "faces: expected at most 16777215"),
        ((CLIP, FACES, 4), {}, TypeError, r"resolution: expected \(height, width\), got 4"),
        ((CLIP, FACES, (4, 4, 4)), {}, TypeError, r"resolution: expected \(height, width\)"),
        ((CLIP, FACES, (0, 4)), {}, ValueError, r"resolution\[0\]: expected in \[1, 32768\], got 0"),
        ((CLIP, FACES, (4, 40000)), {}, ValueError, r"resolution\[1\]: expected in \[1, 32768\], got 40000"),
        ((CLIP, FACES, (4, 4.0)), {}, TypeError, r"resolution\[1\]: expected an int, got float"),
        ((CLIP, FACES, (4, 4)), {"subpixel_bits": 3}, ValueError, r"subpixel_bits: expected in \[4, 8\], got 3"),
        ((CLIP, FACES, (4, 4)), {"peel": torch.zeros(1, 4, 5, 4)}, ValueError, r"peel: expected shape \[1, 4, 4, 4\]"),
        ((CLIP.clone().requires_grad_(), FACES, (4, 4)), {}, ValueError, "clip: requires a gradient"),
    ],
)
def test_arguments_are_checked(arguments, options, error, text):
    with pytest.raises(error, match=text):
        raster.rasterize(*arguments, **options)


def test_max_layers_is_checked():
    with pytest.raises(ValueError, match="max_layers: expected at least 1, got 0"):
        next(raster.depth_layers(CLIP, FACES, (4, 4), max_layers=0))
