"""Triangle meshes: connectivity, cleaning, simplification, remeshing, BVH, UV unwrapping; see the package's README.

For an argument that cannot serve, every function raises TypeError (its kind, its dtype) or ValueError (its shape, device
or values), and names it, what was expected and what came. Their docstrings say what they raise besides.
"""

from ._bvh import Bvh
from ._cleaning import (
    ComponentsReport,
    OrientationReport,
    RemovedComponent,
    RepairReport,
    remove_degenerate_faces,
    remove_duplicate_faces,
    remove_duplicate_vertices,
    remove_small_components,
    remove_unreferenced_vertices,
    repair_non_manifold_edges,
    unify_orientation,
)
from ._connectivity import boundary_edges, connected_components, edges
from ._holes import FillReport, fill_holes
from ._normals import corner_normals, face_normals, vertex_normals
from ._remesh import RemeshReport, remesh_dual_contouring
from ._result import MeshResult, RemovalReport
from ._simplify import SimplifyReport, simplify
from ._unwrap import UnwrapReport, UvFaces, measure_uv, unwrap_uv, uv_stretch

__all__ = [
    "Bvh",
    "ComponentsReport",
    "FillReport",
    "MeshResult",
    "OrientationReport",
    "RemeshReport",
    "RemovalReport",
    "RemovedComponent",
    "RepairReport",
    "SimplifyReport",
    "UnwrapReport",
    "UvFaces",
    "boundary_edges",
    "connected_components",
    "corner_normals",
    "edges",
    "face_normals",
    "fill_holes",
    "measure_uv",
    "remesh_dual_contouring",
    "remove_degenerate_faces",
    "remove_duplicate_faces",
    "remove_duplicate_vertices",
    "remove_small_components",
    "remove_unreferenced_vertices",
    "repair_non_manifold_edges",
    "simplify",
    "unify_orientation",
    "unwrap_uv",
    "uv_stretch",
    "vertex_normals",
]
