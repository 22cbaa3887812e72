"""Triangle mesh to flexible dual grid and back."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from trellis_native import check

from ._grid import Aabb, Grid, GridSize
from ._library import EXTENSION, OPS
from ._memory import device_memory

_MAX_WEIGHT = 1e12  # far from what overflows float32


@dataclass(frozen=True)
class DualGrid:
    """A flexible dual grid: the voxels around a surface and how the surface runs through them.

    Attributes:
        coords: int32 [N, 3], the voxels, in ascending order of (x, y, z).
        dual_vertices: float32 [N, 3], the point of the surface's mesh in each voxel, in world units relative to
            the lower corner of the grid's box.
        intersected: bool [N, 3], for each axis whether the surface crosses the lattice edge along that axis that
            the voxel shares with its neighbours at +1 along the other two axes.
    """

    coords: torch.Tensor
    dual_vertices: torch.Tensor
    intersected: torch.Tensor

    def __iter__(self) -> Iterator[torch.Tensor]:
        """The three of them, so that ``coords, dual_vertices, intersected = grid`` works."""
        return iter((self.coords, self.dual_vertices, self.intersected))

    def local_dual(self, grid: Grid) -> torch.Tensor:
        """The dual vertices in voxel units relative to each voxel's lower corner, as `dual_grid_to_mesh` takes them."""
        return self.dual_vertices / self.dual_vertices.new_tensor(grid.voxel_size) - self.coords


@OPS.define(
    "mesh_to_dual_grid(Tensor vertices, Tensor faces, int[] grid_size, float[] aabb_min, float[] voxel_size, "
    "bool use_faces, float boundary_weight, float regularization_weight) -> (Tensor, Tensor, Tensor)"
)
def _mesh_to_dual_grid(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    grid_size: list[int],
    aabb_min: list[float],
    voxel_size: list[float],
    use_faces: bool,
    boundary_weight: float,
    regularization_weight: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    device = vertices.device
    state, count = ctypes.c_void_p(), ctypes.c_int64()
    with device_memory(device) as allocate:
        EXTENSION.call(
            "mesh_to_dual_grid_begin",
            vertices,
            len(vertices),
            faces,
            len(faces),
            (ctypes.c_float * 3)(*aabb_min),
            (ctypes.c_float * 3)(*voxel_size),
            (ctypes.c_int32 * 3)(*grid_size),
            int(use_faces),
            boundary_weight,
            regularization_weight,
            allocate,
            ctypes.byref(state),
            ctypes.byref(count),
            device=device,
        )
        try:
            coords = torch.empty(count.value, 3, dtype=torch.int32, device=device)
            dual_vertices = torch.empty(count.value, 3, dtype=torch.float32, device=device)
            intersected = torch.empty(count.value, 3, dtype=torch.bool, device=device)
            EXTENSION.call("mesh_to_dual_grid_fill", state, coords, dual_vertices, intersected, device=device)
        finally:
            EXTENSION.call("mesh_to_dual_grid_end", state, device=device)
    return coords, dual_vertices, intersected


@OPS.fake("mesh_to_dual_grid")
def _(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    grid_size: list[int],
    aabb_min: list[float],
    voxel_size: list[float],
    use_faces: bool,
    boundary_weight: float,
    regularization_weight: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n = torch.library.get_ctx().new_dynamic_size()
    return (
        vertices.new_empty((n, 3), dtype=torch.int32),
        vertices.new_empty((n, 3)),
        vertices.new_empty((n, 3), dtype=torch.bool),
    )


def mesh_to_dual_grid(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    *,
    grid_size: GridSize,
    aabb: Aabb,
    face_weight: float = 1.0,
    boundary_weight: float = 1.0,
    regularization_weight: float = 0.1,
) -> DualGrid:
    """The flexible dual grid of a triangle mesh.

    Each lattice edge that a triangle crosses makes the four voxels around it active and sets the edge's flag at
    the lowest of them. A voxel's dual vertex is the point of the voxel with the least sum of squared distances to
    the planes of the triangles that cross its lattice edges (once for each crossing) and of those that overlap it,
    to the lines of the open boundary edges that run through it, and to the mean of its crossings.

    On CUDA the bits are those of the CPU; the call waits for the device to learn how many voxels there are.

    Parts of the mesh outside the box are left out, except that a crossing less than a voxel below the box counts for
    the lowest voxel. Lattice edges on the border of the box do not count.

    Args:
        vertices: float32 [V, 3], world units.
        faces: int32 or int64 [F, 3]. A triangle without area activates voxels like any other but has no plane.
        grid_size: voxels along the axes: one number or three, each in [1, 65536].
        aabb: the grid's box ``[[x, y, z], [x, y, z]]`` in world units.
        face_weight: above 0, triangles count in each voxel that they overlap; 0, only around their crossings. As
            in the reference implementation it is a switch: other values change nothing.
        boundary_weight: weight of a boundary edge, of one crossing's plane as the unit.
        regularization_weight: weight of the mean crossing point, for each crossing.

    Raises:
        TypeError: an argument has another type or dtype.
        ValueError: an argument has another shape, an index is out of range, a vertex is not finite, a weight is
            negative or above 1e12, or the surface crosses 2^31 or more lattice edges.
        torch.OutOfMemoryError: the device has no room for the lists in between, about 230 bytes a voxel.

    Source: Xiang et al., "Native and Compact Structured Latents for 3D Generation" (2025); Ju et al., "Dual
    contouring of Hermite data", SIGGRAPH 2002.
    """
    vertices, faces = check.mesh(vertices, faces)
    grid = Grid.of(grid_size, aabb)
    face_weight = check.number("face_weight", face_weight, minimum=0)
    boundary_weight = check.number("boundary_weight", boundary_weight, minimum=0, maximum=_MAX_WEIGHT)
    regularization_weight = check.number("regularization_weight", regularization_weight, minimum=0, maximum=_MAX_WEIGHT)
    if not bool(torch.isfinite(vertices).all()):
        row = int((~torch.isfinite(vertices).all(1)).nonzero()[0])
        raise ValueError(f"vertices: expected finite positions, got {vertices[row].tolist()} at {row}")
    return DualGrid(
        *_mesh_to_dual_grid(
            vertices,
            faces,
            grid.size,
            grid.aabb_min,
            grid.voxel_size,
            face_weight > 0,
            boundary_weight,
            regularization_weight,
        )
    )


_HALF_OR_SINGLE = (torch.float32, torch.float16, torch.bfloat16)
_FLAGS = (torch.bool, torch.uint8, torch.int32, torch.int64)


@OPS.define(
    "dual_grid_to_mesh(Tensor coords, Tensor local_dual, Tensor intersected, Tensor? split_weight, int[] grid_size, "
    "float[] aabb_min, float[] voxel_size) -> (Tensor, Tensor)"
)
def _dual_grid_to_mesh(
    coords: torch.Tensor,
    local_dual: torch.Tensor,
    intersected: torch.Tensor,
    split_weight: torch.Tensor | None,
    grid_size: list[int],
    aabb_min: list[float],
    voxel_size: list[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    device, n = coords.device, len(coords)
    size, quads = ctypes.c_int64(), ctypes.c_int64()
    EXTENSION.call("dual_grid_to_mesh_scratch", n, ctypes.byref(size), device=device)
    scratch = torch.empty(size.value, dtype=torch.uint8, device=device)
    EXTENSION.call(
        "dual_grid_to_mesh_count",
        coords,
        local_dual,
        intersected,
        n,
        (ctypes.c_int32 * 3)(*grid_size),
        scratch,
        ctypes.byref(quads),
        device=device,
    )
    vertices = torch.empty(n, 3, dtype=torch.float32, device=device)
    faces = torch.empty(2 * quads.value, 3, dtype=torch.int32, device=device)
    EXTENSION.call(
        "dual_grid_to_mesh_fill",
        coords,
        local_dual,
        split_weight,
        n,
        (ctypes.c_float * 3)(*aabb_min),
        (ctypes.c_float * 3)(*voxel_size),
        scratch,
        vertices,
        faces,
        device=device,
    )
    return vertices, faces


@OPS.fake("dual_grid_to_mesh")
def _(
    coords: torch.Tensor,
    local_dual: torch.Tensor,
    intersected: torch.Tensor,
    split_weight: torch.Tensor | None,
    grid_size: list[int],
    aabb_min: list[float],
    voxel_size: list[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    quads = torch.library.get_ctx().new_dynamic_size()
    return torch.empty_like(local_dual), coords.new_empty((2 * quads, 3))


def dual_grid_to_mesh(
    coords: torch.Tensor,
    local_dual: torch.Tensor,
    intersected: torch.Tensor,
    split_weight: torch.Tensor | None,
    *,
    aabb: Aabb,
    grid_size: GridSize,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The triangle mesh of a flexible dual grid.

    Each set flag whose four voxels exist gives one quad, in the order of voxels, then axes. A quad with corners
    0 to 3 is split between corners 0 and 2 if the product of their split weights is the larger, else between 1 and 3;
    without weights along the flatter diagonal, by the angle between the two triangles, and between 0 and 2 if both
    are equally flat.

    Waits for the device once, to learn the number of quads.

    Args:
        coords: int32 [N, 3], voxels of the grid. Of equal voxels the first counts as the neighbour of others.
        local_dual: float32, float16 or bfloat16 [N, 3], the dual vertices in voxel units relative to each voxel's
            lower corner: 0 to 1, or beyond where a model places them with a margin.
        intersected: bool, uint8, int32 or int64 [N, 3], other than 0 where the lattice edge along that axis is
            crossed. Compare logits with the threshold in float32 to get them.
        split_weight: float32, float16 or bfloat16 [N] or [N, 1], or None. Multiplied and compared in float32.
        aabb: the grid's box ``[[x, y, z], [x, y, z]]`` in world units.
        grid_size: voxels along the axes: one number or three, each in [1, 65536].

    Returns:
        vertices float32 [N, 3], one for each voxel, in world units, and faces int32 [F, 3].

    Raises:
        TypeError: an argument has another type or dtype.
        ValueError: an argument has another shape or device, a voxel is outside the grid, or a dual vertex is not finite.

    Source: Xiang et al., "Native and Compact Structured Latents for 3D Generation" (2025).
    """
    coords = check.tensor("coords", coords, dtype=torch.int32, shape=["N", 3])
    n = len(coords)
    local_dual = check.tensor("local_dual", local_dual, dtype=_HALF_OR_SINGLE, shape=[n, 3], like=coords)
    intersected = check.tensor("intersected", intersected, dtype=_FLAGS, shape=[n, 3], like=coords)
    if split_weight is not None:
        column = isinstance(split_weight, torch.Tensor) and split_weight.dim() == 2
        split_weight = check.tensor(
            "split_weight", split_weight, dtype=_HALF_OR_SINGLE, shape=[n, 1] if column else [n], like=coords
        )
        split_weight = split_weight.float().reshape(n)
    grid = Grid.of(grid_size, aabb)
    vertices, faces = _dual_grid_to_mesh(
        coords, local_dual.float(), intersected != 0, split_weight, grid.size, grid.aabb_min, grid.voxel_size
    )
    return vertices, faces
