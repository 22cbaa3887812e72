"""What a run gives: the voxels of an asset and everything that led to them, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from . import export
from .arguments import device_of, require_glb, whole
from .artifacts import Conditioning, Latent, Structure, to_device
from .export import VoxelAsset
from .export.alpha import OPAQUE
from .export.gltf import ALPHA_MODES, IMAGE_FORMATS
from .image import PreparedImage
from .manifest import Manifest
from .memory.export import ExportSizes
from .memory.ledger import Ledger

FACES, TEXTURE = (4, 100_000_000), (16, 16_384)
"""Least and most that may be asked for."""
WEBP_SIDE = 16_383
"""The format's own limit."""
UNWRAPS = ("fast", "xatlas")


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        made = f"type={self.type!r}, seed={self.seed}, device={self.device!r}"
        grid, count = self.voxels.grid_size, len(self.voxels.coords)
        return f"Asset({made}: {len(self.shape.coords):,} latent voxels, {count:,} voxels of {grid}^3)"

    def to_glb(self, path: str | Path, options: GlbOptions | None = None, *, device: str | None = None, name: str = "asset",
               record: Manifest | None = None, keep: Callable[[str, Any], None] | None = None) -> dict[str, Any]:  # fmt: skip
        """Makes a textured mesh of the voxels and writes it as a GLB, whole or not at all.

        Args:
            device: where the work is done; by default where the asset was generated.
            name: what the file calls the asset.
            record: collects the steps' times, facts and memory.
            keep: is given the name and the result of each step.

        Returns:
            facts about the file.

        Raises:
            ValueError: a path that does not end in .glb, or an option out of range.
            StageError: a step's result is unusable; it names the step.
        """
        require_glb("path", Path(path))
        options, record = options or GlbOptions(), record or Manifest("export", {}, quiet=True)
        place = device_of(device or self.device)
        ledger, done = Ledger(place), dict[str, dict[str, Any]]()
        opaque = self._opaque(options.alpha)

        @contextmanager
        def stage(name: str) -> Iterator[dict[str, Any]]:
            planned = None
            if place.type == "cuda" and name != "remesh":  # how large the shell will be nobody knows before
                sizes = ExportSizes.expected(
                    len(self.voxels.coords), options.faces, options.texture, options.remesh, done, opaque=opaque
                )
                planned = ledger.baseline + sizes.peaks()[name]
            with record.stage(name) as facts, ledger.stage(name, planned):
                done[name] = facts
                yield facts

        report = export.export_asset(
            to_device(self.voxels, place), path, faces=options.faces, texture=options.texture,
            min_fraction=options.min_fraction, remeshed=options.remesh, unwrap_method=options.unwrap, alpha=options.alpha,
            image_format=options.image_format, name=name, stage=stage, keep=keep,
        )  # fmt: skip
        memory = record.facts.setdefault("memory", ledger.facts())
        if memory["device"] == str(place) and memory["stages"] is not ledger.entries:
            memory["stages"] += ledger.entries
        return report["write"]

    def _opaque(self, alpha: str) -> bool:
        """Whether the textures will have no alpha for certain."""
        values = self.voxels.attrs.get("alpha")
        return alpha == "opaque" or (alpha == "auto" and (values is None or int(values.min()) >= OPAQUE))


@dataclass(frozen=True)
class GlbOptions:
    """How voxels become a GLB. What cannot be is refused here, and not after the minutes that a generation takes.

    Attributes:
        faces: upper bound for the face count, 4 to 100,000,000; None keeps every face.
        texture: side of the square textures, in texels, 16 to 16,384.
        min_fraction: components smaller than this share of the whole are removed; in [0, 1).
        remesh: close the surface anew: one watertight shell without inner layers.
        unwrap: "fast" or "xatlas".
        alpha: "auto", "opaque", "mask" or "blend".
        image_format: "png" or "webp".

    Raises:
        ValueError: one of them is out of range; the message begins with its name.
    """

    faces: int | None = 200_000
    texture: int = 2048
    min_fraction: float = 1e-5
    remesh: bool = False
    unwrap: str = "fast"
    alpha: str = "auto"
    image_format: str = "png"

    def __post_init__(self) -> None:
        if self.faces is not None:
            _set(self, "faces", whole("faces", self.faces, *FACES))
        _set(self, "texture", whole("texture", self.texture, *TEXTURE))
        if not (isinstance(self.min_fraction, Real) and 0 <= self.min_fraction < 1):
            raise ValueError(f"min_fraction: expected a share in [0, 1), got {self.min_fraction!r}")
        _set(self, "min_fraction", float(self.min_fraction))
        for name, known in (("unwrap", UNWRAPS), ("alpha", ALPHA_MODES), ("image_format", IMAGE_FORMATS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.image_format == "webp" and self.texture > WEBP_SIDE:
            raise ValueError(
                f"image_format: webp holds {WEBP_SIDE:,} texels a side, and texture is {self.texture:,}; png holds more"
            )


def _set(options: Any, name: str, value: object) -> None:
    """A field of a frozen dataclass in its own type, a plain int for one of NumPy's: manifests hold it as JSON."""
    object.__setattr__(options, name, value)
