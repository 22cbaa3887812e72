"""CUDA against the CPU path. Both run the same code; a device fuses products and sums, and has its own sine, cosine,
arctangent and logarithm, so results agree to a few units of float32 rounding and not to the bit."""

import math

import pytest
import torch
from trellis_shade import EnvironmentLight, linear_to_srgb, srgb_to_linear, tonemap

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

# Of what the largest texel sends: bright spots are a hundred times the mean here.
TOLERANCE = 2e-5


def image(seed=0):
    return torch.rand(48, 96, 3, generator=torch.Generator().manual_seed(seed)) ** 6 * 20


def surfaces(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    position, normal, base = (
        torch.randn(count, 3, generator=g),
        torch.randn(count, 3, generator=g),
        torch.rand(count, 3, generator=g),
    )
    if count > 10:
        normal[3], normal[7] = 0, math.nan
    return position, normal, base, torch.rand(count, generator=g), torch.rand(count, generator=g)


def close(ours, cpu):
    scale = float(cpu.abs().max()) or 1.0
    torch.testing.assert_close(ours.cpu() / scale, cpu / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("resolution", [16, 128])
def test_prefiltering(resolution):
    cpu = EnvironmentLight.from_latlong(image(), resolution=resolution)
    ours = EnvironmentLight.from_latlong(image().cuda(), resolution=resolution)
    assert (ours.side, ours.levels, ours.device.type) == (cpu.side, cpu.levels, "cuda")
    close(ours.specular, cpu.specular)
    close(ours.diffuse, cpu.diffuse)
    close(ours.table, cpu.table)


def test_small_light_from_a_cube():
    cube = torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(2))
    close(
        EnvironmentLight.from_cube(cube.cuda(), samples=64).specular,
        EnvironmentLight.from_cube(cube, samples=64).specular,
    )


@pytest.mark.parametrize("count", [0, 1, 129, 100_001])
def test_small_shading_and_looking_up(count):
    light = EnvironmentLight.from_latlong(image(), resolution=32, samples=64).rotated(33.0)
    device = light.to("cuda")
    position, normal, base, metallic, roughness = surfaces(count)
    eye = torch.tensor([0.0, 1.0, 4.0])
    mine = [x.cuda() for x in (position, normal, base, metallic, roughness, eye)]
    cpu = light.shade(position, normal, base, metallic, roughness, eye)
    if count:
        close(device.shade(*mine), cpu)
        close(device.radiance(mine[1], mine[4]), light.radiance(normal, roughness))
        close(device.irradiance(mine[1]), light.irradiance(normal))
    assert device.shade(*mine).shape == cpu.shape


@pytest.mark.parametrize("curve", ["none", "reinhard", "aces", "agx", "neutral"])
def test_small_colour(curve):
    x = torch.rand(1000, 3, generator=torch.Generator().manual_seed(3)) * 4
    close(linear_to_srgb(tonemap(x.cuda(), curve)), linear_to_srgb(tonemap(x, curve)))
    close(srgb_to_linear(x.cuda()), srgb_to_linear(x))


def test_repeats_are_the_same_bits_on_any_stream():
    light = EnvironmentLight.from_latlong(image().cuda(), resolution=64)
    mine = [x.cuda() for x in (*surfaces(50_000), torch.tensor([0.0, 1.0, 4.0]))]
    first = light.shade(*mine)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        again = EnvironmentLight.from_latlong(image().cuda(), resolution=64)
        shaded = again.shade(*mine)
    stream.synchronize()
    assert torch.equal(first.nan_to_num(), shaded.nan_to_num())
    assert torch.equal(light.specular, again.specular) and torch.equal(light.diffuse, again.diffuse)
