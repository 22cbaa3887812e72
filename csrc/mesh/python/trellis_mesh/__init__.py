"""Triangle meshes: connectivity, cleaning, simplification, remeshing, BVH, UV unwrapping; see the package's README."""

__all__: list[str] = []
