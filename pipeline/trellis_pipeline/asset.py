"""What a run gives: the voxels of an asset and everything that led to them, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import trellis_mesh as mesh

from . import export
from .artifacts import Conditioning, Latent, Structure, to_device
from .errors import StageError
from .export import VoxelAsset
from .image import PreparedImage
from .manifest import Manifest


@dataclass(frozen=True)
class Asset:
    """A generated asset.

    Attributes:
        image: the picture as the models saw it.
        conditioning: its features.
        structure: occupied cells of the coarse grid.
        shape_low: the low-resolution shape latent of a cascade, else None.
        shape, texture: the latents.
        voxels: dual grid and attributes, the whole asset.
        type, seed, device: what it was made with.
    """

    image: PreparedImage
    conditioning: Conditioning
    structure: Structure
    shape_low: Latent | None
    shape: Latent
    texture: Latent
    voxels: VoxelAsset
    type: str
    seed: int
    device: str

    def to_glb(self, path: str | Path, options: GlbOptions | None = None, *, device: str | None = None,
               record: Manifest | None = None) -> dict[str, Any]:  # fmt: skip
        """Makes a textured mesh of the voxels and writes it as a GLB, whole or not at all.

        Args:
            device: where the work is done; by default where the asset was generated.
            record: collects the steps' times and facts.

        Returns:
            facts about the file.
        """
        options, record = options or GlbOptions(), record or Manifest("export", {}, quiet=True)
        voxels = to_device(self.voxels, torch.device(device or self.device))
        with record.stage("extract") as facts:
            raw = export.extract(voxels)
            facts.update(faces=len(raw.faces))
        with record.stage("clean") as facts:
            cleaned, report = export.clean(raw, min_fraction=options.min_fraction)
            facts.update(report)
        with record.stage("orient") as facts:
            fine = outward(cleaned)
            facts.update(faces=len(fine.faces))
        if not len(fine.faces):
            raise StageError("orient", "no face is left of the surface")
        with record.stage("simplify") as facts:
            coarse, report = export.simplify(fine, options.faces or len(fine.faces))
            facts.update(report)
        with record.stage("unwrap") as facts:
            unwrapped, report = export.unwrap(coarse, texture_size=options.texture, method=options.unwrap)
            facts.update(report)
        with record.stage("bake") as facts:
            bvh = mesh.Bvh(fine.vertices, fine.faces)
            textures, report = export.bake(unwrapped, fine, bvh, voxels, texture_size=options.texture)
            facts.update(report)
        with record.stage("write") as facts:
            facts.update(
                export.write_glb(path, unwrapped, textures, image_format=options.image_format, alpha_mode=options.alpha)
            )
        return facts


@dataclass(frozen=True)
class GlbOptions:
    """How voxels become a GLB.

    Attributes:
        faces: upper bound for the face count; None keeps every face.
        texture: side of the square textures, in texels.
        min_fraction: components smaller than this share of the whole are removed.
        unwrap: "fast" or "xatlas".
        alpha: "auto", "opaque", "mask" or "blend".
        image_format: "png" or "webp".
    """

    faces: int | None = 200_000
    texture: int = 2048
    min_fraction: float = 1e-5
    unwrap: str = "fast"
    alpha: str = "auto"
    image_format: str = "png"


def outward(surface: export.Mesh) -> export.Mesh:
    """Each component consistently wound and turned so that the volume that it encloses is positive.

    A dual grid has no inside, and a generated asset no source to take the side from; an open component that encloses
    about nothing may face either way, which is why materials are double-sided.
    """
    v, f = mesh.unify_orientation(surface.vertices, surface.faces)
    if not len(f):
        return export.Mesh(v, f)
    a, b, c = v[f.long()].double().unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum(1)
    count, labels = mesh.connected_components(f, len(v))
    # Sorted segments, so that the sums do not depend on the order of unordered atomics.
    order = torch.argsort(labels, stable=True)
    sums = torch.segment_reduce(volume[order], "sum", lengths=torch.bincount(labels.long(), minlength=count))
    return export.Mesh(v, torch.where((sums[labels.long()] < 0)[:, None], f.flip(1), f))
