"""Shading normals taken over from the surface that a mesh was made from."""

import math

import pytest
import torch
import trellis_mesh as mesh
import trimesh
from trellis_pipeline.export import Mesh, Reference
from trellis_pipeline.export.normals import corner_normals

unit = torch.nn.functional.normalize


def as_mesh(shape):
    return Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces, dtype=torch.int32))


def taken(shape, source, normals, reach=0.5):
    return corner_normals(shape, Reference(source, normals), mesh.Bvh(source.vertices, source.faces), reach)


def roof(degrees, top=1.0):
    """Two flat sides that meet at a ridge along y, each face turned by `degrees` from the other."""
    drop = math.tan(math.radians(degrees / 2))
    v = torch.tensor([[-1, 0, -drop], [0, 0, 0], [1, 0, -drop], [-1, 1, -drop], [0, 1, 0], [1, 1, -drop]]) * top
    return Mesh(v, torch.tensor([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]], dtype=torch.int32))


def test_another_tessellation_of_a_smooth_surface_is_as_smooth():
    """Of some hundred faces a ball's own normals show where the edges are; its source's do not."""
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(4)).double()
    ball = trimesh.Trimesh(unit(points, dim=1).numpy()).convex_hull
    ball.fix_normals()
    source, shape = as_mesh(trimesh.creation.icosphere(subdivisions=2)), as_mesh(ball)
    normals, kinds = taken(shape, source, unit(source.vertices, dim=1))
    radial = unit(shape.vertices, dim=1)[shape.faces.long()]
    assert ((normals * radial).sum(2) > 0.998).all()
    own = corner_normals(shape)[0]
    assert (own * radial).sum(2).min() < 0.99  # so there was something to mend
    vertices = len(shape.faces.unique())
    assert len(kinds.unique()) == vertices  # and no vertex of the file is split for it


def test_an_edge_of_the_source_stays_an_edge_however_flat_it_is():
    """30 degrees are below the crease angle, so the mesh alone would be smooth there."""
    split = roof(30)
    flat = mesh.face_normals(split.vertices, split.faces).repeat_interleave(3, 0)
    source = Mesh(split.vertices[split.faces.long()].view(-1, 3), torch.arange(12, dtype=torch.int32).view(4, 3))
    normals, kinds = taken(roof(30), source, flat)
    assert (normals.view(-1, 3) - flat).abs().max() < 0.01
    ridge = (roof(30).faces == 1).view(-1)
    assert len(kinds.view(-1)[ridge].unique()) == 2
    assert len(corner_normals(roof(30))[1].view(-1)[ridge].unique()) == 1
    # Corners that share a kind share a normal, which is what a file stores.
    for kind in kinds.unique():
        assert len(normals[kinds == kind].unique(dim=0)) == 1


def test_sides_of_an_edge_are_smooth_within_themselves():
    """A cylinder's lid and wall: each corner has its side's normal to a hair, and there are two at each rim vertex."""
    tube = as_mesh(trimesh.creation.cylinder(radius=1, height=1, sections=24))
    flat = mesh.face_normals(tube.vertices, tube.faces)
    lid = flat[:, 2].abs() > 0.5
    corners = tube.vertices[tube.faces.long()]
    exact = torch.where(lid[:, None, None], flat[:, None], unit(corners * torch.tensor([1.0, 1, 0]), dim=2))
    source = Mesh(corners.reshape(-1, 3), torch.arange(3 * len(flat), dtype=torch.int32).view(-1, 3))
    normals, kinds = taken(tube, source, exact.reshape(-1, 3))
    assert ((normals * exact).sum(2) > 0.999).all()
    rim = tube.vertices[:, :2].norm(dim=1) > 0.5
    assert len(kinds.unique()) == 2 * int(rim.sum()) + int((~rim).sum())


def test_the_back_of_a_sheet_has_the_front_s_normal_turned_over():
    sheet = roof(0)
    back = Mesh(sheet.vertices - torch.tensor([0, 0, 0.01]), sheet.faces.flip(1))
    leaning = unit(torch.tensor([[0.2, 0.0, 1.0]]), dim=1).expand(6, 3).contiguous()
    normals, _ = taken(back, sheet, leaning)
    assert (normals + leaning[0]).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("normals", "reach"),
    [
        (torch.zeros(6, 3), 0.5),  # a source that has none
        (torch.tensor([[0.0, 1, 0]]).expand(6, 3).contiguous(), 0.5),  # along the surface: of something else
        (unit(torch.tensor([[0.5, 0.0, 1.0]]), dim=1).expand(6, 3).contiguous(), 1e-3),  # too far away
    ],
)
def test_what_cannot_be_its_own_is_not_taken(normals, reach):
    shape = Mesh(roof(30).vertices + torch.tensor([0, 0, 0.01]), roof(30).faces)
    own = corner_normals(shape)
    got = taken(shape, roof(30), normals, reach)
    assert torch.equal(got[0], own[0])
    for kind in own[1].unique():
        assert len(got[1][own[1] == kind].unique()) == 1


def test_without_a_source_the_mesh_shades_itself():
    own, leaders = mesh.corner_normals(roof(80).vertices, roof(80).faces, crease_angle=50)
    normals, kinds = corner_normals(roof(80))
    assert torch.equal(normals, own) and torch.equal(kinds, leaders.long())
