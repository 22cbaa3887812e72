"""As cumesh.remeshing."""

from __future__ import annotations

import torch
import trellis_mesh

from ._bvh import cuBVH

__all__ = ["remesh_narrow_band_dc"]


def remesh_narrow_band_dc(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    center: torch.Tensor,
    scale: float,
    resolution: int,
    band: float = 1,
    project_back: float = 0,
    verbose: bool = False,
    bvh: cuBVH | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A closed mesh around the given one, at a distance of `band` cells: around a closed mesh, as with upstream, one
    sheet outside and one inside (`trellis_mesh.remesh_dual_contouring` can leave out the inner one).

    Args:
        vertices: float32 [V, 3].
        faces: int32 [F, 3].
        center: [3], of the cube that is cut into cells. It must hold the mesh.
        scale: side of that cube.
        resolution: cells along it, at most 2048; any number, not only multiples of a power of two.
        band: in cells, from 0.87 on.
        project_back: share of the way back to the mesh, in [0, 1].
        bvh: tree of this mesh.

    Returns:
        vertices float32 [V', 3], faces int32 [F', 3].
    """
    middle = torch.as_tensor(center, dtype=torch.float64, device="cpu")
    result = trellis_mesh.remesh_dual_contouring(
        vertices,
        faces,
        resolution=int(resolution),
        band=float(band),
        project=float(project_back),
        shell="both",
        aabb=torch.stack([middle - scale / 2, middle + scale / 2]),
        bvh=None if bvh is None else bvh.tree_on(vertices.device),
    )
    if verbose:
        print(f"Remeshed: {len(result.vertices)} vertices, {len(result.faces)} faces")
    return result.vertices, result.faces
