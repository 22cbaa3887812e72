"""Measurements on shapes whose right answers are known."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree
from trellis_regression.asset import Asset
from trellis_regression.inject import Model
from trellis_regression.inject.shape import voxel_stairs
from trellis_regression.measure import axes, rays, surface, texture, welded
from trellis_regression.measure.flip import flip
from trellis_regression.sample.geometry import together
from trellis_regression.stages import Grid


def model(mesh, image=None, **more):
    """A sound model of a mesh: every face has its own square of the texture."""
    n = len(mesh.faces)
    side = int(np.ceil(np.sqrt(n)))
    row, column = np.divmod(np.arange(n), side)
    triangle = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])
    uv = (np.stack([column, row], 1)[:, None] + triangle) / side
    vertices = np.asarray(mesh.vertices)[mesh.faces.reshape(-1)]
    normals = np.repeat(mesh.face_normals, 3, 0)
    image = np.full((128, 128, 4), 200, np.uint8) if image is None else image
    surface_map = np.full_like(image, 128)
    return Model(
        vertices.astype(np.float32), normals.astype(np.float32), uv.reshape(-1, 2).astype(np.float32),
        np.arange(3 * n).reshape(-1, 3), image, surface_map, **more,
    )  # fmt: skip


def asset(mesh, image=None, **more):
    return Asset.parse(model(mesh, image, **more).write())


def below(mesh, height):
    """The faces under a height, which leaves the shape open."""
    return mesh.submesh([np.flatnonzero(mesh.triangles_center[:, 2] < height)], append=True, repair=False)


BALL = trimesh.creation.icosphere(subdivisions=3)


def test_vertices_are_welded_before_anything_is_counted():
    found = welded.measure(asset(BALL))  # each face has vertices of its own
    assert found["components"] == 1
    assert found["distinct_vertices"] == len(BALL.vertices)
    assert found["boundary_edge_share"] == found["winding_conflict_share"] == found["degenerate_share"] == 0


def test_components_floaters_and_fragments():
    crumb = trimesh.creation.box((0.02, 0.02, 0.02))
    near, far = crumb.copy().apply_translation((1.02, 0, 0)), crumb.copy().apply_translation((0.9, 0.9, 0.9))
    found = welded.measure(asset(together(BALL, near, far)))
    assert (found["components"], found["small_components"], found["floaters"]) == (3, 2, 1)
    assert found["shattered_share"] == pytest.approx(2 * crumb.area / (BALL.area + 2 * crumb.area), rel=1e-4)


def test_winding_conflicts_are_counted_by_edge():
    box = trimesh.creation.box()
    faces = box.faces.copy()
    faces[0] = faces[0][::-1]
    found = welded.measure(asset(trimesh.Trimesh(box.vertices, faces, process=False)))
    assert found["winding_conflict_share"] == pytest.approx(3 / 18)


def test_stray_quads_hang_off_the_surface_and_end_in_the_open():
    a, b = BALL.vertices[BALL.edges_unique[0]]
    fin = trimesh.Trimesh([a, b, 1.2 * b, 1.2 * a], [[0, 1, 2], [0, 2, 3]], process=False)
    found = welded.measure(asset(together(BALL, fin)))
    assert found["stray_share"] == pytest.approx(2 / (len(BALL.faces) + 2))
    sheet = trimesh.creation.box((1, 1, 1)).submesh([range(10)], append=True)
    assert welded.measure(asset(sheet))["stray_share"] == 0  # open, but no edge of three faces


def test_what_is_stuck_through_a_surface_does_not_float():
    """Of small boxes one lies away from the wall, and one goes through it with every corner farther than counts as near."""
    wall = trimesh.creation.box((1, 1, 0.02))
    for _ in range(4):
        wall = wall.subdivide()
    brick = trimesh.creation.box((0.02, 0.02, 0.1))
    nail, loose = brick.copy(), brick.copy().apply_translation((0.2, 0.2, 0.1))
    assert welded.measure(asset(together(wall, nail)))["floaters"] == 0
    assert welded.measure(asset(together(wall, nail, loose)))["floaters"] == 1


def test_a_crate_is_axis_aligned_but_has_few_steps_and_stairs_have_many():
    crate = welded.measure(asset(trimesh.creation.box((1, 1, 1))))
    assert crate["axis_aligned_share"] == 1 and crate["step_density"] == pytest.approx(12 / 6)
    assert crate["box_share"] == pytest.approx(1)
    stairs = voxel_stairs(model(BALL), 16, np.random.default_rng(0))
    found = welded.measure(Asset.parse(stairs.write()))
    assert found["step_density"] * found["axis_aligned_share"] > 10
    assert found["lattice_coherence"] > 0.99
    assert welded.measure(asset(BALL))["step_density"] < 2


def test_inner_layer_is_seen_by_rays_and_a_cup_is_none():
    inner = BALL.copy().apply_scale(0.97)
    inner.invert()
    shells = rays.measure(asset(together(BALL, inner)))
    assert 0.4 < shells["inner_layer_share"] < 0.55
    assert rays.measure(asset(BALL))["inner_layer_share"] == 0
    cup = below(together(BALL, inner), 0.3)
    assert rays.measure(asset(cup))["inner_layer_share"] < 0.1  # the same two layers, but one sees in


def hollow_box(*walls):
    """A closed cupboard: a box with a cavity, its six boards as thick as said."""
    outer = trimesh.creation.box((1, 1, 1))
    low, high = np.array(walls[:3]) - 0.5, 0.5 - np.array(walls[3:])
    cavity = trimesh.creation.box(high - low)
    cavity.apply_translation((low + high) / 2)
    cavity.invert()
    return together(outer, cavity)


def test_a_shell_has_one_distance_and_a_cupboard_has_those_of_its_boards():
    inner = BALL.copy().apply_scale(0.97)
    inner.invert()
    assert rays.measure(asset(together(BALL, inner)))["shell_share"] > 0.98
    assert rays.measure(asset(BALL))["shell_share"] == 0
    half = below(inner, 0.0)  # of half of what is seen
    assert rays.measure(asset(together(BALL, half)))["shell_share"] == pytest.approx(0.5, abs=0.06)
    boards = rays.measure(asset(hollow_box(0.01, 0.02, 0.03, 0.04, 0.05, 0.01)))
    assert boards["inner_layer_share"] > 0.35 and boards["shell_share"] == pytest.approx(1 / 3, abs=0.05)
    assert rays.measure(asset(hollow_box(*6 * (0.02,))))["shell_share"] > 0.9


def test_inside_out():
    turned = BALL.copy()
    turned.invert()
    found = rays.measure(asset(turned))
    assert found["inside_out_share"] > 0.98 and found["inside_out_one_sided_share"] == 0
    one_sided = model(turned).write().replace(b'"doubleSided": true', b'"doubleSided":false')
    found = rays.measure(Asset.parse(one_sided))
    assert found["inside_out_one_sided_share"] == found["inside_out_share"] > 0.98
    assert rays.measure(asset(BALL))["inside_out_share"] == 0


def test_layers_are_counted_beside_the_goldens_surface_in_its_frame():
    inner = BALL.copy().apply_scale(0.97)
    inner.invert()
    far = trimesh.creation.icosphere(subdivisions=1, radius=0.3).apply_translation((9, 0, 0))
    small = BALL.copy().apply_scale(0.5)
    for extra in ([], [far]):  # with which the unit spaces differ
        single, double = asset(together(BALL, small)), asset(together(BALL, small, inner, *extra))
        found = surface.measure(double, single)
        assert found["added_layer_share"] == pytest.approx(0.8, abs=0.02)  # all but the small ball's
    assert surface.measure(single, asset(together(BALL, small, inner)))["added_layer_share"] < -0.8
    assert surface.measure(asset(together(BALL, inner)), asset(BALL))["area_ratio"] == pytest.approx(1 + 0.97**2)
    assert surface.measure(single, single)["added_layer_share"] == 0
    # A sheet that becomes two walls, and a wall that only moved.
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    walls = together(sheet.copy().apply_translation((0, 0, 0.008)), sheet.copy().apply_translation((0, 0, -0.008)))
    assert surface.measure(asset(walls), asset(sheet))["added_layer_share"] > 0.98
    moved = sheet.copy().apply_translation((0, 0, 0.008))
    assert surface.measure(asset(moved), asset(sheet))["added_layer_share"] == 0


def test_only_covered_texels_count():
    image = np.zeros((128, 128, 4), np.uint8)
    sound = model(BALL, image)
    covered, _ = sound.coverage()
    image[covered] = 255
    found = texture.measure(Asset.parse(model(BALL, image).write()))
    assert found["texels"] == covered.sum()
    assert found["black_share"] == 0 and found["luminance_mean"] == pytest.approx(1)
    assert found["gutter_bleed_share"] == 1
    filled = texture.measure(Asset.parse(model(BALL, image).filled(covered).write()))
    assert filled["gutter_bleed_share"] == 0
    # A picture that goes on beyond the charts is no background.
    image[~covered] = np.random.default_rng(0).integers(0, 256, (int((~covered).sum()), 4))
    assert texture.measure(Asset.parse(model(BALL, image).write()))["gutter_bleed_share"] < 0.02


def test_factors_multiply_colour_and_alpha_of_a_texture():
    data = model(BALL, np.full((128, 128, 4), 200, np.uint8), alpha_mode="BLEND", keep_alpha=True).write()
    plain = b'"pbrMetallicRoughness": {'
    factor = b'"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 1, 0.5], '
    (length,) = struct.unpack_from("<I", data, 12)
    text = data[20 : 20 + length].replace(plain, factor)
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    head = struct.pack("<III", 0x46546C67, 2, 20 + len(text) + len(rest)) + struct.pack("<II", len(text), 0x4E4F534A)
    found = texture.measure(Asset.parse(head + text + rest))
    assert found["transparency"] == pytest.approx(1 - 100 / 255)
    assert found["luminance_mean"] == pytest.approx(200 / 255 * (1 - 0.7152), abs=0.001)


def test_charts_and_texels_per_triangle():
    found = texture.measure(asset(BALL))
    n = len(BALL.faces)
    assert found["charts"] == n
    assert found["texels_per_triangle"] == pytest.approx(0.32 * 128**2 / int(np.ceil(np.sqrt(n))) ** 2, rel=0.01)
    assert found["sliver_chart_share"] == found["sliver_area_share"] == 1  # 4 texels each


def test_tiny_charts_count_by_the_surface_that_they_hold():
    """A ball as one chart of its own with room, and another, of half the size, whose faces are tiny charts."""
    large, small = model(BALL), model(BALL.copy().apply_scale(0.5).apply_translation((3, 0, 0)))
    n = len(BALL.faces)
    spread = large.uv * [1, 0.5]
    squeezed = small.uv * [0.5, 0.125] + [0.25, 0.75]
    both = replace(
        large, positions=np.concatenate([large.positions, small.positions]),
        normals=np.concatenate([large.normals, small.normals]),
        uv=np.concatenate([spread, squeezed]).astype(np.float32),
        faces=np.concatenate([large.faces, small.faces + len(large.positions)]),
        base=np.full((512, 512, 4), 200, np.uint8),
    )  # fmt: skip
    found = texture.measure(Asset.parse(both.write()))
    assert found["charts"] == 2 * n and found["sliver_charts"] == n
    assert found["sliver_area_share"] == pytest.approx(0.2)  # a quarter of the area of the other


def test_alpha_by_mode():
    image = np.full((128, 128, 4), 128, np.uint8)
    assert texture.measure(asset(BALL, image, alpha_mode="BLEND", keep_alpha=True))["transparency"] == pytest.approx(
        0.5, abs=0.01
    )
    mask = texture.measure(asset(BALL, image, alpha_mode="MASK", keep_alpha=True, alpha_cutoff=0.6))
    assert mask["transparency"] == 1
    image[..., 3] = 100
    assert texture.measure(asset(BALL, image, alpha_mode="OPAQUE", keep_alpha=True))["alpha_lost_share"] == 1


def test_distances_are_in_the_goldens_frame_and_missing_parts_count():
    moved = BALL.copy().apply_translation((0.1, 0, 0))
    found = surface.measure(asset(moved), asset(BALL))
    assert found["extra_max"] == pytest.approx(0.05, abs=0.002)  # 0.1 of a diameter of 2
    half = below(BALL, 0.0)
    found = surface.measure(asset(half), asset(BALL))
    assert found["missing_share"] == pytest.approx(0.5, abs=0.02)
    assert found["extra_share"] < 0.01 and found["f_score"] == pytest.approx(2 / 3, abs=0.02)
    small = BALL.copy().apply_scale(0.5)
    assert surface.measure(asset(small), asset(BALL))["f_score"] == 0


def test_a_thin_wall_that_moved_is_not_turned_and_turned_faces_are():
    """A wall thinner than it moved lies nearer to the golden's back than to its front; its faces look the same way."""
    wall = trimesh.creation.box((1, 1, 0.008)).subdivide().subdivide()
    moved = wall.copy()
    moved.apply_translation((0, 0, 0.006))
    frame = trimesh.creation.box((1, 1, 0.3)).apply_translation((0, 0, -1))  # keeps both boxes the same
    found = surface.measure(asset(together(moved, frame)), asset(together(wall, frame)))
    assert found["normal_turned_share"] == 0
    # A flipped part of something thick and of a sheet counts by its area, but for a rim in front of which an edge is nearer.
    for shape in (frame, trimesh.Trimesh(wall.vertices, wall.faces[wall.face_normals[:, 2] > 0])):
        fine = shape.subdivide().subdivide()
        faces = fine.faces.copy()
        which = fine.triangles_center[:, 0] > 0.25
        faces[which] = faces[which][:, ::-1]
        part = float(fine.area_faces[which].sum() / fine.area)
        found = surface.measure(asset(trimesh.Trimesh(fine.vertices, faces, process=False)), asset(fine))
        assert found["normal_turned_share"] == pytest.approx(part, abs=0.05)
        assert found["normal_turned_one_sided_share"] == 0
        one_sided = model(trimesh.Trimesh(fine.vertices, faces, process=False)).write()
        one_sided = Asset.parse(one_sided.replace(b'"doubleSided": true', b'"doubleSided":false'))
        found = surface.measure(one_sided, asset(fine))
        assert found["normal_turned_one_sided_share"] == found["normal_turned_share"]


def test_signed_permutations_are_the_48_of_the_cube():
    matrices = [m for _, m in axes.signed_permutations()]
    assert len({m.tobytes() for m in matrices}) == 48
    assert axes.signed_permutations()[0][0] == "xyz"
    for m in matrices:
        np.testing.assert_array_equal(m @ m.T, np.eye(3))
    name, m = axes.signed_permutations()[40]
    assert name == "zyx" and (m @ [1, 2, 3]).tolist() == [3, 2, 1]


def test_a_turned_shape_names_its_permutation():
    bone = together(
        BALL.copy().apply_scale((1, 0.5, 0.3)), BALL.copy().apply_scale(0.3).apply_translation((0.9, 0.3, 0.1))
    )
    turned = bone.copy()
    turned.vertices = turned.vertices[:, [1, 2, 0]]
    found = axes.measure(asset(turned), asset(bone))
    assert found["axis_shape_best"] == "zxy" and found["axis_shape_gain"] > 0.05
    assert axes.measure(asset(bone), asset(bone))["axis_shape_gain"] == 0


def speckled(order, device="cpu"):
    """A ball off the middle of a grid of noise, its faces coloured by what lies there in another order of the axes."""
    size, centre, radius = 32, np.array([14.0, 17.0, 15.0]), 8.0
    coords = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1).reshape(-1, 3)
    coords = coords[np.abs(np.linalg.norm(coords + 0.5 - centre, axis=1) - radius) < 2]
    colours = np.random.default_rng(0).random((len(coords), 3))
    ball = trimesh.creation.icosphere(subdivisions=3)
    at = ball.triangles_center * [1, 1, -1]  # y up: the road's x, z and -y
    at = at[:, [0, 2, 1]] * radius + centre
    matrix = dict(axes.signed_permutations())[order]
    _, nearest = cKDTree(coords + 0.5).query((at - size / 2) @ matrix.T + size / 2)
    side = int(np.ceil(np.sqrt(len(ball.faces))))
    image = np.full((side, side, 4), 255, np.uint8)
    image.reshape(-1, 4)[: len(nearest), :3] = colours[nearest] * 255
    grid = Grid(coords, colours.astype(np.float32), size, centre - radius, centre + radius)
    return Asset.parse(model(ball, image.repeat(8, 0).repeat(8, 1)).write(), "ball", device), grid


def test_the_grid_that_a_texture_was_sampled_from_names_the_order_of_the_axes():
    """In noise there is nothing like it beside the right place, and the grid's middle is not the asset's."""
    for order in ("zyx", "yxz"):
        found = axes.measure_grid(*speckled(order))
        assert found["grid_colour_best"] == order and found["grid_colour_gain"] > 0.05
    assert axes.measure_grid(*speckled("xyz")) == {"grid_colour_best": "xyz", "grid_colour_gain": 0.0}
    shape, grid = speckled("zyx")
    flat = replace(grid, high=grid.high - [0, 0, 1])
    assert axes.lies_in(shape, grid) and not axes.lies_in(shape, flat)  # not the mesh that was exported


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_order_of_the_axes_is_the_same_on_a_cuda_device():
    cpu, cuda = (axes.measure_grid(*speckled("zyx", device)) for device in ("cpu", "cuda"))
    assert cuda["grid_colour_best"] == cpu["grid_colour_best"] == "zyx"
    assert cuda["grid_colour_gain"] == pytest.approx(cpu["grid_colour_gain"], rel=1e-5)
    assert axes.measure_grid(*speckled("zyx", "cuda")) == cuda


def test_flip_is_zero_for_equal_pictures_grows_with_difference_and_stays_in_range():
    picture = torch.rand(48, 48, 3, generator=torch.Generator().manual_seed(0))
    assert float(flip(picture, picture).max()) == 0
    small, large = flip(picture, (picture + 0.02).clamp(0, 1)), flip(picture, 1 - picture)
    assert 0 < float(small.mean()) < float(large.mean()) <= 1
    black, white = torch.zeros(48, 48, 3), torch.ones(48, 48, 3)
    assert float(flip(black, white).mean()) > 0.9


def test_flip_blurs_what_the_eye_cannot_resolve():
    """A fine checkerboard against its mean grey differs less than a coarse one does."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")

    def checker(width):
        return ((x // width + y // width) % 2).float()[..., None].expand(-1, -1, 3)

    def mean_to_grey(width):
        linear_half = torch.full((64, 64, 3), 0.735)  # display value of half the light
        return float(flip(checker(width), linear_half).mean())

    assert mean_to_grey(1) < 0.6 * mean_to_grey(8)


def test_stray_patches_are_those_of_the_whole_graph():
    """Only what is near a fork is looked at; the count must be that of labelling every face."""
    random = np.random.default_rng(3)
    found = []
    for _ in range(40):
        faces = np.stack([random.permutation(12)[:3] for _ in range(random.integers(4, 26))])
        one = asset(trimesh.Trimesh(random.random((12, 3)), faces, process=False))
        uses, members = {}, one.welded_faces.numpy()
        for i, face in enumerate(members):
            for k in range(3):
                uses.setdefault(frozenset((face[k], face[k - 1])), []).append(i)
        label = list(range(len(members)))
        for pair in (u for u in uses.values() if len(u) == 2):
            old, new = label[pair[0]], label[pair[1]]
            label = [new if x == old else x for x in label]
        ends = {label[u[0]] for u in uses.values() if len(u) == 1}
        forks = {label[i] for u in uses.values() if len(u) > 2 for i in u}
        expected = sum(label.count(x) for x in ends & forks if label.count(x) <= 4) / len(members)
        assert welded.measure(one)["stray_share"] == pytest.approx(expected)
        found.append(expected)
    assert 0 < np.mean(found) < 1


def test_vertices_of_one_place_and_texel_are_one():
    random = np.random.default_rng(0)
    texels = random.integers(-2, 3, (400, 2))
    positions = random.integers(-1, 2, (400, 3)).astype(np.float32)
    same = texture._same(torch.from_numpy(texels), torch.from_numpy(positions)).numpy()
    _, expected = np.unique(np.concatenate([texels, positions], 1), axis=0, return_inverse=True)
    assert len(set(zip(same, expected.reshape(-1), strict=True))) == len(set(same)) == len(set(expected.reshape(-1)))
