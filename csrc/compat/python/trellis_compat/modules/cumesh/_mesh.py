"""As cumesh.CuMesh."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import trellis_mesh
from trellis_compat._missing import Served
from trellis_native import check

__all__: list[str] = []

# Upstream's options. They steer algorithms that are not these, so only their names are checked.
_SIMPLIFY = {"thresh", "lambda_edge_length", "lambda_skinny"}
_CLUSTER = {
    "threshold_cone_half_angle_rad",
    "refine_iterations",
    "global_iterations",
    "smooth_strength",
    "area_penalty_weight",
    "perimeter_area_ratio_weight",
}
_CHART = {
    "max_chart_area",
    "max_boundary_length",
    "normal_deviation_weight",
    "roundness_weight",
    "straightness_weight",
    "normal_seam_weight",
    "texture_seam_weight",
    "max_cost",
    "max_iterations",
    "use_input_mesh_uvs",
    "fix_winding",
    "verbose",
}
_PACK = {
    "max_chart_size",
    "padding",
    "texels_per_unit",
    "resolution",
    "bilinear",
    "block_align",
    "brute_force",
    "rotate_charts",
    "rotate_charts_to_axis",
    "verbose",
}


class CuMesh(Served):
    """A mesh that its methods change in place.

    Upstream's ``get_...`` methods prepare tables that other methods use. Here each method finds what it needs, and they
    do nothing. Meshes of any device are accepted and stay there; vertices that no face uses are dropped by the methods
    that remove faces, as upstream does.
    """

    def __init__(self) -> None:
        self._set(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))

    def init(self, vertices: torch.Tensor, faces: torch.Tensor) -> None:
        """Takes a mesh: float32 [V, 3] and int32 (or int64) [F, 3]."""
        self._set(*check.mesh(vertices, faces))

    def _set(self, vertices: torch.Tensor, faces: torch.Tensor) -> None:
        self._vertices, self._faces = vertices, faces
        self._cache: dict[str, Any] = {}

    def clear_cache(self) -> None:
        """Forgets what was computed."""
        self._cache = {}

    # ---- what it holds ---------------------------------------------------------------------------------------------

    @property
    def num_vertices(self) -> int:
        return len(self._vertices)

    @property
    def num_faces(self) -> int:
        return len(self._faces)

    @property
    def num_edges(self) -> int:
        return len(self.read_edges())

    @property
    def num_boundaries(self) -> int:
        """Edges of one face."""
        return len(self._boundary_edges())

    @property
    def num_boundary_loops(self) -> int:
        """Simple loops of boundary edges: the holes that `fill_holes` may close."""
        if "loops" not in self._cache:
            # Nothing is that short, so this only counts.
            filled = trellis_mesh.fill_holes(self._vertices, self._faces, max_perimeter=0.0)
            self._cache["loops"] = filled.report.loops
        return int(self._cache["loops"])

    @property
    def num_conneted_components(self) -> int:
        """(Upstream's spelling.)"""
        return self.read_connected_components()[0]

    def read(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Vertices float32 [V, 3] and faces int32 [F, 3]: copies, as from upstream."""
        return self._vertices.clone(), self._faces.clone()

    def read_edges(self) -> torch.Tensor:
        """int32 [E, 2]."""
        if "edges" not in self._cache:
            self._cache["edges"] = trellis_mesh.edges(self._faces)
        edges: torch.Tensor = self._cache["edges"]
        return edges

    def _boundary_edges(self) -> torch.Tensor:
        if "boundary" not in self._cache:
            self._cache["boundary"] = trellis_mesh.boundary_edges(self._faces)
        edges: torch.Tensor = self._cache["boundary"]
        return edges

    def read_manifold_boundary_adjacency(self) -> torch.Tensor:
        """int32 [M, 2]: pairs of boundary edges (by their number among those) that meet at a vertex of no other."""
        ends = self._boundary_edges().flatten()
        vertex, order = torch.sort(ends, stable=True)
        _, counts = torch.unique_consecutive(vertex, return_counts=True)
        first = torch.cumsum(counts, 0) - counts
        first = first[counts == 2]
        return torch.stack([order[first] // 2, order[first + 1] // 2], 1).int()

    def read_connected_components(self) -> tuple[int, torch.Tensor]:
        """Their number, and int32 [F] which one each face belongs to."""
        return trellis_mesh.connected_components(self._faces, len(self._vertices))

    def compute_face_normals(self) -> None:
        self._cache["face_normals"] = trellis_mesh.face_normals(self._vertices, self._faces)

    def compute_vertex_normals(self) -> None:
        self._cache["vertex_normals"] = trellis_mesh.vertex_normals(self._vertices, self._faces)

    def read_face_normals(self) -> torch.Tensor:
        """float32 [F, 3]."""
        if "face_normals" not in self._cache:
            self.compute_face_normals()
        normals: torch.Tensor = self._cache["face_normals"]
        return normals

    def read_vertex_normals(self) -> torch.Tensor:
        """float32 [V, 3]."""
        if "vertex_normals" not in self._cache:
            self.compute_vertex_normals()
        normals: torch.Tensor = self._cache["vertex_normals"]
        return normals

    # ---- tables that upstream prepares in advance --------------------------------------------------------------------

    def get_vertex_face_adjacency(self) -> None:
        """Nothing to do."""

    def get_edges(self) -> None:
        """Nothing to do."""

    def get_edge_face_adjacency(self) -> None:
        """Nothing to do."""

    def get_vertex_edge_adjacency(self) -> None:
        """Nothing to do."""

    def get_boundary_info(self) -> None:
        """Nothing to do."""

    def get_vertex_boundary_adjacency(self) -> None:
        """Nothing to do."""

    def get_manifold_face_adjacency(self) -> None:
        """Nothing to do."""

    def get_manifold_boundary_adjacency(self) -> None:
        """Nothing to do."""

    def get_connected_components(self) -> None:
        """Nothing to do."""

    def get_boundary_connected_components(self) -> None:
        """Nothing to do."""

    def get_boundary_loops(self) -> None:
        """Nothing to do."""

    # ---- what changes it -------------------------------------------------------------------------------------------

    def remove_faces(self, face_mask: torch.Tensor) -> None:
        """Keeps the faces where bool [F] `face_mask` is true. (Upstream's text says the opposite of what it does.)"""
        mask = check.tensor("face_mask", face_mask, dtype=torch.bool, shape=[self.num_faces], like=self._faces)
        self._set(*trellis_mesh.remove_unreferenced_vertices(self._vertices, self._faces[mask]))

    def remove_unreferenced_vertices(self) -> None:
        self._set(*trellis_mesh.remove_unreferenced_vertices(self._vertices, self._faces))

    def remove_duplicate_faces(self) -> None:
        self._set(*trellis_mesh.remove_duplicate_faces(self._vertices, self._faces))

    def remove_degenerate_faces(self, abs_thresh: float = 1e-24, rel_thresh: float = 1e-12) -> None:
        """Removes faces whose area is below both limits (`rel_thresh` counts in squares of the longest edge)."""
        self._set(
            *trellis_mesh.remove_degenerate_faces(self._vertices, self._faces, absolute=abs_thresh, relative=rel_thresh)
        )

    def fill_holes(self, max_hole_perimeter: float = 3e-2) -> None:
        self._set(*trellis_mesh.fill_holes(self._vertices, self._faces, max_perimeter=max_hole_perimeter))

    def repair_non_manifold_edges(self) -> None:
        """Splits vertices until no edge has more than two faces."""
        self._set(*trellis_mesh.repair_non_manifold_edges(self._vertices, self._faces))

    def remove_small_connected_components(self, min_area: float) -> None:
        """Removes components of less area. Unlike upstream, never the largest."""
        self._set(*trellis_mesh.remove_small_components(self._vertices, self._faces, min_area=min_area, weld=False))

    def unify_face_orientations(self) -> None:
        """Makes neighbours agree, and normals of what encloses a volume point out of it."""
        self._set(*trellis_mesh.unify_orientation(self._vertices, self._faces, outward=True))

    def simplify(
        self, target_num_faces: int, verbose: bool = False, options: Mapping[str, float] | None = None
    ) -> None:
        """Simplifies to at most `target_num_faces` faces. Vertices at one place stay apart, as `read` gave them."""
        if given := _known("simplify options", options, _SIMPLIFY):
            warnings.warn(
                f"CuMesh.simplify: {', '.join(sorted(given))} steer upstream's cost function and change nothing here",
                stacklevel=2,
            )
        result = trellis_mesh.simplify(self._vertices, self._faces, target_faces=target_num_faces, weld=False)
        self._set(*result)
        if verbose:
            print(f"Simplified: {result.report.faces_before} to {result.report.faces_after} faces")

    def uv_unwrap(
        self,
        compute_charts_kwargs: Mapping[str, Any] | None = None,
        xatlas_compute_charts_kwargs: Mapping[str, Any] | None = None,
        xatlas_pack_charts_kwargs: Mapping[str, Any] | None = None,
        return_vmaps: bool = False,
        verbose: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Texture coordinates by `trellis_mesh.unwrap_uv` (method "fast"), after removing faces without area.

        Of the options, ``padding`` and ``resolution`` of the packing count; the others steer upstream's clustering and
        xatlas and change nothing.

        Returns:
            On the CPU, as from upstream: vertices float32 [N, 3], faces int32 [F, 3], uv float32 [N, 2] in [0, 1]^2,
            and with `return_vmaps` int32 [N]: the vertex of this mesh that each is a copy of.
        """
        _known("compute_charts_kwargs", compute_charts_kwargs, _CLUSTER)
        _known("xatlas_compute_charts_kwargs", xatlas_compute_charts_kwargs, _CHART)
        pack = _known("xatlas_pack_charts_kwargs", xatlas_pack_charts_kwargs, _PACK)
        proper = trellis_mesh.remove_degenerate_faces(self._vertices, self._faces).report.kept_faces
        if len(proper) < self.num_faces:
            # The vertices all stay, so that the map below also fits what a caller keeps for each vertex.
            self._set(self._vertices, self._faces[proper])
        settings = {name: pack[name] for name in ("padding", "resolution") if pack.get(name)}
        vertices, faces, uv, vertex_map = trellis_mesh.unwrap_uv(self._vertices, self._faces, **settings)
        if verbose:
            print(f"Unwrapped: {len(vertices)} vertices, {len(faces)} faces")
        out = (vertices.cpu(), faces.cpu(), uv.cpu(), vertex_map.cpu())
        return out if return_vmaps else out[:3]


def _known(argument: str, options: Mapping[str, Any] | None, names: set[str]) -> dict[str, Any]:
    given = dict(options or {})
    if unknown := sorted(set(given) - names):
        raise TypeError(f"{argument}: expected some of {', '.join(sorted(names))}, got {', '.join(unknown)}")
    return given
