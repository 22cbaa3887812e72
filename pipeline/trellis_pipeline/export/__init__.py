"""The second half of the road: voxels -> mesh -> textures -> GLB, for generated, remade and foreign assets alike."""

from .asset import export_asset
from .bake import bake, unwrap
from .gltf import write_glb
from .load import SourceAsset, load_source, voxelize
from .normals import Reference
from .shape import clean, extract, orient, orient_outward, remesh, simplify
from .stages import UNIT_AABB, Mesh, Placement, Textures, UnwrappedMesh, VoxelAsset

__all__ = [
    "UNIT_AABB",
    "Mesh",
    "Placement",
    "Reference",
    "SourceAsset",
    "Textures",
    "UnwrappedMesh",
    "VoxelAsset",
    "bake",
    "clean",
    "export_asset",
    "extract",
    "load_source",
    "orient",
    "orient_outward",
    "remesh",
    "simplify",
    "unwrap",
    "voxelize",
    "write_glb",
]
