"""Meshes to O-Voxels and back, attribute voxelisation and voxel files; see the package's README.

For an argument that cannot serve, every function raises TypeError (its kind, its dtype) or ValueError (its shape, device
or values), and names it, what was expected and what came. Their docstrings say what they raise besides.
"""

from ._attributes import ATTRIBUTES, voxelize_attributes
from ._dual_grid import DualGrid, dual_grid_to_mesh, mesh_to_dual_grid
from ._grid import Grid
from ._io import read, read_npz, read_ply, write, write_npz, write_ply
from ._materials import PbrMaterial, TexturedMesh
from ._vxz import read_vxz, read_vxz_info, write_vxz

__all__ = [
    "ATTRIBUTES",
    "DualGrid",
    "Grid",
    "PbrMaterial",
    "TexturedMesh",
    "dual_grid_to_mesh",
    "mesh_to_dual_grid",
    "read",
    "read_npz",
    "read_ply",
    "read_vxz",
    "read_vxz_info",
    "voxelize_attributes",
    "write",
    "write_npz",
    "write_ply",
    "write_vxz",
]
