"""Environment lights against integrals worked out by hand or by brute force in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_shade import EXTENSION, EnvironmentLight, _ops


def latlong_directions(height):
    """Unit directions [H, 2 H, 3], by the convention: +y in the first row, -z in the middle, +x to its right."""
    polar = (np.arange(height) + 0.5) / height * np.pi
    azimuth = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * np.pi
    p, a = np.meshgrid(polar, azimuth, indexing="ij")
    return np.stack([np.sin(p) * np.sin(a), np.cos(p), -np.sin(p) * np.cos(a)], -1)


def image_of(function, height=128):
    return torch.tensor(function(latlong_directions(height)), dtype=torch.float32)


def scene(d):
    """A smooth environment with a small bright lamp: radiance [..., 3] of unit directions [..., 3]."""
    lamp = np.exp(40 * (d @ np.array([0.6, 0.64, 0.48]) - 1))
    base = 1 + 0.8 * d[..., 0] + 0.5 * d[..., 1] * d[..., 2]
    return np.stack([base + 6 * lamp, 0.7 * base, 0.4 + 0.3 * d[..., 1] + 3 * lamp], -1)


def random_directions(count, seed=0):
    return normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)


def hemisphere(rings=200, spokes=300, power=2):
    """Unit directions and solid angles that fill the hemisphere around +z; power 2 is finest near the pole."""
    edge = np.linspace(0, 1, rings + 1) ** power * np.pi / 2
    theta, width = (edge[1:] + edge[:-1]) / 2, np.cos(edge[:-1]) - np.cos(edge[1:])
    phi = (np.arange(spokes) + 0.5) / spokes * 2 * np.pi
    t, p = np.meshgrid(theta, phi, indexing="ij")
    d = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], -1)
    return d.reshape(-1, 3), np.repeat(width * 2 * np.pi / spokes, spokes)


def ggx(cosine, alpha):
    return alpha**2 / (np.pi * (cosine**2 * (alpha**2 - 1) + 1) ** 2)


def lobe_average(function, normal, roughness):
    """Mean of radiance over light directions by weight D(h) (n.l), the viewer looking along the normal."""
    local, angle = hemisphere()
    half = local + np.array([0, 0, 1])
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    weight = ggx(half[:, 2], roughness**2) * local[:, 2] * angle
    other = np.array([0, 1.0, 0]) if abs(normal[1]) < 0.9 else np.array([1.0, 0, 0])
    t = np.cross(other, normal)
    t /= np.linalg.norm(t)
    world = local @ np.stack([t, np.cross(normal, t), normal])
    return (function(world) * weight[:, None]).sum(0) / weight.sum()


def test_oracles_by_hand():
    d, angle = hemisphere()
    assert angle.sum() == pytest.approx(2 * math.pi, rel=1e-9)
    assert (d[:, 2] * angle).sum() == pytest.approx(math.pi, rel=1e-4)
    assert (ggx(d[:, 2], 0.3) * d[:, 2] * angle).sum() == pytest.approx(
        1, rel=1e-3
    )  # the projected facets fill the plane
    assert lobe_average(lambda d: np.ones((*d.shape[:-1], 3)), np.array([0.0, 0, 1]), 0.5) == pytest.approx(np.ones(3))


LIGHT = EnvironmentLight.from_latlong(image_of(scene), resolution=128)


# ---- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "direction"),
    [
        (0, 7, (0, 1, 0)),
        (31, 20, (0, -1, 0)),
        (16, 32, (0, 0, -1)),
        (16, 48, (1, 0, 0)),
        (16, 16, (-1, 0, 0)),
        (16, 0, (0, 0, 1)),
    ],
)
def test_places_in_the_image(row, column, direction):
    image = torch.zeros(32, 64, 3)
    rows = [row] if row in (0, 31) else [row - 1, row]
    image[rows] += 1 if row in (0, 31) else 0
    image[np.ix_(rows, [(column - 1) % 64, column])] = 1
    light = EnvironmentLight.from_latlong(image, resolution=64)
    here = torch.tensor([direction], dtype=torch.float32)
    assert light.radiance(here).min() > 0.8
    assert light.radiance(-here).max() < 1e-6


def test_roughness_zero_is_the_environment_itself():
    d = random_directions(4000)
    # Texels of 0.7 degrees in the image and of 0.4 to 0.9 in the cube: linear interpolation of the lamp is off by at
    # most 2 % of its strength.
    np.testing.assert_allclose(LIGHT.radiance(d).numpy(), scene(d.numpy()), atol=0.06)
    assert np.abs(LIGHT.radiance(d).numpy() - scene(d.numpy())).mean() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (64, 128)])
def test_constant_environment_is_constant(size):
    light = EnvironmentLight.from_latlong(torch.tensor([0.5, 2.0, 8.0]).expand(*size, 3), resolution=16)
    expected = torch.tensor([0.5, 2.0, 8.0]).expand(50, 3)
    for roughness in (0.0, 0.3, 1.0):
        torch.testing.assert_close(light.radiance(random_directions(50), roughness), expected)
    torch.testing.assert_close(light.irradiance(random_directions(50)), expected)


def test_total_light_is_kept_by_every_cube():
    image = torch.rand(64, 128, 3, generator=torch.Generator().manual_seed(0)) ** 8
    weight = torch.tensor(np.sin((np.arange(64) + 0.5) / 64 * np.pi)).float()[:, None, None]
    mean = (image * weight).sum((0, 1)) / (weight.sum() * 128)
    cube = _ops.latlong_to_cube(image, 64)
    while cube.shape[1] > 1:
        cube = _ops.halve_cube(cube)
    torch.testing.assert_close(cube.mean((0, 1, 2)), mean, rtol=3e-3, atol=0)


def test_a_tiny_sun_is_not_lost():
    image = torch.zeros(1024, 2048, 3)
    image[300, 700] = 1e4  # far smaller than a texel of the cube
    area = math.pi / 1024 * 2 * math.pi / 2048 * math.sin((300.5 / 1024) * math.pi)
    light = EnvironmentLight.from_latlong(image, resolution=16, samples=64)
    # Irradiance of a small source: radiance times its solid angle times the cosine, here 1, over pi.
    d = torch.tensor(latlong_directions(1024)[300, 700], dtype=torch.float32)[None]
    assert light.irradiance(d)[0, 0].item() == pytest.approx(1e4 * area / math.pi, rel=0.05)


# ---- integrals -----------------------------------------------------------------------------------------------------


def test_irradiance_of_half_a_white_sphere():
    image = image_of(lambda d: np.repeat(d[..., 1:2] > 0, 3, -1).astype(float))
    light = EnvironmentLight.from_latlong(image, resolution=64)
    d = random_directions(500)
    expected = (1 + d[:, 1:2]) / 2  # the share of the cosine lobe above the horizon
    torch.testing.assert_close(light.irradiance(d), expected.expand(500, 3), atol=4e-3, rtol=0)


def test_irradiance_of_a_linear_environment():
    # The cosine lobe keeps 2/3 of a linear function of direction (Ramamoorthi and Hanrahan, 2001).
    light = EnvironmentLight.from_latlong(image_of(lambda d: 1 + 0.9 * d), resolution=64)
    d = random_directions(500)
    torch.testing.assert_close(light.irradiance(d), 1 + 0.6 * d, atol=3e-3, rtol=0)


@pytest.mark.parametrize(("roughness", "tolerance"), [(0.25, 0.02), (0.5, 0.01), (0.75, 0.01), (1.0, 0.01)])
def test_rough_mirrors_equal_brute_force(roughness, tolerance):
    # Levels of this light stand at quarters of roughness; tolerance is relative to the largest value.
    assert LIGHT.levels == 5
    d = torch.cat(
        [random_directions(12, seed=3), torch.eye(3), torch.tensor([[0.6, 0.64, 0.48], [-0.577, 0.577, 0.577]])]
    )
    expected = np.stack([lobe_average(scene, n / np.linalg.norm(n), roughness) for n in d.double().numpy()])
    got = LIGHT.radiance(d, roughness).numpy()
    assert np.abs(got - expected).max() < tolerance * expected.max()


def test_between_levels_is_between_them():
    d = random_directions(200, seed=5)
    expected = 0.5 * LIGHT.radiance(d, 0.5) + 0.5 * LIGHT.radiance(d, 0.75)
    torch.testing.assert_close(LIGHT.radiance(d, 0.625), expected, atol=1e-5, rtol=0)
    each = LIGHT.radiance(d, torch.full((200,), 0.625))
    assert torch.equal(each, LIGHT.radiance(d, 0.625)) and torch.equal(
        LIGHT.radiance(d, torch.full((200, 1), 0.625)), each
    )


def test_brdf_table_equals_brute_force():
    side = 9
    table = _ops.brdf_table(torch.zeros(1), side).numpy()
    light, angle = hemisphere(300, 1600, power=1)
    for i, j in ((2, 1), (2, 8), (4, 2), (4, 6), (6, 4), (8, 1), (8, 8)):
        alpha, nv = (i / 8) ** 2, j / 8
        v = np.array([math.sqrt(1 - nv**2), 0, nv])
        h = light + v
        h /= np.linalg.norm(h, axis=-1, keepdims=True)
        nl, nh, vh = light[:, 2], h[:, 2], h @ v

        def smith(c, alpha=alpha):
            return (np.sqrt(1 + alpha**2 * (1 / c**2 - 1)) - 1) / 2

        brdf = ggx(nh, alpha) / (1 + smith(nv) + smith(nl)) / (4 * nv * nl)
        fresnel = (1 - vh) ** 5
        expected = [(brdf * (1 - fresnel) * nl * angle).sum(), (brdf * fresnel * nl * angle).sum()]
        np.testing.assert_allclose(table[i, j], expected, atol=1e-3)


def test_brdf_table_of_a_mirror_is_schlick():
    table = _ops.brdf_table(torch.zeros(1), 17)[0]
    c = torch.linspace(0, 1, 17)
    fresnel = (1 - c) ** 5
    torch.testing.assert_close(table[1:], torch.stack([1 - fresnel, fresnel], -1)[1:], atol=1e-5, rtol=0)
    assert (_ops.brdf_table(torch.zeros(1), 17).sum(-1) <= 1 + 1e-5).all()


# ---- cubes ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**31), st.sampled_from([1, 2, 4, 8]))
def test_look_ups_are_continuous_across_edges(seed, side):
    rng = np.random.default_rng(seed)
    cube = torch.tensor(rng.uniform(size=(6, side, side, 3)), dtype=torch.float32)
    point = rng.uniform(-1, 1, 3)
    axes = rng.permutation(3)[:2]
    point[axes] = rng.choice([-1.0, 1.0], 2)  # on an edge of the cube
    step = np.zeros(3)
    step[axes[0]], step[axes[1]] = 1e-5, -1e-5
    d = torch.tensor(np.stack([point + step * point, point - step * point]), dtype=torch.float32)
    a, b = _ops.sample_cube(cube.view(-1, 3), side, 1, d, None)
    assert (a - b).abs().max() < 1e-3  # a step of 2e-5 through at most 4 texels of slope 1 each


def test_texel_centres_are_exact():
    cube = torch.rand(6, 4, 4, 3)
    centres = (torch.arange(4) * 2 + 1) / 4 - 1
    b, a = torch.meshgrid(centres, centres, indexing="ij")
    one = torch.ones_like(a)
    # Table 8.19 of the OpenGL specification solved for the direction.
    faces = [(one, -b, -a), (-one, -b, a), (a, one, b), (a, -one, -b), (a, -b, one), (-a, -b, -one)]
    d = torch.stack([torch.stack(f, -1) for f in faces]).view(-1, 3)
    torch.testing.assert_close(_ops.sample_cube(cube.view(-1, 3), 4, 1, d, None), cube.view(-1, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        _ops.sample_cube(cube.view(-1, 3), 4, 1, d * 1e-30, None), cube.view(-1, 3), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_directions_that_are_none_give_zero(bad):
    d = torch.tensor([[bad, bad, bad], [0.0, 0.0, 1.0]])
    assert (LIGHT.radiance(d)[0] == 0).all() and (LIGHT.radiance(d)[1] > 0).all()
    assert (LIGHT.irradiance(d)[0] == 0).all()


# ---- rotation ------------------------------------------------------------------------------------------------------


def test_a_turn_moves_light_with_it():
    axis_angle = torch.tensor([[0.0, -0.3, 0.5], [0.3, 0, 0.2], [-0.5, -0.2, 0]], dtype=torch.float64)
    matrix = torch.linalg.matrix_exp(axis_angle)
    turned = LIGHT.rotated(matrix)
    d = random_directions(300)
    moved = (d.double() @ matrix.T).float()
    torch.testing.assert_close(turned.radiance(moved, 0.4), LIGHT.radiance(d, 0.4), atol=1e-4, rtol=0)
    torch.testing.assert_close(turned.irradiance(moved), LIGHT.irradiance(d), atol=1e-4, rtol=0)
    arguments = torch.rand(300, 3), 0.3, 0.4
    eye = torch.tensor([1.0, 2, 3])
    torch.testing.assert_close(
        turned.shade(moved, moved, *arguments, (eye.double() @ matrix.T).float()),
        LIGHT.shade(d, d, *arguments, eye),
        atol=1e-4,
        rtol=0,
    )
    back = turned.rotated(matrix.T)
    torch.testing.assert_close(torch.tensor(back.rotation), torch.eye(3).flatten(), atol=1e-6, rtol=0)


def test_a_quarter_turn_shifts_the_image():
    image = image_of(scene)
    # Counterclockwise from above, what was at -z comes to -x: a quarter of the width to the left.
    shifted = EnvironmentLight.from_latlong(image.roll(-64, 1), resolution=64)
    turned = EnvironmentLight.from_latlong(image, resolution=64).rotated(90.0)
    d = random_directions(500)
    torch.testing.assert_close(turned.radiance(d), shifted.radiance(d), atol=1e-4, rtol=0)
    torch.testing.assert_close(turned.irradiance(d), shifted.irradiance(d), atol=1e-4, rtol=0)


# ---- generated ones ------------------------------------------------------------------------------------------------


def test_gradient_sky():
    light = EnvironmentLight.gradient_sky(zenith=(0, 0, 1), horizon=(1, 1, 1), ground=(0.5, 0.25, 0))
    up, down = light.radiance(torch.tensor([[0.0, 1, 0], [0, -1, 0]]))
    torch.testing.assert_close(up, torch.tensor([0.0, 0, 1]), atol=0.01, rtol=0)
    torch.testing.assert_close(down, torch.tensor([0.5, 0.25, 0]))


def test_studio_lights_from_above_and_the_front():
    light = EnvironmentLight.studio(resolution=64)
    d = random_directions(2000)
    assert (light.radiance(d) > 0).all() and (light.irradiance(d) > 0).all()
    front, back, up, down = light.irradiance(torch.tensor([[0.3, 0.3, 1], [0, 0, -1], [0, 1, 0], [0, -1, 0]])).mean(-1)
    assert 0.7 < front < 2 and front > back and up > 2 * down
    assert repr(light).startswith("EnvironmentLight(side=64")


def test_same_bits_for_any_thread_count():
    image = torch.rand(20, 40, 3)
    d = random_directions(9000)

    def everything():
        light = EnvironmentLight.from_latlong(image, resolution=16, samples=64)
        return light, light.to("cpu").shade(d, d, d.abs(), 0.2, 0.4, torch.ones(3))

    assert_same_bits_for_any_thread_count(EXTENSION, everything)


# ---- arguments -----------------------------------------------------------------------------------------------------

IMAGE = torch.zeros(4, 8, 3)


@pytest.mark.parametrize(
    ("image", "options", "error", "text"),
    [
        (IMAGE.double(), {}, TypeError, "hdr: expected dtype float32, got float64"),
        (IMAGE[..., :2], {}, ValueError, r"hdr: expected shape \[H, W, 3\], got \[4, 8, 2\]"),
        (IMAGE[:0], {}, ValueError, "hdr: expected at least one pixel, got 0 x 8"),
        (IMAGE + math.inf, {}, ValueError, "hdr: expected finite values"),
        (IMAGE + math.nan, {}, ValueError, "hdr: expected finite values"),
        (IMAGE, {"resolution": 8}, ValueError, r"resolution: expected in \[16, 4096\], got 8"),
        (IMAGE, {"resolution": 48}, ValueError, "resolution: expected a power of two, got 48"),
        (IMAGE, {"resolution": 64.0}, TypeError, "resolution: expected an int, got float"),
        (IMAGE, {"samples": 0}, ValueError, "samples: expected in"),
    ],
)
def test_arguments_of_from_latlong_are_checked(image, options, error, text):
    with pytest.raises(error, match=text):
        EnvironmentLight.from_latlong(image, **options)


@pytest.mark.parametrize(
    ("rotation", "error", "text"),
    [
        ("90", TypeError, "rotation: expected a number, got str"),
        (math.inf, ValueError, "rotation: expected a finite number"),
        (torch.eye(4), ValueError, r"rotation: expected a floating-point \[3, 3\]"),
        (torch.eye(3, dtype=torch.int64), ValueError, r"rotation: expected a floating-point \[3, 3\]"),
        (2 * torch.eye(3), ValueError, "rotation: expected an orthonormal matrix"),
        (-torch.eye(3), ValueError, "rotation: expected an orthonormal matrix"),
    ],
)
def test_arguments_of_rotated_are_checked(rotation, error, text):
    with pytest.raises(error, match=text):
        LIGHT.rotated(rotation)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((torch.zeros(5, 2),), ValueError, r"directions: expected shape \[..., 3\], got \[5, 2\]"),
        ((torch.tensor(1.0),), ValueError, r"directions: expected shape \[..., 3\], got \[\]"),
        ((None,), TypeError, "directions: expected a torch.Tensor, got NoneType"),
        ((torch.zeros(5, 3, dtype=torch.float64),), TypeError, "directions: expected dtype float32"),
        ((torch.zeros(5, 3, device="meta"),), ValueError, "directions: expected a tensor on cpu"),
        ((torch.zeros(5, 3, requires_grad=True),), ValueError, "directions: requires a gradient"),
        ((torch.zeros(5, 3), 1.5), ValueError, r"roughness: expected a number in \[0, 1\], got 1.5"),
        ((torch.zeros(5, 3), torch.zeros(4)), ValueError, r"roughness: expected shape \[5, 1\], got \[4\]"),
    ],
)
def test_arguments_of_radiance_are_checked(arguments, error, text):
    with pytest.raises(error, match=text):
        LIGHT.radiance(*arguments)


def test_from_cube_of_the_cube_of_an_image_is_from_latlong():
    latlong = torch.rand(16, 32, 3, generator=torch.Generator().manual_seed(3))
    one = EnvironmentLight.from_latlong(latlong, resolution=16, samples=64)
    cube = one.specular[: 6 * 16 * 16].view(6, 16, 16, 3)
    other = EnvironmentLight.from_cube(cube, samples=64)
    assert (other.side, other.levels) == (one.side, one.levels)
    assert all(torch.equal(getattr(other, name), getattr(one, name)) for name in ("specular", "diffuse", "table"))


@pytest.mark.parametrize(
    "cube, error, text",
    [
        (torch.ones(6, 16, 16, 4), ValueError, r"cube: expected shape \[6, n, n, 3\]"),
        (torch.ones(6, 16, 16, 3).double(), TypeError, "cube: expected dtype float32"),
        (torch.ones(6, 24, 24, 3), ValueError, "cube: expected a side that is a power of two from 16 to 4096, got 24"),
        (torch.full((6, 16, 16, 3), float("nan")), ValueError, "cube: expected finite values"),
    ],
)
def test_from_cube_checks_its_argument(cube, error, text):
    with pytest.raises(error, match=text):
        EnvironmentLight.from_cube(cube)
