"""Cleaning: duplicates, degenerate faces, loose vertices, non-manifold edges, orientation, small components."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from trellis_native import check

from ._connectivity import label_components
from ._library import EXTENSION, OPS, call_with_scratch
from ._result import MeshResult, RemovalReport, keep_faces


@OPS.define("unique_faces(Tensor faces, int num_vertices) -> Tensor")
def _unique_faces(faces: torch.Tensor, num_vertices: int) -> torch.Tensor:
    keep = torch.empty(len(faces), dtype=torch.bool, device=faces.device)
    call_with_scratch("unique_faces", faces, len(faces), num_vertices, keep, device=faces.device)
    return keep


@OPS.fake("unique_faces")
def _(faces: torch.Tensor, num_vertices: int) -> torch.Tensor:
    return faces.new_empty(faces.shape[0], dtype=torch.bool)


@OPS.define("proper_faces(Tensor vertices, Tensor faces, float absolute, float relative) -> Tensor")
def _proper_faces(vertices: torch.Tensor, faces: torch.Tensor, absolute: float, relative: float) -> torch.Tensor:
    keep = torch.empty(len(faces), dtype=torch.bool, device=faces.device)
    EXTENSION.call("proper_faces", vertices, faces, len(faces), absolute, relative, keep, device=faces.device)
    return keep


@OPS.fake("proper_faces")
def _(vertices: torch.Tensor, faces: torch.Tensor, absolute: float, relative: float) -> torch.Tensor:
    return faces.new_empty(faces.shape[0], dtype=torch.bool)


@OPS.define("weld_vertices(Tensor vertices) -> Tensor")
def weld_vertices(vertices: torch.Tensor) -> torch.Tensor:
    representative = torch.empty(len(vertices), dtype=torch.int32, device=vertices.device)
    call_with_scratch("weld_vertices", vertices, len(vertices), representative, device=vertices.device)
    return representative


@OPS.fake("weld_vertices")
def _(vertices: torch.Tensor) -> torch.Tensor:
    return vertices.new_empty(vertices.shape[0], dtype=torch.int32)


@OPS.define("split_fans(Tensor faces, int num_vertices) -> (Tensor, Tensor)")
def split_fans(faces: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    split, added = torch.empty_like(faces), ctypes.c_int64()
    call_with_scratch("split_fans", faces, len(faces), num_vertices, split, ctypes.byref(added), device=faces.device)
    return split, torch.tensor(added.value)


@OPS.fake("split_fans")
def _(faces: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(faces), torch.empty((), dtype=torch.int64)


@OPS.define("unify_orientation(Tensor vertices, Tensor faces, bool outward) -> (Tensor, Tensor)")
def _unify_orientation(vertices: torch.Tensor, faces: torch.Tensor, outward: bool) -> tuple[torch.Tensor, torch.Tensor]:
    flip = torch.empty(len(faces), dtype=torch.bool, device=faces.device)
    conflicts = ctypes.c_int64()
    call_with_scratch(
        "unify_orientation",
        vertices,
        faces,
        len(faces),
        len(vertices),
        int(outward),
        flip,
        ctypes.byref(conflicts),
        device=faces.device,
    )
    return flip, torch.tensor(conflicts.value)


@OPS.fake("unify_orientation")
def _(vertices: torch.Tensor, faces: torch.Tensor, outward: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return faces.new_empty(faces.shape[0], dtype=torch.bool), torch.empty((), dtype=torch.int64)


@OPS.define(
    "component_sizes(Tensor vertices, Tensor faces, Tensor labels, int count) -> (Tensor, Tensor, Tensor, Tensor)"
)
def _component_sizes(
    vertices: torch.Tensor, faces: torch.Tensor, labels: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    device = faces.device
    face_counts = torch.empty(count, dtype=torch.int64, device=device)
    areas = torch.empty(count, dtype=torch.float64, device=device)
    lows, highs = (torch.empty((count, 3), dtype=torch.float32, device=device) for _ in range(2))
    call_with_scratch(
        "component_sizes", vertices, faces, labels, len(faces), count, face_counts, areas, lows, highs, device=device
    )
    return face_counts, areas, lows, highs


@OPS.fake("component_sizes")
def _(
    vertices: torch.Tensor, faces: torch.Tensor, labels: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    corner = vertices.new_empty((count, 3))
    return (
        faces.new_empty(count, dtype=torch.int64),
        vertices.new_empty(count, dtype=torch.float64),
        corner,
        torch.empty_like(corner),
    )


def remove_unreferenced_vertices(vertices: torch.Tensor, faces: torch.Tensor) -> MeshResult[RemovalReport]:
    """Drops the vertices that no face uses; the rest keep their order.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].

    Returns:
        ``vertices, faces`` with a `RemovalReport`.
    """
    v, f = check.mesh(vertices, faces)
    return keep_faces(v, f, torch.ones(len(f), dtype=torch.bool, device=f.device))


def remove_duplicate_faces(vertices: torch.Tensor, faces: torch.Tensor) -> MeshResult[RemovalReport]:
    """Keeps the first face of each set of three vertices, whatever their order, and drops unused vertices.

    Args and returns: as for `remove_unreferenced_vertices`.
    """
    v, f = check.mesh(vertices, faces)
    return keep_faces(v, f, _unique_faces(f, len(v)))


def remove_degenerate_faces(
    vertices: torch.Tensor, faces: torch.Tensor, *, absolute: float = 1e-24, relative: float = 1e-12
) -> MeshResult[RemovalReport]:
    """Drops faces without area, and the vertices that are unused then.

    A face goes if it names a vertex twice, if its area is 0 or not finite, or if its area is below both
    `absolute` (squared units) and `relative` times the square of its longest side. Neighbours of a face that goes
    may be left with a boundary edge: `fill_holes` closes it.

    Args and returns: as for `remove_unreferenced_vertices`.
    """
    v, f = check.mesh(vertices, faces)
    a, r = check.number("absolute", absolute, minimum=0), check.number("relative", relative, minimum=0)
    return keep_faces(v, f, _proper_faces(v, f, a, r))


def remove_duplicate_vertices(vertices: torch.Tensor, faces: torch.Tensor) -> MeshResult[RemovalReport]:
    """Welds vertices at exactly the same place into the first of them, and drops unused vertices.

    Faces all stay, though some may name a vertex twice now (`remove_degenerate_faces`). Vertices with a NaN
    coordinate are at no place and stay.

    Args and returns: as for `remove_unreferenced_vertices`.
    """
    v, f = check.mesh(vertices, faces)
    welded = weld_vertices(v).index_select(0, f.view(-1)).view(-1, 3)
    return keep_faces(v, welded, torch.ones(len(f), dtype=torch.bool, device=f.device))


@dataclass(frozen=True)
class RepairReport:
    """What `repair_non_manifold_edges` did."""

    added_vertices: int
    source: torch.Tensor
    """int64: for each vertex of the result, the vertex that it is a copy of (or is itself)."""


def repair_non_manifold_edges(vertices: torch.Tensor, faces: torch.Tensor) -> MeshResult[RepairReport]:
    """Splits vertices until no edge has more than two faces and faces around each vertex form one fan.

    Faces stay in number, order and shape. Faces are held together across edges of exactly two faces; where an edge
    has more, or where fans only touch at a vertex, each fan gets a vertex of its own (Gueziec et al. 2001).

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].

    Returns:
        ``vertices, faces`` with a `RepairReport`: the V given vertices, then the copies.
    """
    v, f = check.mesh(vertices, faces)
    split, added = split_fans(f, len(v))
    source = torch.arange(len(v) + int(added), device=v.device)
    source[split.view(-1).long()] = f.view(-1).long()
    return MeshResult(v[source], split, RepairReport(int(added), source))


@dataclass(frozen=True)
class OrientationReport:
    """What `unify_orientation` did."""

    flipped_faces: int
    conflicts: int
    """Edges whose two faces still disagree: the surface there has one side only."""


def unify_orientation(
    vertices: torch.Tensor, faces: torch.Tensor, *, outward: bool = False
) -> MeshResult[OrientationReport]:
    """Turns faces over until neighbours across edges of exactly two faces agree.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].
        outward: False: the orientation of each component's majority stays (at a tie, that of its first face).
            True: normals point out of each component, that is its signed volume is positive; components that
            enclose next to nothing, such as sheets, stay with their majority. Components are looked at one by one,
            so an inner shell points outward too.

    Returns:
        ``vertices, faces`` with an `OrientationReport`. A face is turned over by swapping its last two vertices.
    """
    v, f = check.mesh(vertices, faces)
    if not isinstance(outward, bool):
        raise TypeError(f"outward: expected a bool, got {type(outward).__name__}")
    flip, conflicts = _unify_orientation(v, f, outward)
    turned = torch.where(flip[:, None], f[:, [0, 2, 1]], f)
    return MeshResult(v, turned, OrientationReport(int(flip.sum()), int(conflicts)))


@dataclass(frozen=True)
class RemovedComponent:
    """A component that `remove_small_components` took away."""

    faces: int
    area: float
    fraction: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True)
class ComponentsReport(RemovalReport):
    """What `remove_small_components` did."""

    components: int
    removed: tuple[RemovedComponent, ...]
    """Largest area first."""
    protected: bool
    """Whether the largest component was below the limits and stayed all the same."""


def remove_small_components(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    *,
    min_area: float | None = None,
    min_fraction: float | None = None,
    weld: bool = True,
) -> MeshResult[ComponentsReport]:
    """Removes components that are small, and reports each.

    A component's fraction says how much of the mesh's bounding volume it spans: the volume of its bounding box
    over that of the mesh's, or the cube of the ratio of their diagonals, whichever is larger. The two agree for boxes
    of one shape; the second keeps a long thin or flat part, whose box has next to no volume. The components of
    largest area and of largest fraction (as a rule the same one) always stay.

    Args:
        vertices: float32 [V, 3].
        faces: int32 or int64 [F, 3].
        min_area: surface area, in squared units, below which a component goes.
        min_fraction: fraction of the bounding volume below which a component goes, such as 0.05.
        weld: vertices at exactly the same place count as one in finding components, so that the charts of a mesh
            that was cut along its texture seams hold together. The result keeps the vertices as they were.

    Returns:
        ``vertices, faces`` with a `ComponentsReport`; unused vertices are dropped.

    Raises:
        ValueError: neither limit given.
    """
    v, f = check.mesh(vertices, faces)
    if min_area is None and min_fraction is None:
        raise ValueError("min_area, min_fraction: expected at least one of them, got None for both")
    area_limit = None if min_area is None else check.number("min_area", min_area, minimum=0)
    fraction_limit = None if min_fraction is None else check.number("min_fraction", min_fraction, minimum=0)
    if not isinstance(weld, bool):
        raise TypeError(f"weld: expected a bool, got {type(weld).__name__}")

    joined = weld_vertices(v).index_select(0, f.view(-1)).view(-1, 3) if weld else f
    labels, components = label_components(joined, len(v))
    count = int(components)
    # What is decided about some components is decided on the CPU: on a GPU each of these operations on a handful of
    # numbers waits, in the first call of a process, 10 to 50 ms for its kernel to be loaded.
    face_counts, areas, lows, highs = (x.cpu() for x in _component_sizes(v, f, labels, count))
    fractions = _fractions(lows.double(), highs.double())
    stays = torch.ones(count, dtype=torch.bool)
    if area_limit is not None:
        stays &= areas >= area_limit
    if fraction_limit is not None:
        stays &= fractions >= fraction_limit
    protected = False
    if count:
        largest = torch.stack([areas.argmax(), fractions.argmax()])
        protected = not bool(stays[largest].all())
        stays[largest] = True

    kept = keep_faces(v, f, stays.to(v.device).index_select(0, labels))
    gone = (~stays).nonzero().view(-1)
    gone = gone[torch.argsort(areas[gone], descending=True, stable=True)]
    columns = (x[gone].tolist() for x in (face_counts, areas, fractions, lows, highs))
    removed = tuple(RemovedComponent(n, a, r, tuple(lo), tuple(hi)) for n, a, r, lo, hi in zip(*columns, strict=True))
    r = kept.report
    report = ComponentsReport(
        r.removed_faces, r.removed_vertices, r.kept_faces, r.kept_vertices, count, removed, protected
    )
    return MeshResult(kept.vertices, kept.faces, report)


def _fractions(lows: torch.Tensor, highs: torch.Tensor) -> torch.Tensor:
    if not len(lows):
        return lows.new_zeros(0)
    whole = highs.amax(0) - lows.amin(0)
    sizes = highs - lows
    by_volume = _volume(sizes) / _volume(whole)
    ratio = sizes.norm(dim=1) / whole.norm()
    by_diagonal = ratio * ratio * ratio
    return torch.maximum(by_volume.nan_to_num(0.0, 0.0, 0.0), by_diagonal.nan_to_num(0.0, 0.0, 0.0))


def _volume(sizes: torch.Tensor) -> torch.Tensor:
    return sizes.prod(-1)
