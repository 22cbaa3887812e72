"""Cleaning, orienting and simplifying on shapes whose right answers are known."""

import numpy as np
import pytest
import torch
import trimesh
from trellis_mesh import Bvh
from trellis_pipeline.export import Mesh, clean, orient, orient_outward, remesh, simplify
from trellis_pipeline.export.visibility import front_seen


def tensors(m):
    return torch.tensor(np.asarray(m.vertices), dtype=torch.float32), torch.tensor(
        np.asarray(m.faces), dtype=torch.int32
    )


def volume(v, f):
    p = v.double()[f.long()]
    return float((p[:, 0] * torch.linalg.cross(p[:, 1], p[:, 2])).sum() / 6)


def test_each_component_turns_the_way_its_source_faces():
    """A solid ball beside a cavity: the source winds one outward and the other inward, and so must the result."""
    solid, cavity = trimesh.creation.icosphere(2), trimesh.creation.icosphere(2)
    cavity.apply_translation((3, 0, 0))
    cavity.invert()
    source_v, source_f = tensors(trimesh.util.concatenate([solid, cavity]))
    scrambled = source_f.clone()
    turn = torch.from_numpy(np.random.default_rng(0).random(len(scrambled)) < 0.5)
    scrambled[turn] = scrambled[turn].flip(1)
    for target in (scrambled, source_f.flip(1), source_f):
        result = orient(Mesh(source_v, target), Bvh(source_v, source_f), source_v, source_f)
        left = (result.vertices[result.faces.long()].mean(1)[:, 0] < 1.5).nonzero().flatten()
        right = (result.vertices[result.faces.long()].mean(1)[:, 0] > 1.5).nonzero().flatten()
        assert len(left) == len(right) == 320
        assert volume(result.vertices, result.faces[left]) > 3.9
        assert volume(result.vertices - torch.tensor([3.0, 0, 0]), result.faces[right]) < -3.9


@pytest.mark.parametrize("share_turned", [0.45, 0.55])
def test_where_the_source_contradicts_itself_out_decides(share_turned):
    """A ball of which nearly half is wound inward: whichever half is larger by a little, its surface faces outward."""
    ball = trimesh.creation.icosphere(4)
    order = np.argsort(ball.triangles_center[:, 2])
    turned = ball.faces.copy()
    turned[order[: int(share_turned * len(order))]] = np.flip(turned[order[: int(share_turned * len(order))]], 1)
    source_v, source_f = tensors(trimesh.Trimesh(ball.vertices, turned, process=False))
    target_v, target_f = tensors(trimesh.creation.icosphere(3))
    for target in (target_f, target_f.flip(1)):
        result = orient(Mesh(target_v, target), Bvh(source_v, source_f), source_v, source_f)
        assert volume(result.vertices, result.faces) > 3.9


def test_without_a_source_faces_turn_away_from_the_material():
    """A hollow ball with an island in its cavity, beside an open bowl: each surface on its own side."""
    shell, cavity, island = (trimesh.creation.icosphere(3, r) for r in (1.0, 0.7, 0.3))
    bowl = trimesh.creation.icosphere(3)
    bowl = trimesh.Trimesh(bowl.vertices, bowl.faces[bowl.triangles_center[:, 2] < 0.8], process=False)
    bowl.apply_translation((4, 0, 0))
    v, f = tensors(trimesh.util.concatenate([shell, cavity, island, bowl]))
    turn = torch.from_numpy(np.random.default_rng(0).random(len(f)) < 0.5)
    scrambled = torch.where(turn[:, None], f.flip(1), f)
    result = orient_outward(Mesh(v, scrambled))
    parts = np.split(result.faces.numpy(), np.cumsum([len(m.faces) for m in (shell, cavity, island)]))
    signed = [trimesh.Trimesh(v.numpy(), p, process=False).volume for p in parts[:3]]
    np.testing.assert_allclose(signed, [shell.volume, -cavity.volume, island.volume], rtol=1e-5)
    outward = trimesh.Trimesh(v.numpy(), parts[3], process=False)
    assert ((outward.triangles_center - (4, 0, 0)) * outward.face_normals).sum(1).min() > 0


def test_an_empty_mesh_has_no_sides():
    assert len(orient_outward(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int32))).faces) == 0


def test_remeshing_leaves_one_closed_shell():
    shell, inner = trimesh.creation.icosphere(4, 0.4), trimesh.creation.icosphere(4, 0.38)
    v, f = tensors(trimesh.util.concatenate([shell, inner]))
    result, facts = remesh(Mesh(v, f[5:]), 64)  # and a hole
    closed = trimesh.Trimesh(result.vertices.numpy(), result.faces.numpy(), process=False)
    assert closed.is_watertight and closed.body_count == 1
    assert abs(closed.volume - shell.volume) < 0.05 * shell.volume
    assert facts["faces_out"] == len(result.faces)


def test_cleaning_closes_pinholes_drops_specks_and_keeps_the_object():
    ball = trimesh.creation.icosphere(5, radius=0.2)
    v, f = tensors(ball)
    speck = torch.tensor([[0.49, 0.49, 0.49], [0.4901, 0.49, 0.49], [0.49, 0.4901, 0.49]])
    f = torch.cat(
        [
            f[1:],
            f[7:8],
            torch.tensor([[5, 5, 9]], dtype=torch.int32),
            torch.tensor([[0, 1, 2]], dtype=torch.int32) + len(v),
        ]
    )
    result, counts = clean(Mesh(torch.cat([v, speck]), f), min_fraction=1e-6)
    assert trimesh.Trimesh(result.vertices.numpy(), result.faces.numpy(), process=False).is_watertight
    assert len(result.faces) == len(ball.faces)
    assert counts["removed_components"] == 1 and counts["removed_faces"] == 1
    assert volume(result.vertices, result.faces) > 0.99 * ball.volume


def test_the_largest_component_survives_any_threshold():
    v, f = tensors(trimesh.creation.icosphere(2))
    result, counts = clean(Mesh(v, f), min_fraction=0.999)
    assert len(result.faces) == len(f) and counts["removed_components"] == 0


def test_simplifying_to_more_faces_than_there_are_changes_nothing():
    v, f = tensors(trimesh.creation.icosphere(2))
    result, facts = simplify(Mesh(v, f), 10_000)
    assert torch.equal(result.faces, f) and facts["faces_out"] == len(f)


def test_simplifying_meets_its_count():
    v, f = tensors(trimesh.creation.icosphere(4))
    result, facts = simplify(Mesh(v, f), 1000)
    assert 900 <= len(result.faces) == facts["faces_out"] <= 1000


def _thin_box(height):
    """A closed box 0.4 x 0.4 x `height` as a source, and its upper side alone as what a coarse grid makes of it."""
    box = trimesh.creation.box((0.4, 0.4, height))
    sheet = trimesh.Trimesh([[-0.2, -0.2, 0], [0.2, -0.2, 0], [0.2, 0.2, 0], [-0.2, 0.2, 0]], [[0, 1, 2], [0, 2, 3]])
    for _ in range(4):
        sheet = sheet.subdivide()
    return tensors(box), sheet


@pytest.mark.parametrize("below", [True, False])
def test_a_sheet_that_was_a_thin_wall_shows_its_front_to_the_side_that_is_seen(below):
    """The two sides of a wall thinner than a voxel become one sheet; a closed body on one side of it hides its back."""
    (source_v, source_f), sheet = _thin_box(0.01)
    source_v[:, 2] += 0.001 * source_v[:, 0].sign() * source_v[:, 1].sign()  # so that either side is nearer somewhere
    lid = trimesh.creation.box((0.6, 0.6, 0.2))
    lid.apply_translation((0, 0, -0.12 if below else 0.12))
    v, f = tensors(sheet)
    lid_v, lid_f = tensors(lid)
    everything = torch.cat([source_v, lid_v]), torch.cat([source_f, lid_f + len(source_v)])
    for side in (f, f.flip(1)):
        target = Mesh(torch.cat([v, lid_v]), torch.cat([side, lid_f + len(v)]))
        result = orient(target, Bvh(*everything), *everything)
        corners = result.vertices[result.faces[: len(f)].long()]
        up = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
        assert bool((up > 0).all() if below else (up < 0).all())


def test_which_side_of_a_face_is_seen():
    """Of a closed ball the front, of its cavity neither, of a sheet both alike, and of a ball wound inward the back."""
    ball, cavity = trimesh.creation.icosphere(3, 0.4), trimesh.creation.icosphere(3, 0.3)
    cavity.invert()
    v, f = tensors(trimesh.util.concatenate([ball, cavity]))
    seen = front_seen(Bvh(v, f), v[f.long()])
    assert seen[: len(ball.faces)].min() > 0.8 and seen[len(ball.faces) :].abs().max() == 0
    turned = f[: len(ball.faces)].flip(1)
    assert front_seen(Bvh(v, turned), v[turned.long()]).max() < -0.8
    sheet_v, sheet_f = tensors(_thin_box(0.1)[1])
    assert front_seen(Bvh(sheet_v, sheet_f), sheet_v[sheet_f.long()]).abs().max() < 0.1
