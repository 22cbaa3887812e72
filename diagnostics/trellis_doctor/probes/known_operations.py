"""Every operation of our five extensions on a small input whose answer is known.

The inputs are small enough to check an answer with pencil and paper, and the answers here were. Where an operation is
free in its answer (which edge collapses first, where a chart lies), the row states facts that every right answer has.
Nothing here imports torch: the self-test reads the same table.

In a row, `p` is the package, `t` makes tensors on the device that is tried, and `o` those arguments that a call with
tensors on two devices puts on the other one.
"""

from __future__ import annotations

import io
import itertools
import math
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Run = Callable[[Any, Any, Any], Any]


class Operation(NamedTuple):
    """One row.

    Attributes:
        package, name: of the operation; what stands after a colon tells variants apart.
        run: calls it.
        answer: what it must give, as nested lists.
        facts: turns what it gave into `answer`, where the operation is free in the rest.
        tolerance: by which floats may differ, absolute below 1 and relative above: from the answer, and CUDA from
            the CPU. Integers may not.
        needs: packages without which it cannot run, and which are free to be absent.
        takes_two: it takes several tensors, so that it must refuse those on different devices.
        sample: something that has the facts.
    """

    package: str
    name: str
    run: Run
    answer: Any
    facts: Callable[[Any], Any] | None
    tolerance: float
    needs: tuple[str, ...]
    takes_two: bool
    sample: Any

    @property
    def id(self) -> str:
        return f"{self.package}.{self.name}"


OPERATIONS: list[Operation] = []


def operation(
    package: str,
    name: str,
    answer: Any,
    *,
    facts: Callable[[Any], Any] | None = None,
    tolerance: float = 1e-5,
    needs: tuple[str, ...] = (),
    takes_two: bool = False,
    sample: Any = None,
) -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        OPERATIONS.append(Operation(package, name, run, answer, facts, tolerance, needs, takes_two, sample))
        return run

    return add


# trellis_sparse: three voxels in an L, (0,0,0), (1,0,0) and (0,1,0), in a grid of 2 x 2 x 2.

SHAPE = (1, 2, 2, 2)
VOXELS = [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
ALONG_X = [[-1, 0, 1], [0, 1, -1], [-1, 2, -1]]  # rows at x - 1, x, x + 1


@operation("sparse", "neighbor_map", ALONG_X)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.neighbor_map(t.i(VOXELS), SHAPE, (3, 1, 1))


@operation("sparse", "voxel_index", ALONG_X)
def _(p: Any, t: Any, o: Any) -> Any:
    voxels = t.i(VOXELS)
    return p.neighbor_map(voxels, SHAPE, (3, 1, 1), index=p.voxel_index(voxels, SHAPE))


def _convolved(p: Any, t: Any, o: Any, planned: bool) -> Any:
    neighbors = p.neighbor_map(o.i(VOXELS), SHAPE, (3, 1, 1))
    weight = t.f([[[[[1.0]]], [[[10.0]]], [[[100.0]]]]])
    plan = {"plan": p.conv_plan(neighbors)} if planned else {}
    return p.submanifold_conv3d(t.f([[1.0], [2.0], [3.0]]), weight, t.f([0.5]), neighbors, **plan)


@operation("sparse", "submanifold_conv3d", [[210.5], [21.5], [30.5]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return _convolved(p, t, o, planned=False)


@operation("sparse", "conv_plan", [[210.5], [21.5], [30.5]])
def _(p: Any, t: Any, o: Any) -> Any:
    return _convolved(p, t, o, planned=True)


@operation("sparse", "conv_map", [[210.5], [21.5], [30.5]])
def _(p: Any, t: Any, o: Any) -> Any:
    plan = p.conv_map(t.i(VOXELS), SHAPE, (3, 1, 1))
    weight = t.f([[[[[1.0]]], [[[10.0]]], [[[100.0]]]]])
    return p.submanifold_conv3d(t.f([[1.0], [2.0], [3.0]]), weight, t.f([0.5]), plan.neighbors, plan=plan)


@operation("sparse", "submanifold_conv3d:half", [[256.0] * 32, [160.0] * 32, [192.0] * 32])
def _(p: Any, t: Any, o: Any) -> Any:
    # 32 channels in float16, for the tensor cores: sums of small integers are exact in any order.
    neighbors = p.neighbor_map(t.i(VOXELS), SHAPE, (3, 1, 1))
    weight = t.h([[[[[tap] * 32]] for tap in (1.0, 2.0, 3.0)]] * 32)
    return p.submanifold_conv3d(t.h([[1.0] * 32, [2.0] * 32, [3.0] * 32]), weight, t.h([0.0] * 32), neighbors)


@operation("sparse", "grid_sample_3d", [[[1.0], [1.5]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    points = t.f([[[0.5, 0.5, 0.5], [1.0, 0.5, 0.5]]])
    return p.grid_sample_3d(t.f([[1.0], [2.0], [3.0]]), o.i(VOXELS), SHAPE, points)


@operation("sparse", "downsample", [[[0, 0, 0, 0]], [0, 0, 0], [0, 1, 2]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.downsample(t.i(VOXELS))


@operation("sparse", "upsample", [[[0, 2, 0, 0], [0, 3, 1, 1]], [0, 0], [0, 7]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.upsample(t.i([[0, 1, 0, 0]]), o.b([[True, False, False, False, False, False, False, True]]))


@operation("sparse", "space_to_channel", [[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.space_to_channel(t.f([[1.0], [2.0], [3.0]]), o.n([0, 0, 0]), o.n([0, 1, 2]), 1)


@operation("sparse", "channel_to_space", [[1.0], [8.0]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.channel_to_space(t.f([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]), o.n([0, 0]), o.n([0, 7]))


@operation("sparse", "add_shares", [[12.0, 13.0, 24.0, 25.0]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.add_shares(t.f([[2.0, 3.0, 4.0, 5.0]]), o.f([[1.0, 2.0], [10.0, 20.0]]), o.n([1]))


@operation("sparse", "encode_order:morton", [4, 2, 1, 63])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.encode_order(t.i([[1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 3, 3]]), "morton")


@operation("sparse", "decode_order:morton", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 3, 3]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.decode_order(t.n([4, 2, 1, 63]), "morton")


CORNERS = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]


@operation("sparse", "decode_order:hilbert", [1] * 7, facts=lambda c: _steps(c), sample=[[0, 0, i] for i in range(8)])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.decode_order(t.n(list(range(8))), "hilbert")  # each step of the curve goes to a voxel beside the last


@operation("sparse", "encode_order:hilbert", list(range(8)), facts=sorted, sample=list(range(8)))
def _(p: Any, t: Any, o: Any) -> Any:
    return p.encode_order(t.i(CORNERS), "hilbert")


def _steps(coords: Any) -> list[int]:
    return [sum(abs(a - b) for a, b in zip(c, d, strict=True)) for c, d in itertools.pairwise(coords)]


@operation("sparse", "convnext", [[-1.0, 7.0]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    # A convolution that changes nothing; -1 and 1 after the norm, times 2, plus 3: 1 and 5; 100 and -50, of which SiLU
    # leaves 100 and 0; -2 and 4 are added to the voxel.
    plan = p.conv_map(t.i([[0, 1, 1, 1]]), SHAPE, (1, 1, 1))
    one = t.f([[[[[1.0, 0.0]]]], [[[[0.0, 1.0]]]]])
    first, last = t.f([[25.0, 15.0], [25.0, -35.0]]), t.f([[-0.02, 7.0], [0.04, 7.0]])
    zero = t.f([0.0, 0.0])
    norm = (t.f([2.0, 2.0]), t.f([3.0, 3.0]))
    return p.convnext(o.f([[1.0, 3.0]]), plan, (one, zero), norm, (first, t.f([0.0, 100.0])), (last, zero))


@operation("sparse", "layer_norm", [[1.0, 5.0]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.layer_norm(t.f([[1.0, 3.0]]), o.f([2.0, 2.0]), o.f([3.0, 3.0]))  # -1 and 1, times 2, plus 3


@operation("sparse", "norm_linear", [[5.0, -1.0]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.norm_linear(t.f([[1.0, 3.0]]), o.f([[2.0, 3.0], [1.0, 2.0]]), o.f([4.0, -2.0]))  # -1 and 1 in between


@operation("sparse", "residual_norm", [[[1.0, 3.0]], [[-1.0, 1.0]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.residual_norm(t.f([[1.0, 1.0]]), o.f([[0.0, 2.0]]))


ROOT_2 = math.sqrt(2)


@operation("sparse", "norm_heads", [[[[-0.8 * ROOT_2, 0.6 * ROOT_2]]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.norm_heads(t.f([[[[3.0, 4.0]]]]), o.f([[[1.0, 1.0]]]), o.f([[[0.0, 1.0]]]))  # a quarter turn


# trellis_mesh: a unit square of two faces, a tetrahedron, and a cube.

SQUARE = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
SQUARE_FACES = [[0, 1, 2], [0, 2, 3]]
TETRAHEDRON = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
TETRAHEDRON_FACES = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
CUBE = [[float(i >> 2 & 1), float(i >> 1 & 1), float(i & 1)] for i in range(8)]
CUBE_FACES = [
    [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
    [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
]  # fmt: skip
UP = [0.0, 0.0, 1.0]


@operation("mesh", "edges", [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.edges(t.i(SQUARE_FACES))


@operation("mesh", "boundary_edges", [[0, 1], [0, 3], [1, 2], [2, 3]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.boundary_edges(t.i(SQUARE_FACES))


@operation("mesh", "connected_components", [2, [0, 0, 1]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.connected_components(t.i([*SQUARE_FACES, [4, 5, 6]]), 7)


@operation("mesh", "face_normals", [UP, UP], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.face_normals(t.f(SQUARE), o.i(SQUARE_FACES))


@operation("mesh", "vertex_normals", [UP] * 4, takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.vertex_normals(t.f(SQUARE), o.i(SQUARE_FACES))


@operation("mesh", "corner_normals", [[[UP] * 3] * 2, [[0, 1, 2], [0, 2, 5]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.corner_normals(t.f(SQUARE), o.i(SQUARE_FACES), crease_angle=30.0)


@operation("mesh", "remove_degenerate_faces", [SQUARE, SQUARE_FACES], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.remove_degenerate_faces(t.f(SQUARE), o.i([*SQUARE_FACES, [1, 1, 2]]))


@operation("mesh", "remove_duplicate_faces", [SQUARE, SQUARE_FACES], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.remove_duplicate_faces(t.f(SQUARE), o.i([*SQUARE_FACES, [2, 0, 1]]))


@operation("mesh", "remove_duplicate_vertices", [SQUARE, SQUARE_FACES], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.remove_duplicate_vertices(t.f([*SQUARE, SQUARE[0]]), o.i([[0, 1, 2], [4, 2, 3]]))


@operation("mesh", "remove_unreferenced_vertices", [SQUARE, SQUARE_FACES], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.remove_unreferenced_vertices(t.f([*SQUARE, [9.0, 9.0, 9.0]]), o.i(SQUARE_FACES))


@operation("mesh", "remove_small_components", [SQUARE, SQUARE_FACES], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    far = [[5.0, 5.0, 5.0], [5.1, 5.0, 5.0], [5.0, 5.1, 5.0]]
    return p.remove_small_components(t.f([*SQUARE, *far]), o.i([*SQUARE_FACES, [4, 5, 6]]), min_area=0.1)


@operation("mesh", "repair_non_manifold_edges", [5, 3], facts=lambda m: [len(set(map(tuple, m[0]))), len(m[1])],
           takes_two=True, sample=[[*SQUARE, [0.5, 0.5, 1.0]], [*SQUARE_FACES, [0, 2, 4]]])  # fmt: skip
def _(p: Any, t: Any, o: Any) -> Any:
    return p.repair_non_manifold_edges(t.f([*SQUARE, [0.5, 0.5, 1.0]]), o.i([*SQUARE_FACES, [0, 2, 4]]))


@operation("mesh", "unify_orientation", [SQUARE, SQUARE_FACES], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.unify_orientation(t.f(SQUARE), o.i([[0, 1, 2], [0, 3, 2]]))


@operation("mesh", "fill_holes", [4, 4, True], facts=lambda m: [len(m[0]), len(m[1]), _closed(m[1])], takes_two=True,
           sample=[TETRAHEDRON, TETRAHEDRON_FACES])  # fmt: skip
def _(p: Any, t: Any, o: Any) -> Any:
    return p.fill_holes(t.f(TETRAHEDRON), o.i(TETRAHEDRON_FACES[:3]), max_perimeter=10.0)


def _closed(faces: Any) -> bool:
    """Each directed edge has its opposite, once."""
    directed = [(f[i], f[(i + 1) % 3]) for f in faces for i in range(3)]
    return len(set(directed)) == len(directed) and {(b, a) for a, b in directed} == set(directed)


def _grid(n: int) -> tuple[list[list[float]], list[list[int]]]:
    """A unit square of n x n cells."""
    vertices = [[i / n, j / n, 0.0] for i in range(n + 1) for j in range(n + 1)]
    faces = []
    for i in range(n):
        for j in range(n):
            a, b, c, d = i * (n + 1) + j, (i + 1) * (n + 1) + j, (i + 1) * (n + 1) + j + 1, i * (n + 1) + j + 1
            faces += [[a, b, c], [a, c, d]]
    return vertices, faces


def _area(mesh: Any) -> float:
    """Of a mesh in the plane z = 0, signed."""
    area = 0.0
    for face in mesh[1]:
        (ax, ay), (bx, by), (cx, cy) = (mesh[0][i][:2] for i in face)
        area += ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)) / 2
    return area


@operation("mesh", "simplify", [True, 1.0], facts=lambda m: [2 <= len(m[1]) <= 8, _area(m)], tolerance=1e-4,
           takes_two=True, sample=[SQUARE, SQUARE_FACES])  # fmt: skip
def _(p: Any, t: Any, o: Any) -> Any:
    vertices, faces = _grid(4)  # a flat square keeps its corners and its area
    return p.simplify(t.f(vertices), o.i(faces), target_faces=8)


# The point below the first lies at (0.75, 0.25), in face 0; the one beside the second at (0, 0.5), on an edge of face 1.
@operation("mesh", "Bvh.closest_point", [[2.0, 5.0], [0, 1], [[0.25, 0.5, 0.25], [0.5, 0.0, 0.5]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.Bvh(t.f(SQUARE), t.i(SQUARE_FACES)).closest_point(o.f([[0.75, 0.25, 2.0], [-3.0, 0.5, 4.0]]))


@operation("mesh", "Bvh.ray_cast", [[2.0, 3.0], [0, 1], [[0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    origins, down = t.f([[0.75, 0.25, 2.0], [0.25, 0.75, 3.0]]), o.f([[0.0, 0.0, -1.0]] * 2)
    return p.Bvh(t.f(SQUARE), t.i(SQUARE_FACES)).ray_cast(origins, down)


@operation("mesh", "Bvh.count_hits", [2, 1, 0], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    origins = t.f([[-1.0, 0.3, 0.4], [0.5, 0.3, 0.4], [2.0, 0.3, 0.4]])  # before, inside and behind the cube
    return p.Bvh(t.f(CUBE), t.i(CUBE_FACES)).count_hits(origins, o.f([[1.0, 0.0, 0.0]] * 3))


@operation("mesh", "remesh_dual_contouring", [True, True, True], takes_two=True,
           facts=lambda m: [len(m[1]) > 12, _closed(m[1]), all(-0.3 < x < 1.3 for v in m[0] for x in v)],
           sample=[CUBE, [[f[0] + 8 * i, f[1] + 8 * i, f[2] + 8 * i] for i in (0, 1) for f in CUBE_FACES]])  # fmt: skip
def _(p: Any, t: Any, o: Any) -> Any:
    return p.remesh_dual_contouring(t.f(CUBE), o.i(CUBE_FACES), resolution=16)


# Each face comes back, the right way round, inside the texture, with its corners where they were.
@operation("mesh", "unwrap_uv", [12, True, True, True], takes_two=True, facts=lambda m: [
               len(m[1]),
               all(_area([m[2], [face]]) > 0.001 for face in m[1]),
               all(0 <= x <= 1 for corner in m[2] for x in corner),
               [[m[3][i] for i in face] for face in m[1]] == CUBE_FACES and [CUBE[i] for i in m[3]] == m[0]],
           sample=[[CUBE[i] for f in CUBE_FACES for i in f], [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(12)],
                   [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]] * 12, [i for f in CUBE_FACES for i in f]])  # fmt: skip
def _(p: Any, t: Any, o: Any) -> Any:
    return p.unwrap_uv(t.f(CUBE), o.i(CUBE_FACES), resolution=64)


@operation("mesh", "measure_uv", [1, 1.0, 0], facts=lambda r: [r["charts"], r["stretch_l2"], r["overlapping_faces"]],
           sample={"charts": 1, "stretch_l2": 1.0, "overlapping_faces": 0})  # fmt: skip
def _(p: Any, t: Any, o: Any) -> Any:
    return p.measure_uv(t.f(SQUARE), t.i(SQUARE_FACES), t.f([v[:2] for v in SQUARE]), resolution=64)


# u doubled: stretches 1 and 0.5, areas in space and in the atlas
@operation("mesh", "uv_stretch", [[1.0, 0.5, 0.5, 1.0]] * 2, takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.uv_stretch(t.f(SQUARE), t.i(SQUARE_FACES), o.f([[2 * v[0], v[1]] for v in SQUARE]))


# trellis_voxel: a square across a grid of 2 x 2 x 2.

BOX = [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]
PLATE = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]


@operation("voxel", "dual_grid_to_mesh",
           [[[0.5, 0.5, 0.5], [0.5, 0.5, 1.5], [0.5, 1.5, 0.5], [0.5, 1.5, 1.5]], 2],
           facts=lambda m: [m[0], len(m[1])], takes_two=True,
           sample=[[[0.5, 0.5, 0.5], [0.5, 0.5, 1.5], [0.5, 1.5, 0.5], [0.5, 1.5, 1.5]], [[0, 1, 2], [1, 2, 3]]])  # fmt: skip
def _(p: Any, t: Any, o: Any) -> Any:
    crossed = o.b([[True, False, False]] + [[False] * 3] * 3)
    return p.dual_grid_to_mesh(t.i(PLATE), t.f([[0.5] * 3] * 4), crossed, None, aabb=BOX, grid_size=2)


# Planes fix x; y and z lie between the border (0.1, weight 1) and the middle of the crossings (1, weight 0.1).
NEAR, FAR = 0.2 / 1.1, 2.0 - 0.2 / 1.1
DUAL = [[0.5, NEAR, NEAR], [0.5, NEAR, FAR], [0.5, FAR, NEAR], [0.5, FAR, FAR]]


@operation("voxel", "mesh_to_dual_grid", takes_two=True,
           answer={"coords": PLATE, "dual_vertices": DUAL, "intersected": [[True, False, False]] + [[False] * 3] * 3})  # fmt: skip
def _(p: Any, t: Any, o: Any) -> Any:
    wall = [[0.5, 0.1, 0.1], [0.5, 1.9, 0.1], [0.5, 1.9, 1.9], [0.5, 0.1, 1.9]]
    return p.mesh_to_dual_grid(t.f(wall), o.i(SQUARE_FACES), grid_size=2, aabb=BOX)


LOOK = {
    "base_color": [[255, 0, 0]] * 4, "metallic": [[255]] * 4, "roughness": [[0]] * 4, "emissive": [[0, 0, 0]] * 4,
    "alpha": [[255]] * 4, "normal": [[255, 128, 128]] * 4,
}  # fmt: skip


@operation("voxel", "voxelize_attributes", [PLATE, LOOK])
def _(p: Any, t: Any, o: Any) -> Any:
    wall = [[0.5, 0.1, 0.1], [0.5, 1.9, 0.1], [0.5, 1.9, 1.9], [0.5, 0.1, 1.9]]
    red = p.PbrMaterial(base_color_factor=(1.0, 0.0, 0.0, 1.0), metallic_factor=1.0, roughness_factor=0.0)
    mesh = p.TexturedMesh(t.f(wall), t.i(SQUARE_FACES), [red])
    return p.voxelize_attributes(mesh, grid_size=2, aabb=BOX)


@operation("voxel", "Grid.to_voxel", [[1.0, 0.5, 2.0]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.Grid.of(4, [[-1.0] * 3, [1.0] * 3]).to_voxel(t.f([[-0.5, -0.75, 0.0]]))


@operation("voxel", "Grid.to_world", [[-0.5, -0.75, 0.0]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.Grid.of(4, [[-1.0] * 3, [1.0] * 3]).to_world(t.f([[1.0, 0.5, 2.0]]))


SHADES = [[10], [20], [30], [40]]
STORED = [PLATE, {"shade": SHADES}]


def _sorted(read: Any) -> Any:
    """Files may keep voxels in an order of their own."""
    pairs = sorted(zip(read[0], read[1]["shade"], strict=True))
    return [[c for c, _ in pairs], {"shade": [s for _, s in pairs]}]


def _stored(kind: str) -> Run:
    def run(p: Any, t: Any, o: Any) -> Any:
        file = io.BytesIO()
        getattr(p, f"write_{kind}")(file, t.i(PLATE), {"shade": t.u(SHADES)})
        file.seek(0)
        return getattr(p, f"read_{kind}")(file)

    return run


for _kind in ("vxz", "npz", "ply"):
    operation("voxel", f"read_{_kind}", STORED, facts=_sorted, sample=STORED)(_stored(_kind))


@operation("voxel", "read_vxz_info", 4, facts=lambda i: i["num_voxel"], sample={"num_voxel": 4})
def _(p: Any, t: Any, o: Any) -> Any:
    file = io.BytesIO()
    p.write_vxz(file, t.i(PLATE), {"shade": t.u(SHADES)})
    file.seek(0)
    return p.read_vxz_info(file)


@operation("voxel", "read", STORED, facts=_sorted, sample=STORED)
def _(p: Any, t: Any, o: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "voxels.vxz")
        p.write(file, t.i(PLATE), {"shade": t.u(SHADES)})
        return p.read(file)


# trellis_raster: a triangle that covers a picture of 2 x 2.

CLIP = [[[-1.0, -1.0, 0.0, 1.0], [3.0, -1.0, 0.0, 1.0], [-1.0, 3.0, 0.0, 1.0]]]
BEHIND = [[[-1.0, -1.0, 0.5, 1.0], [3.0, -1.0, 0.5, 1.0], [-1.0, 3.0, 0.5, 1.0]]]
CHECKER = [[[0.0], [1.0]], [[2.0], [3.0]]]


@operation(
    "raster",
    "rasterize",
    [[[[0.75, 0.125, 0.0, 1.0], [0.5, 0.375, 0.0, 1.0]], [[0.5, 0.125, 0.0, 1.0], [0.25, 0.375, 0.0, 1.0]]]],
    takes_two=True,
)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.rasterize(t.f(CLIP), o.i([[0, 1, 2]]), (2, 2))


@operation("raster", "interpolate", [[[[1.375], [1.625]], [[3.875], [4.125]]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    rast = p.rasterize(t.f(CLIP), t.i([[0, 1, 2]]), (2, 2))
    return p.interpolate(o.f([[[0.0], [1.0], [10.0]]]), rast, t.i([[0, 1, 2]]))


@operation("raster", "depth_layers", [[[[[0.5, 0.25, 0.0, 2.0]]]], [[[[0.5, 0.25, 0.5, 1.0]]]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    clip = [[*CLIP[0], *BEHIND[0]]]
    return list(p.depth_layers(t.f(clip), o.i([[3, 4, 5], [0, 1, 2]]), (1, 1)))


@operation("raster", "sample_texture", [[[[1.0], [1.5]]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.sample_texture(t.f([CHECKER]), o.f([[[[0.75, 0.25], [0.5, 0.5]]]]))


@operation("raster", "build_mips", [[[[1.5]]]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.build_mips(t.f([CHECKER])).level(1)


@operation("raster", "uv_lod", [[[1.0] * 3] * 3], tolerance=1e-4)
def _(p: Any, t: Any, o: Any) -> Any:
    uv = [[[x / 2, y / 2] for x in range(3)] for y in range(3)]  # half a texture a pixel: two texels of four
    return p.uv_lod(t.f([uv]), (4, 4))


MASK = [[True, False, False, False]]


@operation("raster", "nearest_texel", [[0, 0, 0, 0]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.nearest_texel(t.b(MASK))


@operation("raster", "fill_gaps", [[[7.0], [7.0], [7.0], [7.0]]], takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.fill_gaps(t.f([[[7.0], [0.0], [0.0], [0.0]]]), o.b(MASK))


@operation("raster", "fill_gaps:smooth", [[[7.0], [7.0], [7.0], [7.0]]])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.fill_gaps(t.f([[[7.0], [0.0], [0.0], [0.0]]]), t.b(MASK), method="smooth")


# trellis_shade: a white sky, under which white things are white.

SKY = [[[1.0, 1.0, 1.0]] * 32] * 16
WHITE = [1.0, 1.0, 1.0]
SMALL = {"resolution": 16, "samples": 64}


@operation("shade", "EnvironmentLight.from_latlong", [WHITE], tolerance=0.01)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.EnvironmentLight.from_latlong(t.f(SKY), **SMALL).radiance(t.f([UP]), 0.5)


@operation("shade", "EnvironmentLight.from_cube", [WHITE], tolerance=0.01)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.EnvironmentLight.from_cube(t.f([[[WHITE] * 16] * 16] * 6), samples=64).irradiance(t.f([UP]))


@operation("shade", "EnvironmentLight.shade", [[0.95] * 3], tolerance=0.1, takes_two=True)
def _(p: Any, t: Any, o: Any) -> Any:
    # White metal under a white sky is white, but for the few per cent that split-sum keeps back.
    light = p.EnvironmentLight.from_latlong(t.f(SKY), **SMALL)
    return light.shade(t.f([[0.0] * 3]), t.f([UP]), o.f([WHITE]), t.f([[1.0]]), t.f([[0.2]]), t.f([[0.0, 0.0, 3.0]]))


@operation("shade", "EnvironmentLight.rotated", [[2.0] * 3, [0.0] * 3], tolerance=0.01)
def _(p: Any, t: Any, o: Any) -> Any:
    half = [[[2.0] * 3] * 16 + [[0.0] * 3] * 16] * 16  # light from one side, seen from both after half a turn
    light = p.EnvironmentLight.from_latlong(t.f(half), **SMALL).rotated(180.0)
    return light.irradiance(t.f([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))


@operation("shade", "EnvironmentLight.studio", [True] * 3, facts=lambda v: [0 < x < 100 for x in v[0]], sample=[WHITE])
def _(p: Any, t: Any, o: Any) -> Any:
    return p.EnvironmentLight.studio(resolution=16).to(t.device).irradiance(t.f([[0.0, 1.0, 0.0]]))


@operation("shade", "EnvironmentLight.gradient_sky", [WHITE], tolerance=0.01)
def _(p: Any, t: Any, o: Any) -> Any:
    light = p.EnvironmentLight.gradient_sky(zenith=(1.0,) * 3, horizon=(1.0,) * 3, ground=(1.0,) * 3, resolution=16)
    return light.to(t.device).irradiance(t.f([UP]))


# Of red 0, green 0.18 and blue 1, by the published formulas; agx, which is a table, as the CPU path gives it.
TONES = {
    "none": [0.0, 0.18, 1.0],
    "reinhard": [0.0, 0.18 / 1.18, 0.5],
    "aces": [0.0, 0.266899, 0.803797],
    "agx": [0.085226, 0.250670, 0.634176],
    "neutral": [0.015560, 0.171159, 0.88],
}


def _toned(curve: str) -> Run:
    return lambda p, t, o: p.tonemap(t.f([[0.0, 0.18, 1.0]]), curve)


for _curve, _tones in TONES.items():
    operation("shade", f"tonemap:{_curve}", [_tones], tolerance=1e-4)(_toned(_curve))


@operation("shade", "linear_to_srgb", [[0.0, 0.0404, 0.735357, 1.0]], tolerance=1e-4)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.linear_to_srgb(t.f([[0.0, 0.0404 / 12.92, 0.5, 1.0]]))


@operation("shade", "srgb_to_linear", [[0.0, 0.0404 / 12.92, 0.214041, 1.0]], tolerance=1e-4)
def _(p: Any, t: Any, o: Any) -> Any:
    return p.srgb_to_linear(t.f([[0.0, 0.0404, 0.5, 1.0]]))


@operation("shade", "read_radiance", [[[2.0, 1.0, 0.5]]], needs=("OpenImageIO",))
def _(p: Any, t: Any, o: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "light.hdr")  # one pixel: mantissas of 1/256, exponent 2
        head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n"
        file.write_bytes(head + struct.pack("4B", 128, 64, 32, 130))
        return p.read_radiance(file)
