"""cumesh beside trellis_mesh: connectivity, cleaning, trees, simplification, remeshing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh
from harness import Finding, Setting, case, share
from shapes import in_box, surface

UNIT = (-0.5 * np.ones(3), 0.5 * np.ones(3))


def _given(setting: Setting, damaged: bool = True) -> tuple[torch.Tensor, torch.Tensor, str]:
    kind, v, f = surface(setting, damaged)
    return setting.tensor(in_box(v, *UNIT, 0.95)), setting.tensor(f), f"seed {setting.seed}: {kind}, {len(f)} faces"


def _held(setting: Setting, v: torch.Tensor, f: torch.Tensor) -> Any:
    made = setting.modules["cumesh"].CuMesh()
    made.init(v, f)
    return made


def _adjacent(f: torch.Tensor) -> bool:
    """Whether some edge has two faces. Theirs ends the process where none has and it looks for faces side by side."""
    pairs = torch.cat([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]).sort(1).values
    return bool((pairs.unique(dim=0, return_counts=True)[1] == 2).any())


def _rows(rows: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(sorted(row)) for row in rows.cpu().tolist()}


def _partition(labels: torch.Tensor) -> torch.Tensor:
    """Labels renamed by the first face that has each, so that two partitions can be compared."""
    names: dict[int, int] = {}
    return torch.tensor([names.setdefault(label, len(names)) for label in labels.cpu().tolist()])


def _triangles(v: torch.Tensor, f: torch.Tensor) -> list[tuple[Any, ...]]:
    """Faces by the places of their corners, whatever the vertices' numbers."""
    corners = v.cpu()[f.cpu().long()].tolist()
    return sorted(tuple(sorted(tuple(p) for p in face)) for face in corners)


def _apart(ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]) -> int:
    """How many faces one of them has more often than the other."""
    from collections import Counter

    a, b = Counter(ours), Counter(theirs)
    return sum(((a - b) + (b - a)).values())


@case("cumesh")
def connectivity(setting: Setting) -> Iterator[Finding]:
    """Edges, boundaries, components. Of damaged meshes they differ by design: a face that names a vertex twice has no edges
    here, and components go over edges of any number of faces."""
    v, f, said = _given(setting)
    note, limit = (", damaged", float("inf")) if "damaged" in said else ("", 0.0)
    held = _held(setting, v, f)
    held.get_edges()
    held.get_edge_face_adjacency()
    held.get_boundary_info()
    edges = held.read_edges()
    yield Finding(said, f"edges apart{note}", len(_rows(edges) ^ _rows(mesh.edges(f))), limit)
    rims = edges[held.read_boundaries().long()] if held.num_boundaries else edges[:0]
    yield Finding(said, f"boundary edges apart{note}", len(_rows(rims) ^ _rows(mesh.boundary_edges(f))), limit)
    if not _adjacent(f):
        return
    held.get_manifold_face_adjacency()
    held.get_connected_components()
    count, labels = held.read_connected_components()
    ours, own = mesh.connected_components(f, len(v))
    yield Finding(said, f"components, count{note}", abs(count - ours), limit)
    yield Finding(said, f"components, faces apart{note}", share(_partition(labels) != _partition(own)), limit)


@case("cumesh")
def normals(setting: Setting) -> Iterator[Finding]:
    """Of faces and of vertices, as the angle between theirs and ours."""
    v, f, said = _given(setting, damaged=False)
    held = _held(setting, v, f)
    held.compute_face_normals()
    held.compute_vertex_normals()
    size = torch.linalg.cross(v[f[:, 1].long()] - v[f[:, 0].long()], v[f[:, 2].long()] - v[f[:, 0].long()]).norm(dim=1)
    large = size > 1e-6
    cosine = torch.nn.functional.cosine_similarity(held.read_face_normals(), mesh.face_normals(v, f))[large]
    yield Finding(said, "face normals, cosine below 0.9999", share(cosine < 0.9999), 0)
    used = torch.zeros(len(v), dtype=torch.bool, device=v.device)
    used[f.long().reshape(-1)] = True
    for weighting in ("angle", "area"):
        ours = mesh.vertex_normals(v, f, weighting=weighting)
        cosine = torch.nn.functional.cosine_similarity(held.read_vertex_normals(), ours)[used]
        limit = 0 if weighting == "area" else float("inf")  # theirs are by area, and ours where nothing is said
        yield Finding(said, f"vertex normals by {weighting}, cosine below 0.999", share(cosine < 0.999), limit)


@case("cumesh")
def cleaning(setting: Setting) -> Iterator[Finding]:
    """Each cleaning step, by the places of the faces that are left."""
    v, f, said = _given(setting)
    note, limit = (", damaged", float("inf")) if "damaged" in said else ("", 0.0)
    held = _held(setting, v, f)
    held.remove_duplicate_faces()
    ours = mesh.remove_duplicate_faces(v, f)
    yield Finding(said, f"duplicate faces{note}", _apart(_triangles(*ours), _triangles(*held.read())), 0)
    held = _held(setting, v, f)
    held.remove_degenerate_faces()
    ours = mesh.remove_degenerate_faces(v, f)
    yield Finding(said, f"degenerate faces{note}", _apart(_triangles(*ours), _triangles(*held.read())), 0)
    held = _held(setting, v, f)
    held.remove_unreferenced_vertices()
    ours = mesh.remove_unreferenced_vertices(v, f)
    yield Finding(said, f"unreferenced vertices{note}", abs(len(ours[0]) - len(held.read()[0])), 0)
    if not _adjacent(f):
        return
    held = _held(setting, v, f)
    held.repair_non_manifold_edges()
    theirs, ours = held.read(), mesh.repair_non_manifold_edges(v, f)
    yield Finding(said, f"repair: faces, count{note}", abs(len(ours[1]) - len(theirs[1])), 0)
    yield Finding(said, f"repair: vertices, count{note}", abs(len(ours[0]) - len(theirs[0])), limit)
    crowded = _shared_by_more_than_two(ours[1])
    yield Finding(said, f"repair: edges of more than two faces left by ours{note}", crowded, 0)
    area = float(setting.one_of(1e-5, 1e-2, 0.3))
    held = _held(setting, v, f)
    held.remove_small_connected_components(area)
    ours = mesh.remove_small_components(v, f, min_area=area, weld=False)
    theirs = held.read()
    alone = ", theirs keeps none" if not len(theirs[1]) else ""
    apart = _apart(_triangles(*ours), _triangles(*theirs))
    yield Finding(said, f"small components{alone}{note}", apart, 10**9 if alone else limit)


def _shared_by_more_than_two(f: torch.Tensor) -> int:
    f = f.long()
    f = f[(f[:, 0] != f[:, 1]) & (f[:, 1] != f[:, 2]) & (f[:, 2] != f[:, 0])]
    pairs = torch.cat([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]).sort(1).values
    return int((pairs.unique(dim=0, return_counts=True)[1] > 2).sum()) if len(pairs) else 0


@case("cumesh")
def holes(setting: Setting) -> Iterator[Finding]:
    """Boundary edges that closing takes away, with the parity check's measure."""
    v, f, said = _given(setting, damaged=False)
    for perimeter in (3e-2, 0.3, 1.0, 10.0):
        held = _held(setting, v, f)
        held.fill_holes(perimeter)
        _, theirs = held.read()
        want = len(theirs) - len(f)  # theirs closes each edge with one face
        _, ours = mesh.fill_holes(v, f, max_perimeter=perimeter)
        got = len(mesh.boundary_edges(f)) - len(mesh.boundary_edges(ours))
        # The outline of a lone triangle is no hole; holes that touch at a vertex are closed each by itself, and theirs leaves
        # most of them open.
        kind = ", soup" if "soup" in said else ""
        fewer = max(0, want - got - max(4, 0.1 * want))
        yield Finding(
            f"{said}, {perimeter}", f"closed edges fewer than theirs{kind}", fewer, float("inf") if kind else 0
        )
        yield Finding(f"{said}, {perimeter}", f"closed edges more than theirs{kind}", max(0, got - want), float("inf"))


def _opposed(f: torch.Tensor) -> int:
    """Edges that two faces run through in the same direction."""
    f = f.long()
    pairs = torch.cat([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    both, where, count = pairs.sort(1).values.unique(dim=0, return_inverse=True, return_counts=True)
    up = torch.zeros(len(both), dtype=torch.long, device=f.device)
    up.index_add_(0, where, (pairs[:, 0] < pairs[:, 1]).long())
    return int(((count == 2) & (up != 1)).sum())


@case("cumesh")
def orientation(setting: Setting) -> Iterator[Finding]:
    """Edges whose two faces disagree after unifying: ours may leave no more than theirs."""
    v, f, said = _given(setting, damaged=False)
    turned = setting.tensor(setting.random.random(len(f)) < 0.3)
    f = torch.where(turned[:, None], f[:, [0, 2, 1]], f).contiguous()
    if not _adjacent(f):
        return
    held = _held(setting, v, f)
    held.unify_face_orientations()
    theirs, ours = held.read()[1], mesh.unify_orientation(v, f)[1]
    yield Finding(said, "more disagreeing edges than theirs", max(0, _opposed(ours) - _opposed(theirs)), 0)


def _stand_in(v: torch.Tensor, f: torch.Tensor) -> Any:
    from trellis_compat.modules import cumesh

    return cumesh.cuBVH(v, f)


@case("cumesh")
def trees(setting: Setting) -> Iterator[Finding]:
    """Unsigned distance and rays."""
    v, f, said = _given(setting, damaged=False)
    if len(f) <= 8:  # theirs wants more
        return
    theirs, ours = setting.modules["cumesh"].cuBVH(v, f), mesh.Bvh(v, f)
    points = setting.tensor(setting.random.normal(size=(500, 3)).astype(np.float32)) * 0.4
    points = torch.cat([points, v[:200], v[f[:200].long()].mean(1)])
    distance, face, _ = theirs.unsigned_distance(points, return_uvw=True)
    near, own, weights = ours.closest_point(points)
    yield Finding(said, "distance", float((distance - near).abs().max()), 2e-5)
    back = ((v[f[own.long()].long()] * weights[..., None]).sum(1) - points).norm(dim=1)
    yield Finding(said, "distance of the point that ours names", float((back - near).abs().max()), 2e-5)
    yield Finding(said, "face apart where the next is not as near", share((face != own) & (near > 1e-3)), 1)
    origins = torch.nn.functional.normalize(points[:500], dim=1) * 1.5
    aims = torch.nn.functional.normalize(torch.randn_like(origins) * 0.2 - origins, dim=1)
    stood_in = _stand_in(v, f)
    if mesh.boundary_edges(f).numel() == 0:
        for mode in ("watertight", "raystab"):
            signed, own = theirs.signed_distance(points, mode=mode)[0], stood_in.signed_distance(points, mode=mode)[0]
            note = "winding unknown" if mode == "watertight" else "closed"
            yield Finding(
                said, f"signed distance, {mode}, other sign ({note})", share((signed * own < 0) & (near > 1e-4)), 1
            )
    at, hit, depth = theirs.ray_trace(origins, aims)
    known = stood_in.ray_trace(origins, aims)
    agree = hit == known[1]
    yield Finding(
        said, "ray_trace: positions where faces agree", float((at - known[0])[agree & (hit >= 0)].abs().sum()), 0.01
    )
    yield Finding(said, "ray_trace: depth of a miss", float((depth - known[2])[agree & (hit < 0)].abs().sum()), 0)
    cast = ours.ray_cast(origins, aims)
    far, met = cast[0], cast[1]
    yield Finding(said, "rays, one hits and one misses", share((hit >= 0) != (met >= 0)), 0.005)
    both = (hit >= 0) & (met >= 0)
    gap = (far - depth)[both].abs()
    yield Finding(said, "rays, depth beyond 1e-4", share(gap > 1e-4), 0.005)


def _distance(v: torch.Tensor, f: torch.Tensor, to_v: torch.Tensor, to_f: torch.Tensor) -> float:
    """Largest distance but for a thousandth, of a surface's vertices and middles to the other, the worse of both ways."""

    def one(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> float:
        used = torch.cat([a[b.long().unique()], a[b.long()].mean(1)])
        return float(mesh.Bvh(c, d).closest_point(used)[0].quantile(0.999))

    return max(one(v, f, to_v, to_f), one(to_v, to_f, v, f))


@case("cumesh", share=0.5)
def simplification(setting: Setting) -> Iterator[Finding]:
    """Faces within [0.9, 1] of the target and as near to the input as theirs."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=5)
    waves = setting.random.normal(size=(3, 3)) * 4
    v = ball.vertices * (0.35 + 0.05 * np.sin(ball.vertices @ waves.T).sum(1))[:, None]
    v, f = setting.tensor(v.astype(np.float32)), setting.tensor(ball.faces.astype(np.int32))
    if setting.chance(0.3):
        f = f[v[f[:, 0].long()][:, 2] > -0.1].contiguous()
    target = int(len(f) * setting.one_of(0.5, 0.1, 0.03))
    said = f"seed {setting.seed}: {len(f)} faces to {target}"
    held = _held(setting, v, f)
    held.simplify(target)
    theirs, ours = held.read(), mesh.simplify(v, f, target_faces=target)
    yield Finding(said, "faces, share of the target missing", abs(0.95 - len(ours[1]) / target), 0.0501)
    worse = _distance(*ours, v, f) / max(_distance(*theirs, v, f), 1e-6)
    yield Finding(said, "distance, ours over theirs", worse, 1.1)


@case("cumesh", share=0.5)
def remeshing(setting: Setting) -> Iterator[Finding]:
    """Narrow-band dual contouring with both sheets, as theirs makes: distance to the input and edges of one face."""
    v, f, said = _given(setting, damaged=False)
    if len(f) <= 8:
        return
    resolution, project = int(setting.one_of(32, 64, 128)), float(setting.one_of(0.0, 0.9))
    said = f"{said}, {resolution}^3, project {project}"
    scale = (resolution + 3) / resolution
    theirs = setting.modules["cumesh"].remeshing.remesh_narrow_band_dc(
        v, f, torch.zeros(3, device=v.device), scale, resolution, band=1, project_back=project
    )
    box = [[-scale / 2] * 3, [scale / 2] * 3]
    ours = mesh.remesh_dual_contouring(v, f, resolution=resolution, band=1.0, project=project, shell="both", aabb=box)
    for who, made in (("ours", ours), ("theirs", theirs)):
        far = float(mesh.Bvh(v, f).closest_point(made[0])[0].max()) * resolution / scale
        yield Finding(said, f"{who}: farthest vertex from the input, in voxels", far, 2.0)
        open_edges = len(mesh.boundary_edges(made[1]))
        yield Finding(said, f"{who}: edges of one face", open_edges, 0 if who == "ours" else 10**9)
    yield Finding(said, "faces, ours over theirs less 1", abs(len(ours[1]) / max(1, len(theirs[1])) - 1), 0.02)
    gap = _distance(*ours, *theirs) * resolution / scale
    kind, limit = (", soup", 1.0) if "soup" in said else ("", 0.5)  # thin triangles alone, of a few cells
    yield Finding(said, f"surfaces apart, in voxels{kind}", gap, limit)


@case("cumesh", share=0.25)
def unwrapping(setting: Setting) -> Iterator[Finding]:
    """uv_unwrap, by our own measure: faults of ours, and how the two stretch, fill and cut."""
    v, f, said = _given(setting, damaged=False)
    if len(f) <= 16 or not _adjacent(f):
        return
    v, f = mesh.simplify(v, f, target_faces=len(f) // 2)
    made = {
        "ours": mesh.unwrap_uv(v, f, resolution=1024),
        "theirs": _held(setting, v, f).uv_unwrap(return_vmaps=True),
    }
    for who, result in made.items():
        new_v, new_f, uv, origin = (x.to(v.device) for x in result[:4])
        report = mesh.measure_uv(new_v.contiguous(), new_f.int().contiguous(), uv.float().contiguous(), resolution=1024)
        limit = 0.0 if who == "ours" else float("inf")
        moved = share((v[origin.long()] - new_v).abs().amax(1) > 0)
        yield Finding(said, f"{who}: vertices of another place than their origin's", moved, limit)
        yield Finding(said, f"{who}: faces less than given", abs(len(f) - len(new_f)), limit)
        faults = report.overlapping_faces + report.flipped_faces + report.outside_faces
        yield Finding(said, f"{who}: faces that overlap, turn over or lie outside", faults, limit)
        for name in ("charts", "stretch_l2", "utilisation"):
            yield Finding(said, f"{who}: {name}", getattr(report, name), float("inf"))
