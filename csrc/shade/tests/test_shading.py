"""Shading: energy, limits worked out by hand, and the sum of its parts."""

import math

import pytest
import torch
from torch.nn.functional import normalize
from trellis_shade import EnvironmentLight


def points(count, seed=0):
    """Random surface points, and normals that face a viewer at (0, 0, 3)."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(count, 3, generator=generator) - 0.5
    view = normalize(EYE - position, dim=-1)
    normal = normalize(torch.randn(count, 3, generator=generator), dim=-1)
    normal = torch.where((normal * view).sum(-1, keepdim=True) < 0, -normal, normal)
    return position, normal, torch.rand(count, 3, generator=generator), torch.rand(count, generator=generator)


EYE = torch.tensor([0.0, 0.0, 3.0])
WHITE = EnvironmentLight.from_latlong(torch.ones(8, 16, 3), resolution=16)
RANDOM = EnvironmentLight.from_latlong(
    torch.rand(32, 64, 3, generator=torch.Generator().manual_seed(1)) ** 3, resolution=32
)


@pytest.mark.parametrize("metallic", [0.0, 0.37, 1.0])
def test_white_furnace(metallic):
    # Nothing is absorbed, so a white surface in a white environment cannot be told from it: to float32 rounding.
    position, normal, _, rough = points(5000)
    rgb = WHITE.shade(position, normal, torch.ones(5000, 3), metallic, rough, EYE)
    assert (rgb - 1).abs().max() < 2e-6


@pytest.mark.parametrize("metallic", [0.0, 1.0])
def test_no_surface_sends_back_more_than_it_gets(metallic):
    position, normal, base, rough = points(5000)
    rgb = WHITE.shade(position, normal, base, metallic, rough, EYE)
    assert rgb.min() >= 0 and rgb.max() <= 1 + 2e-6
    darker = WHITE.shade(position, normal, base * 0.5, metallic, rough, EYE)
    assert (darker <= rgb + 1e-6).all()


def test_smooth_metal_is_a_tinted_mirror():
    position, normal, base, _ = points(300)
    view = normalize(EYE - position, dim=-1)
    cosine = (normal * view).sum(-1, keepdim=True)
    keep = cosine[:, 0] > 0.2  # Schlick's curve is steep below, and the table linear between its columns
    reflected = 2 * cosine * normal - view
    tint = base + (1 - base) * (1 - cosine) ** 5
    expected = tint * RANDOM.radiance(reflected)
    rgb = RANDOM.shade(position, normal, base, 1.0, 0.0, EYE)
    torch.testing.assert_close(rgb[keep], expected[keep], atol=2e-3, rtol=0)


def test_dielectric_seen_head_on_by_hand():
    # A smooth dielectric reflects 4 % of what is behind the viewer; the rest of the light reaches the base.
    sky = EnvironmentLight.gradient_sky(zenith=(2, 2, 2), horizon=(2, 2, 2), ground=(0, 0, 0), resolution=64)
    rgb = sky.shade(
        torch.zeros(1, 3),
        torch.tensor([[0.0, 1, 0]]),
        torch.tensor([[0.5, 0.0, 1.0]]),
        0.0,
        0.0,
        torch.tensor([0.0, 5, 0]),
    )
    expected = [[0.04 * 2 + 0.96 * 0.5 * 2, 0.04 * 2, 0.04 * 2 + 0.96 * 2]]
    torch.testing.assert_close(rgb, torch.tensor(expected), atol=5e-3, rtol=0)


def test_metallic_mixes_the_two_materials():
    position, normal, base, rough = points(200)
    plastic, metal = (RANDOM.shade(position, normal, base, m, rough, EYE) for m in (0.0, 1.0))
    mixed = RANDOM.shade(position, normal, base, 0.25, rough, EYE)
    torch.testing.assert_close(mixed, 0.75 * plastic + 0.25 * metal, atol=1e-6, rtol=0)


def test_equals_the_sum_of_its_parts():
    position, normal, base, rough = points(400, seed=2)
    view = normalize(EYE - position, dim=-1)
    cosine = (normal * view).sum(-1).clamp(0, 1)
    table = RANDOM.table
    x, y = cosine * (len(table) - 1), rough * (len(table) - 1)
    i, j = x.long().clamp(max=len(table) - 2), y.long().clamp(max=len(table) - 2)
    ax, ay = (x - i)[:, None], (y - j)[:, None]
    terms = (table[j, i] * (1 - ax) + table[j, i + 1] * ax) * (1 - ay) + (
        table[j + 1, i] * (1 - ax) + table[j + 1, i + 1] * ax
    ) * ay
    mirror = RANDOM.radiance(2 * cosine[:, None] * normal - view, rough)
    around = RANDOM.irradiance(normal)
    a, b = terms[:, :1], terms[:, 1:]
    single, mean = base * a + b, base + (1 - base) / 21
    # One bounce, then a geometric series of further ones, each sent back in part and absorbed in part.
    lost = 1 - a - b
    multiple = single * lost * mean * sum((mean * lost) ** k for k in range(200))
    rgb = RANDOM.shade(position, normal, base, torch.ones(400), rough[:, None], EYE.expand(400, 3))
    torch.testing.assert_close(rgb, single * mirror + multiple * around, atol=1e-5, rtol=0)


def test_occlusion_and_shapes():
    position, normal, base, rough = (t.unflatten(0, (4, 5)) for t in points(20))
    full = RANDOM.shade(position, normal, base, rough, rough, EYE)
    assert full.shape == (4, 5, 3)
    for occlusion in (rough, rough[..., None]):
        half = RANDOM.shade(position, normal, base, rough, rough, EYE, occlusion=occlusion)
        torch.testing.assert_close(half, full * rough[..., None])
    single = RANDOM.shade(position[0, 0], normal[0, 0], base[0, 0], rough[0, 0], rough[0, 0], EYE)
    assert torch.equal(single, full[0, 0])
    assert RANDOM.shade(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 3), 0.0, 0.0, EYE).shape == (0, 3)
    assert torch.equal(
        RANDOM.shade(position, normal * 7, base, rough, rough, EYE),
        RANDOM.shade(position, normal * 7, base, rough, rough, EYE.expand(4, 5, 3)),
    )


def test_odd_input_has_a_defined_result():
    position, base = torch.zeros(5, 3), torch.ones(5, 3)
    normal = torch.tensor([[0.0, 0, 0], [math.nan, 0, 1], [0, 0, math.inf], [0, 0, 1], [0, 0, -1]])
    rgb = RANDOM.shade(position, normal, base, 0.0, 0.5, EYE)
    assert (rgb[:3] == 0).all() and (rgb[3] > 0).all()
    assert torch.isfinite(rgb).all() and (rgb[4] >= 0).all()  # turned away from the viewer
    assert (RANDOM.shade(position, normal, base, 0.0, 0.5, torch.zeros(3)) == 0).all()  # the viewer on the surface
    inside = RANDOM.shade(position, normal, base, 1.0, 1.0, EYE)
    outside = RANDOM.shade(position, normal, base, 7.0, 2.0, EYE)
    assert torch.equal(inside, outside)
    assert torch.isfinite(RANDOM.shade(position, normal, base, 0.0, torch.full((5,), math.nan), EYE)).all()


POINT = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"position": POINT[:, :2]}, ValueError, r"position: expected shape \[..., 3\], got \[2, 2\]"),
        ({"position": POINT.double()}, TypeError, "position: expected dtype float32"),
        ({"position": POINT.to("meta")}, ValueError, "position: expected a tensor on cpu"),
        ({"normal": POINT[:1]}, ValueError, r"normal: expected shape \[2, 3\], got \[1, 3\]"),
        ({"base_color": POINT.byte()}, TypeError, "base_color: expected dtype float32, got uint8"),
        ({"metallic": torch.zeros(3)}, ValueError, r"metallic: expected shape \[2, 1\], got \[3\]"),
        ({"metallic": "1"}, TypeError, "metallic: expected a number, got str"),
        ({"roughness": math.nan}, ValueError, "roughness: expected a finite number"),
        ({"view_position": POINT[0, :2]}, ValueError, r"view_position: expected shape \[3\], got \[2\]"),
        ({"view_position": POINT[:1]}, ValueError, r"view_position: expected shape \[2, 3\], got \[1, 3\]"),
        ({"view_position": (0, 0, 1)}, TypeError, "view_position: expected a torch.Tensor, got tuple"),
        ({"occlusion": torch.zeros(2, 2)}, ValueError, r"occlusion: expected shape \[2, 1\]"),
        ({"normal": POINT.clone().requires_grad_()}, ValueError, "normal: requires a gradient"),
    ],
)
def test_arguments_are_checked(changed, error, text):
    arguments = {
        "position": POINT,
        "normal": POINT,
        "base_color": POINT,
        "metallic": 0.0,
        "roughness": 0.5,
        "view_position": EYE,
    }
    with pytest.raises(error, match=text):
        WHITE.shade(**(arguments | changed))
