"""Specular-glossiness materials read as what a metallic-roughness renderer shows as much alike as it can."""

import io

import numpy as np
import pytest
from handmade_glb import pack, triangle
from PIL import Image
from trellis_regression.glb import GlbError, parse_glb
from trellis_regression.opening import begin, take
from trellis_regression.scene import load_parts
from trellis_regression.specular import metallic_roughness

NAME = "KHR_materials_pbrSpecularGlossiness"


def glb(given, images=(), material=(), textures=None):
    """A triangle whose material has the extension, with PNGs [H, W, 4] as textures."""
    document, binary = triangle()
    document["meshes"][0]["primitives"][0]["material"] = 0
    document["materials"] = [{"extensions": {NAME: given}, **dict(material)}]
    document |= {"extensionsUsed": [NAME], "extensionsRequired": [NAME]}
    document["images"], document["textures"] = [], textures or [{"source": i} for i in range(len(images))]
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        binary += b"\0" * (-len(binary) % 4)
        document["images"].append({"bufferView": len(document["bufferViews"]), "mimeType": "image/png"})
        document["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": file.tell()})
        binary += file.getvalue()
    document["buffers"] = [{"byteLength": len(binary)}]
    return pack(document, binary)


def material(*arguments, **options):
    (part,) = load_parts(parse_glb(glb(*arguments, **options)))
    return part.material


@pytest.mark.parametrize("metallic", [0.0, 0.3, 1.0])
def test_what_was_metallic_roughness_comes_back(metallic):
    """The other way: diffuse is what metal leaves of the base colour, specular goes from 0.04 to it."""
    rng = np.random.default_rng(3)
    base = rng.uniform(0.1, 0.9, (500, 3)).astype(np.float32)
    specular = 0.04 * (1 - metallic) + base * metallic
    diffuse = base * (1 - 0.04) * (1 - metallic) / (1 - specular.max(-1, keepdims=True))
    found, share = metallic_roughness(diffuse.astype(np.float32), specular.astype(np.float32))
    # Brightness is no linear function of a colour, so a mixture comes back nearly and the ends exactly.
    room = 1e-4 if metallic in (0, 1) else 0.06
    assert np.abs(share - metallic).max() < room
    assert np.abs(found - base).max() < room


def test_a_mixture_has_the_share_of_metal_that_the_equation_gives():
    """Worked out by hand: brightness 0.28594 and 0.22700, 0.04 m^2 + 0.35550 m - 0.18700 = 0."""
    base, metallic = metallic_roughness(np.float32([0.5, 0.1, 0.1]), np.float32([0.3, 0.2, 0.1]))
    assert metallic == pytest.approx(0.49811, abs=2e-4)
    assert base[0] == pytest.approx(0.68562, abs=2e-4)


def test_factors_alone():
    gold = material({"diffuseFactor": [0, 0, 0, 0.5], "specularFactor": [1.0, 0.77, 0.34], "glossinessFactor": 0.8})
    assert gold.metallic == pytest.approx(1) and gold.roughness == pytest.approx(0.2)
    assert gold.base_color == pytest.approx((1.0, 0.77, 0.34, 0.5), abs=1e-5)
    paint = material({"diffuseFactor": [0.2, 0.4, 0.6, 1], "specularFactor": [0.04, 0.04, 0.04], "glossinessFactor": 0})
    assert paint.metallic == pytest.approx(0, abs=1e-6) and paint.roughness == 1
    assert paint.base_color == pytest.approx((0.2, 0.4, 0.6, 1), abs=1e-5)


def test_it_goes_before_the_fallback_beside_it():
    fallback = {"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1], "metallicFactor": 1.0}}
    found = material({"diffuseFactor": [0, 0, 1, 1], "specularFactor": [0, 0, 0]}, material=fallback)
    assert found.base_color[0] < 0.01 < found.base_color[2] and found.metallic == 0


def test_textures_of_two_sizes_become_one_of_the_larger():
    """Left blue paint, right gold; gloss from dull to bright from top to bottom."""
    diffuse = np.zeros((8, 8, 4), np.uint8)
    diffuse[:, :4], diffuse[:, 4:] = (0, 0, 255, 255), (0, 0, 0, 128)
    shine = np.zeros((4, 4, 4), np.uint8)
    shine[:, :2, :3], shine[:, 2:, :3] = 56, (255, 226, 157)  # 56 is 0.04 of the light
    shine[:2, :, 3], shine[2:, :, 3] = 0, 255
    found = material(
        {
            "diffuseTexture": {"index": 0}, "specularGlossinessTexture": {"index": 1}, "glossinessFactor": 0.5,
        },
        images=(diffuse, shine),
    )  # fmt: skip
    base, surface = found.textures["baseColorTexture"].image, found.textures["metallicRoughnessTexture"].image
    assert base.shape == surface.shape == (8, 8, 4)
    assert (base[:, :2] == (0, 0, 255, 255)).all()
    assert np.abs(base[:, 6:].astype(int) - (255, 226, 157, 128)).max() <= 1
    assert surface[:, :2, 2].max() <= 2 and surface[:, 6:, 2].min() >= 253
    assert (surface[0, :, 1], surface[7, :, 1]) == (pytest.approx(255), pytest.approx(128, abs=1))
    assert (found.base_color, found.metallic, found.roughness) == ((1, 1, 1, 1), 1, 1)


def test_textures_that_are_looked_up_apart_are_converted_apart():
    blue, dull = np.full((2, 2, 4), (0, 0, 255, 255), np.uint8), np.full((4, 4, 4), (56, 56, 56, 0), np.uint8)
    turned = {"index": 1, "extensions": {"KHR_texture_transform": {"scale": [2, 2]}}}
    found = material(
        {"diffuseTexture": {"index": 0}, "specularGlossinessTexture": turned}, images=(blue, dull)
    ).textures
    assert found["baseColorTexture"].image.shape[:2] == (2, 2)
    assert found["metallicRoughnessTexture"].image.shape[:2] == (4, 4)
    assert found["metallicRoughnessTexture"].transform[0, 0] == 2 != found["baseColorTexture"].transform[0, 0]
    assert (found["baseColorTexture"].image == (0, 0, 255, 255)).all()
    assert found["metallicRoughnessTexture"].image[..., 1].min() == 255


def test_a_file_that_another_process_reads_is_read_the_same(tmp_path):
    diffuse = np.full((4, 4, 4), (0, 0, 255, 255), np.uint8)
    file = tmp_path / "a.glb"
    file.write_bytes(glb({"diffuseTexture": {"index": 0}, "specularFactor": [0, 0, 0]}, images=(diffuse,)))
    begin(file, apart=True)
    (part,) = take(file).parts
    assert np.asarray(part.material.textures["baseColorTexture"].image).shape == (4, 4, 4)


@pytest.mark.parametrize(
    "given", [{"diffuseTexture": {"index": 7}}, {"specularFactor": [1]}, {"diffuseFactor": "red"}, []]
)
def test_what_is_wrong_in_it_is_said(given):
    with pytest.raises(GlbError):
        material(given)
