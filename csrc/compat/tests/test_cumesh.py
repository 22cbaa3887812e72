"""cumesh's conventions: a mesh changed in place, closest points with weights, remeshing in a cube around a centre."""

import pytest
import torch
import trellis_mesh
import trimesh


def tensors(mesh):
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int32)


@pytest.fixture(scope="module")
def sphere():
    return tensors(trimesh.creation.icosphere(subdivisions=3, radius=0.4))


def cumesh_of(vertices, faces):
    import cumesh

    mesh = cumesh.CuMesh()
    mesh.init(vertices, faces)
    return mesh


def test_counts_and_tables(sphere):
    v, f = sphere
    mesh = cumesh_of(v, f[1:])
    for table in ("edges", "boundary_info", "vertex_edge_adjacency", "vertex_boundary_adjacency"):
        getattr(mesh, f"get_{table}")()
    assert (mesh.num_vertices, mesh.num_faces, mesh.num_edges) == (642, 1279, 1920)
    assert (mesh.num_boundaries, mesh.num_boundary_loops, mesh.num_conneted_components) == (3, 1, 1)
    count, labels = mesh.read_connected_components()
    assert count == 1 and labels.shape == (1279,)
    pairs = {frozenset(pair) for pair in mesh.read_manifold_boundary_adjacency().tolist()}
    assert pairs == {frozenset(p) for p in ((0, 1), (1, 2), (0, 2))}


def test_boundary_pairs_leave_out_vertices_of_two_loops():
    # Two triangles that touch at vertex 2: it has four boundary edges, each other vertex two.
    mesh = cumesh_of(torch.rand(5, 3), torch.tensor([[0, 1, 2], [2, 3, 4]]))
    edges = trellis_mesh.boundary_edges(mesh.read()[1])
    shared = [set(edges[a].tolist()) & set(edges[b].tolist()) for a, b in mesh.read_manifold_boundary_adjacency()]
    assert sorted(s.pop() for s in shared) == [0, 1, 3, 4]


def test_holes_are_filled_and_counts_follow(sphere):
    v, f = sphere
    mesh = cumesh_of(v, f[1:])
    assert mesh.num_boundaries == 3
    mesh.fill_holes(max_hole_perimeter=1e-3)
    assert mesh.num_boundaries == 3
    mesh.fill_holes(max_hole_perimeter=1.0)
    assert (mesh.num_boundaries, mesh.num_faces) == (0, 1280)


def test_read_gives_copies(sphere):
    mesh = cumesh_of(*sphere)
    mesh.read()[0].zero_()
    assert torch.equal(mesh.read()[0], sphere[0])
    assert mesh.read()[1].dtype == torch.int32


def test_faces_of_the_mask_stay(sphere):
    v, f = sphere
    mask = torch.zeros(len(f), dtype=torch.bool)
    mask[7] = True
    mesh = cumesh_of(v, f)
    mesh.remove_faces(mask)
    assert (mesh.num_faces, mesh.num_vertices) == (1, 3)
    assert torch.equal(mesh.read()[0][mesh.read()[1].long()[0]], v[f[7].long()])
    with pytest.raises(ValueError, match=r"face_mask: expected shape \[1\]"):
        mesh.remove_faces(mask)


def test_cleaning_goes_to_our_functions(sphere):
    v, f = sphere
    far = torch.tensor([[5.0, 5, 5], [5.001, 5, 5], [5, 5.001, 5], [9, 9, 9]])
    extra = torch.tensor([[642, 643, 644], [0, 0, 1]], dtype=torch.int32)
    mesh = cumesh_of(torch.cat([v, far]), torch.cat([f, f[:2, [1, 2, 0]], extra, f[:1, [0, 1]][:, [0, 1, 1]]]))
    mesh.remove_degenerate_faces()
    assert mesh.num_faces == 1283 and mesh.num_vertices == 645
    mesh.remove_duplicate_faces()
    assert mesh.num_faces == 1281
    mesh.remove_small_connected_components(1e-5)
    assert (mesh.num_faces, mesh.num_vertices) == (1280, 642)
    mesh.remove_small_connected_components(100.0)
    assert mesh.num_faces == 1280  # the largest stays
    turned = f.clone()
    turned[3] = turned[3, [0, 2, 1]]
    mesh = cumesh_of(v, turned)
    mesh.unify_face_orientations()
    assert trimesh.Trimesh(*[t.numpy() for t in mesh.read()], process=False).is_winding_consistent
    mesh = cumesh_of(v, f[:, [0, 2, 1]])
    mesh.unify_face_orientations()
    assert torch.equal(mesh.read()[1], f)
    fin = cumesh_of(torch.cat([v, far[:1]]), torch.cat([f, torch.tensor([[*f[0, :2].tolist(), 642]])]))
    fin.repair_non_manifold_edges()
    assert fin.num_vertices > 643
    fin.remove_unreferenced_vertices()


def test_simplify(sphere, capsys):
    mesh = cumesh_of(*sphere)
    mesh.simplify(400, verbose=True)
    assert 360 <= mesh.num_faces <= 400 and "1280 to" in capsys.readouterr().out
    before = mesh.num_faces
    mesh.simplify(100000, options={})
    assert mesh.num_faces == before
    with pytest.warns(UserWarning, match=r"CuMesh\.simplify: thresh steer"):
        mesh.simplify(100000, options={"thresh": 1e-6})
    with pytest.raises(TypeError, match=r"simplify options: expected some of .*thresh, got speed"):
        mesh.simplify(100, options={"speed": 1})


def test_normals(sphere):
    v, f = sphere
    mesh = cumesh_of(v, f)
    mesh.compute_vertex_normals()
    mesh.compute_face_normals()
    assert (mesh.read_vertex_normals() * v).sum(1).min() > 0.39
    assert torch.equal(mesh.read_face_normals(), trellis_mesh.face_normals(v, f))
    mesh.clear_cache()
    assert mesh.read_vertex_normals().shape == v.shape


def test_uv_unwrap_maps_back_to_the_vertices_of_the_mesh(sphere):
    v, f = sphere
    spare = torch.tensor([[9.0, 9, 9]])  # used by a face without area alone: what callers keep by vertex must still fit
    mesh = cumesh_of(torch.cat([spare, v]), torch.cat([torch.zeros(1, 3, dtype=torch.int32), f + 1]))
    out = mesh.uv_unwrap(
        compute_charts_kwargs={"threshold_cone_half_angle_rad": 1.5, "refine_iterations": 0},
        xatlas_pack_charts_kwargs={"padding": 4, "resolution": 512},
        return_vmaps=True,
    )
    vertices, faces, uv, vertex_map = out
    assert [t.dtype for t in out] == [torch.float32, torch.int32, torch.float32, torch.int32]
    assert mesh.num_faces == len(faces) == len(f) and mesh.num_vertices == len(v) + 1
    assert torch.equal(mesh.read()[0][vertex_map], vertices)
    assert torch.equal(vertex_map[faces.long()], f + 1)
    assert uv.min() >= 0 and uv.max() <= 1 and trellis_mesh.measure_uv(vertices, faces, uv).valid
    assert len(mesh.uv_unwrap()) == 3
    with pytest.raises(TypeError, match=r"compute_charts_kwargs: expected some of .* got speed"):
        mesh.uv_unwrap(compute_charts_kwargs={"speed": 1})


def test_unsigned_distance(sphere):
    import cumesh

    v, f = sphere
    bvh = cumesh.cuBVH(v.numpy(), f)
    points = torch.randn(4, 5, 3, dtype=torch.float64)
    distance, face, weights = bvh.unsigned_distance(points, return_uvw=True)
    assert (distance.shape, face.shape, weights.shape) == ((4, 5), (4, 5), (4, 5, 3))
    assert face.dtype == torch.int64
    foot = (v[f[face].long()] * weights[..., None]).sum(-2)
    torch.testing.assert_close((foot - points).norm(dim=-1).float(), distance, atol=1e-5, rtol=1e-5)
    assert ((points.norm(dim=-1) - 0.4).abs() - distance).abs().max() < 5e-3
    assert bvh.unsigned_distance(points)[2] is None


@pytest.mark.parametrize("mode", ["watertight", "raystab"])
def test_signed_distance_is_negative_inside(sphere, mode):
    import cumesh

    v, f = sphere
    points = torch.randn(4, 50, 3) * 0.3
    bvh = cumesh.cuBVH(v, f if mode == "watertight" else f[3:])
    distance, face, weights = bvh.signed_distance(points, return_uvw=True, mode=mode)
    expected = points.norm(dim=-1) - 0.4
    clear = expected.abs() > 0.01
    near = bvh.unsigned_distance(points)
    assert torch.equal(distance.abs(), near[0]) and torch.equal(face, near[1]) and weights.shape == (4, 50, 3)
    wrong = (distance[clear] > 0) != (expected[clear] > 0)
    # Through three faces taken away near the top some point may look out.
    assert wrong.sum() <= (0 if mode == "watertight" else 0.1 * clear.sum())
    assert (expected[clear] < 0).any() and (expected[clear] > 0).any()
    with pytest.raises(ValueError, match="mode: expected"):
        bvh.signed_distance(points, mode="winding")


def test_rays_reach_the_sphere_or_a_thousand(sphere):
    import cumesh

    v, f = sphere
    origins = torch.tensor([[[0.0, 0.0, 2.0], [0.05, 0.02, 0.0]], [[0.0, 3.0, 0.0], [2.0, 0.0, 0.0]]])
    directions = torch.tensor([[[0.0, 0.0, -0.5], [0.0, 2.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]])
    at, face, depth = cumesh.cuBVH(v, f).ray_trace(origins, directions)
    assert (at.shape, face.shape, depth.shape) == ((2, 2, 3), (2, 2), (2, 2))
    assert (face >= 0).tolist() == [[True, True], [False, False]]
    assert depth[1].tolist() == [1000.0] * 2 and face[1].tolist() == [-1] * 2
    torch.testing.assert_close(depth[0], torch.tensor([3.2, 0.1884]), atol=5e-3, rtol=0)
    torch.testing.assert_close(at, origins + depth[..., None] * directions)
    assert (at[0].norm(dim=1) - 0.4).abs().max() < 5e-3


def test_remesh_in_a_cube_around_a_centre(sphere, capsys):
    import cumesh

    v, f = sphere
    v = v + torch.tensor([3.0, 0, 0])
    center = torch.tensor([3.0, 0, 0])
    settings = {"resolution": 32, "band": 1, "project_back": 0.0, "bvh": cumesh.cuBVH(v, f)}
    new_v, new_f = cumesh.remeshing.remesh_narrow_band_dc(v, f, center=center, scale=1.1, verbose=True, **settings)
    assert "Remeshed" in capsys.readouterr().out
    # Two sheets, a cell of 1.1 / 32 outside and inside.
    assert trellis_mesh.connected_components(new_f, len(new_v))[0] == 2
    radius = (new_v - center).norm(dim=1)
    off = (radius - 0.4).abs()
    assert off.min() > 0.6 * 1.1 / 32 and off.max() < 1.4 * 1.1 / 32
    back, _ = cumesh.remeshing.remesh_narrow_band_dc(v, f, center, 1.1, 32, 1, 1.0)
    assert ((back - center).norm(dim=1) - 0.4).abs().mean() < 0.01
    with pytest.raises(ValueError, match="aabb: expected a cube that holds the mesh"):
        cumesh.remeshing.remesh_narrow_band_dc(v, f, torch.zeros(3), 1.1, 32)
