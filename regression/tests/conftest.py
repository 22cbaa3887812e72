"""A small textured asset, made here, for every test of this package."""

import numpy as np
import pytest
import trimesh
from PIL import Image
from trellis_regression import matrix, sample


@pytest.fixture(scope="session")
def painted_box(tmp_path_factory):
    """A box whose texture is red where x < 0, green where x > 0, in a scene with a translated node."""
    box = trimesh.creation.box((2, 1, 1)).subdivide()
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (255, 0, 0, 255)
    pixels[:, 4:] = (0, 255, 0, 255)
    uv = np.stack([np.where(box.vertices[:, 0] < 0, 0.25, 0.75), np.full(len(box.vertices), 0.5)], 1)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(pixels), metallicFactor=0.0, roughnessFactor=0.5
    )
    box.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    scene = trimesh.Scene()
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([10, 0, 0]))
    path = tmp_path_factory.mktemp("asset") / "box.glb"
    path.write_bytes(scene.export(file_type="glb"))
    return path


@pytest.fixture(scope="session")
def road():
    """The export road that makes the sample."""
    return matrix.load_road("trellis_pipeline.gating")


@pytest.fixture(scope="session")
def controls(road, tmp_path_factory):
    """A few clean assets of the sample, each made twice, by name."""
    made = matrix.make_controls(road, tmp_path_factory.mktemp("sample"), sample.FEW)
    return {c.name: c for c in made}
