"""The memory model of the export: bytes on the device at the widest point of each of its steps.

Counted from the code of the steps, by what is known of the surface when a step begins. benchmarks/export_memory.py compares
it with measured peaks and says which tensors they are made of; tests/test_export_peaks.py holds it to 10 %.

In what follows a mesh of F faces has F / 2 vertices, as closed surfaces have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VOXEL = 49
"""Bytes a voxel that lie on the device all the while: two coordinates, dual vertex, edges, split weight, attributes."""
MESH = 18
"""Bytes a face of a mesh with its vertices."""
TREE = 44
"""Bytes a face in the search tree: its leaf, its number, and its share of the nodes."""
_SORTED_EDGES = 72
"""Bytes a face while its half-edges are sorted: a key and a number of each, twice."""
_SIMPLIFYING = 122 + 24 + (322 + 4) // 2
"""Bytes a face that is simplified. 122 of faces (before and after a round), corners, rings with costs, owners; 24 for
sorting corners; 322 a vertex of positions and quadrics (before and after a round), candidates and lists, and its image."""
_WELDED = 12 + 8 // 2
"""Bytes a face of vertices at one place made one, before simplifying."""
_BAND, _CONTOUR = 72, 93
"""Bytes a voxel of the band in which distances are known (bricks of 8^3 corners), and a face of the shell that is made there.
The number of bricks hangs on how the surface lies in the grid: this is measured."""
_UNWRAPPING = 545
"""Bytes a face that is unwrapped, where the finished layout is judged: corners in space and texture, as float64. Measured."""
_UNWRAPPED = 54
"""Bytes a face before and after unwrapping, which baking and writing keep."""
_TABLE = 28 + 4 + 16 + 60
"""Bytes a voxel while texels look up attributes: these as float32, ones, coordinates, and a hash table of 3 slots for 2."""
_TEXEL, _SAMPLED = 8 + 12 + 28, 76
"""Bytes a covered texel that is baked (its number, point and values), and of those that are looked up at one time."""
_AT_ONCE = 1 << 23
_ENCODED = {False: 100, True: 76}
"""Bytes a texel while rows of PNG are filtered, with alpha and opaque."""
PIECES = {False: 0.10, True: 0.30}
"""Room that the allocator needs beside an export, raw and remeshed, as a share of its peak (docs/memory.md)."""
COVERED = 0.7
"""Share of the texels that charts cover, before it is known."""
SIDES = 4.05
"""Faces a voxel of a shell around an open surface, which is coated on both sides; around a closed one they are 2."""


@dataclass(frozen=True)
class ExportSizes:
    """How large an export's parts are, as far as it is known.

    Attributes:
        voxels: of the asset.
        fine: faces of the cleaned surface.
        shell: faces of the surface that is simplified: the cleaned one, or the one closed anew.
        coarse: faces that are unwrapped.
        texels: of a texture.
        covered: texels that charts cover.
        remeshed: whether the surface is closed anew.
        opaque: whether the textures have no alpha.
    """

    voxels: int
    fine: int
    shell: int
    coarse: int
    texels: int
    covered: int
    remeshed: bool = False
    opaque: bool = False

    @classmethod
    def expected(
        cls, voxels: int, faces: int | None, texture: int, remeshed: bool, done: Mapping[str, Mapping[str, Any]] | None = None,
        *, opaque: bool = False,
    ) -> ExportSizes:  # fmt: skip
        """Of `voxels` with an export's options, where `done` has the facts of the steps that have been made."""
        done = done or {}
        fine = int(done.get("clean", {}).get("faces_out", 2 * voxels))
        shell = int(done.get("remesh", {}).get("faces_out", SIDES * voxels)) if remeshed else fine
        coarse = int(done.get("simplify", {}).get("faces_out", min(faces or shell, shell)))
        share = float(done.get("unwrap", {}).get("utilisation", COVERED))
        texels = texture**2
        return cls(voxels, fine, shell, coarse, texels, int(share * texels), remeshed, opaque)

    def peaks(self) -> dict[str, int]:
        """Bytes of each step, by its name, with the asset's voxels."""
        kept = VOXEL * self.voxels + MESH * self.fine
        unwrapped = kept + _UNWRAPPED * self.coarse
        closed = MESH * self.shell if self.remeshed else 0
        simplified = self.shell > self.coarse
        # The tree is searched while three corners a face lie beside it, and so does what the remesher looks at.
        around = {"remesh": (TREE + 36) * self.fine + _BAND * self.voxels + _CONTOUR * self.shell}
        steps = {
            # The surface, and what looks for values in it that are not finite.
            "extract": (VOXEL + 36 + 27) * self.voxels,
            # Where crowded vertices are split: the surface before, with holes closed, without scraps, and split; the
            # numbers of the faces that stay; sorted edges, and two numbers a corner.
            "clean": VOXEL * self.voxels + (3 * MESH + 12 + 12 + _SORTED_EDGES + 24 + 2) * self.fine,
            **(around if self.remeshed else {"orient": (MESH + 12 + 4 + 12 + _SORTED_EDGES) * self.fine}),
            "simplify": closed + simplified * ((_WELDED + _SIMPLIFYING) * self.shell + MESH * self.coarse),
            "unwrap": _UNWRAPPING * self.coarse,
            "bake": TREE * self.fine + 12 * self.fine + _TABLE * self.voxels
            + _TEXEL * self.covered + _SAMPLED * min(self.covered, _AT_ONCE) + self.texels,
            "write": TREE * self.fine + _ENCODED[self.opaque] * self.texels,
        }  # fmt: skip
        below = {"extract": 0, "clean": 0, "orient": VOXEL * self.voxels, "bake": unwrapped, "write": unwrapped}
        return {name: below.get(name, kept) + own for name, own in steps.items()}

    @property
    def peak(self) -> int:
        """Bytes of the widest step."""
        return max(self.peaks().values())
