"""Assets made here, whose right answers are known, for tests and gates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
import trimesh.visual
from PIL import Image, ImageDraw

from .random_checkpoint import make_checkpoint

__all__ = ["DIRECTION_COLORS", "make_checkpoint", "object_picture", "painted_mesh", "write_painted_asset"]

DIRECTION_COLORS = {
    "+x": (220, 40, 40), "-x": (40, 200, 200), "+y": (40, 190, 60), "-y": (200, 50, 200), "+z": (50, 70, 220), "-z": (220, 200, 40),
}  # fmt: skip
"""Base colours by the direction that a face of the painted asset looks in (glTF axes: y up, +z to the viewer)."""


def painted_mesh(subdivisions: int = 3) -> trimesh.Trimesh:
    """An ellipsoid with a nose, no two of whose 48 signed axis permutations look alike.

    Each face has the colour of its main direction (`DIRECTION_COLORS`) from a texture of 2 x 3 cells, roughness 0.25
    where x > 0 and 0.75 elsewhere, and no metal.
    """
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    points = ball.vertices * (1.0, 0.7, 0.5)
    nose = np.clip((ball.vertices @ (0.6, 0.64, 0.48) - 0.9) / 0.1, 0, 1)[:, None]
    points = points * (1 + 0.35 * nose)
    mesh = trimesh.Trimesh(points, ball.faces, process=False)
    axis = np.abs(mesh.face_normals).argmax(1)
    positive = np.take_along_axis(mesh.face_normals, axis[:, None], 1)[:, 0] > 0
    cell = 2 * axis + np.where(positive, 0, 1)
    mesh = trimesh.Trimesh(points[ball.faces.reshape(-1)], np.arange(ball.faces.size).reshape(-1, 3), process=False)
    corner_cell = np.repeat(cell, 3)
    uv = np.stack([(corner_cell % 3 + 0.5) / 3, 1 - (corner_cell // 3 + 0.5) / 2], 1)
    size = 16
    colour, surface = np.zeros((2 * size, 3 * size, 3), np.uint8), np.zeros((2 * size, 3 * size, 3), np.uint8)
    for i, rgb in enumerate(DIRECTION_COLORS.values()):
        rows, columns = slice(i // 3 * size, (i // 3 + 1) * size), slice(i % 3 * size, (i % 3 + 1) * size)
        colour[rows, columns] = rgb
        surface[rows, columns] = (255, 64 if i == 0 else 191, 0)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(colour), metallicRoughnessTexture=Image.fromarray(surface),
        metallicFactor=1.0, roughnessFactor=1.0,
    )  # fmt: skip
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return mesh


def write_painted_asset(path: Path, *, offset: tuple[float, float, float] = (0, 0, 0), scale: float = 1.0) -> Path:
    """Writes `painted_mesh` as a GLB, scaled and then moved by a node transform."""
    scene = trimesh.Scene()
    transform = trimesh.transformations.translation_matrix(offset) @ trimesh.transformations.scale_matrix(scale)
    scene.add_geometry(painted_mesh(), transform=transform)
    path.write_bytes(scene.export(file_type="glb"))
    return path


def object_picture(size: int = 320) -> Image.Image:
    """A picture of an object with transparency around it, off the middle."""
    picture = Image.new("RGBA", (size, size * 3 // 4), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((size * 0.3, size * 0.1, size * 0.8, size * 0.6), fill=(200, 90, 40, 255))
    draw.rectangle((size * 0.45, size * 0.5, size * 0.65, size * 0.7), fill=(40, 90, 200, 255))
    return picture
