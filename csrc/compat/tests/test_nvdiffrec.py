"""nvdiffrec_render's light: cube maps in, (occlusion, roughness, metallic) materials, view positions that broadcast."""

import pytest
import torch
import trellis_shade


def surface(shape=(4, 5)):
    generator = torch.Generator().manual_seed(0)
    position = torch.randn(1, *shape, 3, generator=generator)
    normal = torch.nn.functional.normalize(torch.randn(1, *shape, 3, generator=generator), dim=-1)
    return (
        position,
        normal,
        torch.rand(1, *shape, 3, generator=generator),
        torch.rand(1, *shape, 3, generator=generator),
    )


@pytest.fixture
def light():
    from nvdiffrec_render.light import EnvironmentLight

    cube = torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    light = EnvironmentLight(cube.requires_grad_())
    light.build_mips(cutoff=0.99)
    return light


def test_shading_is_ours_with_the_material_taken_apart(light):
    position, normal, color, material = surface()
    view = torch.tensor([0.0, 1.0, 3.0])
    ours = trellis_shade.EnvironmentLight.from_cube(light.base).shade(
        position,
        normal,
        color,
        metallic=material[..., 2],
        roughness=material[..., 1],
        view_position=view,
        occlusion=1 - material[..., 0],
    )
    for view_position in (view, view.expand(4, 5, 3), view.expand(1, 4, 5, 3)):
        torch.testing.assert_close(light.shade(position, normal, color, material, view_position, True), ours)


def test_diffuse_light_alone(light):
    position, normal, color, material = surface()
    out = light.shade(position, normal, color, material, torch.zeros(3), specular=False)
    expected = trellis_shade.EnvironmentLight.from_cube(light.base).irradiance(normal) * color * (1 - material[..., :1])
    torch.testing.assert_close(out, expected)


def test_white_light_on_white_stays_white():
    from nvdiffrec_render.light import EnvironmentLight

    light = EnvironmentLight(torch.ones(6, 16, 16, 3))
    light.build_mips()
    position, normal, _, _ = surface()
    bare = torch.tensor([0.0, 0.5, 1.0]).expand_as(position)
    out = light.shade(position, normal, torch.ones_like(position), bare, position + 2 * normal)
    torch.testing.assert_close(out, torch.ones_like(out), atol=1e-2, rtol=0)


def test_errors(light):
    from nvdiffrec_render.light import EnvironmentLight

    with pytest.raises(RuntimeError, match=r"call build_mips\(\) first"):
        EnvironmentLight(torch.ones(6, 16, 16, 3)).shade(*surface(), torch.zeros(3))
    with pytest.raises(AttributeError, match=r"EnvironmentLight\.xfm is not provided .* has: base, build_mips, shade"):
        light.xfm(torch.eye(4))
    with pytest.raises(ValueError, match="cube: expected a side that is a power of two"):
        EnvironmentLight(torch.ones(6, 20, 20, 3)).build_mips()
    assert not light.base.requires_grad
