"""What a gate means: sound assets of other kinds than the road's sample pass it, and the fault that they resemble does not."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from test_measure import BALL, hollow_box, model
from trellis_regression import thresholds
from trellis_regression.asset import Asset
from trellis_regression.detectors import BY_NAME
from trellis_regression.gate import judge
from trellis_regression.glb import GlbError
from trellis_regression.inject import Model, look, shape
from trellis_regression.inject.shape import voxel_stairs
from trellis_regression.profile import Looks, gather
from trellis_regression.sample.geometry import together

NO_PICTURES = Looks(views=())
LIMITS = thresholds.load()


def fired(made, golden=None, *, one_sided=False):
    """The gates that fire on a model, by itself or against another."""
    data = made.write()
    asset = Asset.parse(data.replace(b'"doubleSided": true', b'"doubleSided":false') if one_sided else data)
    against = None if golden is None else Asset.parse(golden.write())
    verdict = judge(gather(asset, golden=against, looks=NO_PICTURES), LIMITS)
    # Each face of these models is a chart of its own.
    return {x.name for x in verdict.findings if x.status in ("fired", "consequence")} - {"sliver-charts"}


def balls(turned, of=3):
    """Equal balls, three or more, the first `turned` of them inside out."""
    made = [BALL.copy().apply_translation((3 * (i % 3), 3 * (i // 3), 0)) for i in range(of)]
    for ball in made[:turned]:
        ball.invert()
    return model(together(*made))


def scrambled(mesh, share):
    faces = mesh.faces.copy()
    turned = np.random.default_rng(0).random(len(faces)) < share
    faces[turned] = faces[turned][:, ::-1]
    return model(trimesh.Trimesh(mesh.vertices, faces, process=False))


def test_a_part_turned_as_a_whole_is_seen_where_its_back_is_not_drawn():
    assert fired(balls(1)) == set()
    assert fired(balls(1), one_sided=True) == {"flipped-winding"}
    assert fired(balls(0), one_sided=True) == set()
    # Most of an asset inside out is no part of it.
    assert fired(balls(2)) == fired(balls(3)) == {"flipped-winding"}


def test_against_a_golden_a_turned_part_of_any_material_is_a_fault():
    """Its winding is known, and the part has an outside; of nine balls one is a ninth of the asset."""
    for turned in (1, 2, 3):
        assert fired(balls(turned), balls(0)) == {"flipped-winding"}
        assert fired(balls(turned), balls(0), one_sided=True) == {"flipped-winding"}
    assert fired(balls(0), balls(0)) == set()
    assert fired(balls(1, of=9), balls(0, of=9)) == {"flipped-winding"}
    # A pot is open: from inside it light gets out as well. Its wall is thicker than a counterpart is looked for in front.
    profile = np.array([[0, 0], [1, 0], [1, 1], [0.7, 1], [0.7, 0.3], [0, 0.3]])
    pot = trimesh.creation.revolve(profile, sections=48).subdivide()
    stand = trimesh.creation.box((2, 2, 1)).apply_translation((0, 0, -1))
    turned = pot.copy()
    turned.invert()
    assert fired(model(together(turned, stand)), model(together(pot, stand))) == {"flipped-winding"}


def test_faces_that_disagree_with_their_neighbours_are_a_fault_of_any_material():
    for share in (0.03, 0.1, 0.5):
        assert "flipped-winding" in fired(scrambled(BALL, share))


def test_a_sheet_has_no_outside():
    """Turned over as a whole, as another build may, it is the same; half of it turned is torn by conflicts."""
    sheet = trimesh.creation.box((1, 1, 0.01)).subdivide().subdivide().subdivide()
    sheet = trimesh.Trimesh(sheet.vertices, sheet.faces[sheet.face_normals[:, 2] > 0.9])
    frame = trimesh.creation.box((1, 1, 1)).apply_translation((0, 0, -2))
    turned = sheet.copy()
    turned.invert()
    assert fired(model(together(turned, frame)), model(together(sheet, frame))) == set()
    assert "flipped-winding" in fired(scrambled(sheet, 0.1), model(sheet))


def test_a_cupboard_is_no_double_shell_and_a_wall_that_one_build_resolves_adds_none():
    cupboard = model(hollow_box(0.01, 0.02, 0.03, 0.02, 0.03, 0.04))
    assert "double-shell" not in fired(cupboard) | fired(cupboard, cupboard)
    inner = BALL.copy().apply_scale(0.97)
    inner.invert()
    assert "double-shell" in fired(model(together(BALL, inner)))
    assert "double-shell" in fired(model(together(BALL, inner)), model(BALL))
    # A thin board is one sheet at one resolution and two walls at another; that is a part of the asset.
    board = trimesh.creation.box((1.2, 1.2, 0.02)).apply_translation((0, 0, -1.5))
    sheet = trimesh.Trimesh(board.vertices, board.faces[board.face_normals[:, 2] > 0.9])
    assert "double-shell" not in fired(model(together(BALL, board)), model(together(BALL, sheet)))


def painted(rgba, surface, mode="OPAQUE"):
    made = model(BALL, np.full((128, 128, 4), rgba, np.uint8), alpha_mode=mode, keep_alpha=True)
    made.surface[..., :3] = surface
    return made


def test_a_black_thing_is_not_a_sampler_that_read_nothing():
    bench = painted((0, 0, 0, 255), (0, 128, 0))
    assert fired(bench, bench) == set()
    bench.base[:, :32, :3] = 120  # legs of another colour
    assert "black-texture" not in fired(bench)
    bench.surface[..., :3] = 0
    assert "black-texture" in fired(bench)


def test_a_surface_without_any_colour_is_black_whatever_else_its_texture_says():
    """A base colour that was lost behind a roughness that was not."""
    assert fired(painted((0, 0, 0, 255), (0, 128, 0))) == {"black-texture"}
    almost = painted((0, 0, 0, 255), (0, 128, 0))
    almost.base[60:64, :, :3] = 200
    assert fired(almost) == {"black-texture"}
    # Against a golden black is enough.
    assert "black-texture" in fired(painted((0, 0, 0, 255), (0, 128, 0)), painted((200, 0, 0, 255), (0, 128, 0)))


def test_glass_is_not_invisible():
    glass, solid = painted((90, 120, 200, 50), (0, 128, 0), "BLEND"), painted((90, 120, 200, 255), (0, 128, 0))
    assert "transparent" not in fired(glass) and "transparent" not in fired(glass, glass)
    assert "transparent" in fired(glass, solid)
    assert "transparent" in fired(painted((90, 120, 200, 0), (0, 128, 0), "BLEND"))
    assert "alpha-lost" in fired(solid, glass)


def test_boards_at_right_angles_are_no_stair_of_voxels():
    """A pallet: as many right-angled edges as cells would give, on no lattice."""
    random = np.random.default_rng(0)
    boards = []
    for x in np.cumsum(random.uniform(0.06, 0.11, 14)):
        board = trimesh.creation.box(random.uniform((0.03, 0.9, 0.012), (0.05, 1.2, 0.016)))
        boards.append(board.apply_translation((x, *random.uniform(0, 0.1, 2))))
    pallet = model(together(*boards))
    found = gather(Asset.parse(pallet.write()), looks=NO_PICTURES).shape
    assert found["step_density"] * found["axis_aligned_share"] > 40
    assert "blocky" not in fired(pallet)
    for cells in (16, 32):
        assert "blocky" in fired(voxel_stairs(model(BALL), cells, random))
    # A lattice finer than those that are looked for, where edges alone tell.
    fine = {
        **found, "step_density": 300.0, "inward_step_density": 140.0, "axis_aligned_share": 1.0, "lattice_coherence": 0.1,
    }  # fmt: skip
    made = gather(Asset.parse(pallet.write()), looks=NO_PICTURES)
    assert BY_NAME["blocky"].alone(replace(made, shape=fine)) > LIMITS["blocky", "alone"].value


def test_slats_on_a_lattice_are_no_stair_as_they_turn_outward_only():
    """Shelves: as many right-angled edges as 32 cells give, all on a lattice."""
    slats = [trimesh.creation.box((1, 1 / 32, 1 / 32)).apply_translation((0, i / 8, 0)) for i in range(9)]
    shelves = model(together(*slats))
    found = gather(Asset.parse(shelves.write()), looks=NO_PICTURES).shape
    assert found["step_density"] * found["axis_aligned_share"] * found["lattice_coherence"] ** 2 > 20
    assert "blocky" not in fired(shelves)
    assert "blocky" in fired(voxel_stairs(model(BALL), 32, np.random.default_rng(0)))


def test_a_closed_pot_has_one_wall():
    """Its inside is at one distance behind all of its outside and seen by nobody, as a second shell is; a rim joins them."""
    profile = np.array([[0, 0], [1, 0], [1, 1], [0.95, 1], [0.95, 0.05], [0, 0.05]])
    pot = trimesh.creation.revolve(profile, sections=48).subdivide().subdivide()
    lid = trimesh.creation.cylinder(1.05, 0.04, sections=48).apply_translation((0, 0, 1.021))
    found = gather(Asset.parse(model(together(pot, lid)).write()), looks=NO_PICTURES).shape
    assert found["two_walls_share"] > 0.8 and found["shell_share"] < 0.05
    assert "double-shell" not in fired(model(together(pot, lid)))
    outer = trimesh.creation.cylinder(1.0, 1.0, sections=48).subdivide().subdivide().apply_translation((0, 0, 0.5))
    inner = trimesh.creation.cylinder(0.95, 0.9, sections=48).subdivide().subdivide().apply_translation((0, 0, 0.5))
    inner.invert()
    assert fired(model(together(outer, inner))) == {"double-shell"}


def test_glass_of_many_layers_does_not_ripple_as_weights_do():
    """What lies behind it changes from texel to texel, its colour too; weights scale alpha and colour by one factor."""
    random = np.random.default_rng(0)
    glass = painted((200, 150, 100, 255), (0, 128, 0), "BLEND")
    glass.base[:64, :, 3] = random.integers(60, 200, (64, 128))
    glass.base[..., :3] = random.integers(60, 200, (128, 128, 1))
    rippling = painted((200, 150, 100, 255), (0, 128, 0), "BLEND")
    rippling.base[...] = rippling.base * random.uniform(0.3, 0.9, (128, 128, 1))
    shares = [
        gather(Asset.parse(x.write()), looks=NO_PICTURES).texture["alpha_ripple_share"] for x in (glass, rippling)
    ]
    assert shares[0] < 0.05 and shares[1] > 0.4
    assert "unnormalised-trilinear" not in fired(glass) and "unnormalised-trilinear" in fired(rippling)
    plain = painted((200, 150, 100, 255), (0, 128, 0), "BLEND")  # one colour, and alpha of any kind
    plain.base[..., 3] = random.integers(60, 200, (128, 128))
    assert "unnormalised-trilinear" not in fired(plain)


def test_charts_that_share_the_texels_of_a_palette_waste_none():
    """Rubble: every stone is a point of one small picture. The same charts side by side are an atlas of crumbs."""
    stones = model(BALL)
    colours = np.random.default_rng(0).integers(0, 4, len(BALL.faces)) / 4 + 1 / 8
    middle = np.stack([colours, colours], 1).repeat(3, 0)
    palette = replace(stones, uv=(middle + 1e-3 * (stones.uv - 0.5)).astype(np.float32))
    crumbs = model(BALL, np.full((64, 64, 4), 200, np.uint8))
    limit = LIMITS["sliver-charts", "alone"].value
    figures = [
        BY_NAME["sliver-charts"].alone(gather(Asset.parse(x.write()), looks=NO_PICTURES)) for x in (palette, crumbs)
    ]
    assert figures[0] < limit / 4 and figures[1] > limit


def lamp(beside=0, alpha=90):
    """An opaque ball and one of glass, as the road writes them: two parts with the same textures.

    beside: how many faces of the opaque ball are blended too.
    """
    bulb = BALL.copy().apply_translation((3, 0, 0))
    made = model(together(BALL, bulb), np.full((256, 256, 4), 200, np.uint8), keep_alpha=True)
    sheer = np.repeat(np.arange(len(made.faces)) >= len(BALL.faces), 3)
    rows, columns = (made.uv[sheer].reshape(-1, 3, 2).mean(1)[:, ::-1] * 256).astype(int).T
    made.base[..., 3] = 255
    for dy in range(-4, 5):
        for dx in range(-4, 5):
            made.base[(rows + dy).clip(0, 255), (columns + dx).clip(0, 255), 3] = alpha
    sheer[: 3 * beside] = True
    return replace(made, sheer=sheer)


def test_an_asset_of_an_opaque_and_a_blended_part_is_taken_apart_and_written_as_it_was():
    made = lamp()
    parts = Asset.parse(made.write()).parts
    assert [p.material.alpha_mode for p in parts] == ["OPAQUE", "BLEND"]
    again = Model.of(Asset.parse(made.write()))
    assert again.sheer_faces.sum() == len(BALL.faces) and not again.opaque
    assert Asset.parse(again.write()).area == Asset.parse(made.write()).area
    random = np.random.default_rng(0)
    for change, strength, share in (
        (shape.few_faces, 4, 0.5), (shape.turned_faces, 0.3, 0.5), (shape.inner_shell, 1, 0.5), (shape.confetti, 1, 0.5),
        (shape.floating_triangles, 40, 0.5), (shape.stray_quads, 0.1, 0.5), (shape.nothing_left, 1, 0), (look.opaque_forced, 0, 0),
    ):  # fmt: skip
        broken = change(made, strength, random)
        assert broken.sheer_faces.sum() == pytest.approx(share * len(broken.faces), rel=0.1), change
    # Two parts of unlike textures are no such asset.
    other = Asset.parse(made.write())
    other.parts[1] = replace(other.parts[1], material=Asset.parse(model(BALL).write()).parts[0].material)
    with pytest.raises(GlbError, match="an opaque and a blended part"):
        Model.of(other)


def test_of_a_forced_blend_opaque_texels_tell_and_not_panes_that_come_and_go():
    golden = lamp()
    assert "alpha-holes" not in fired(lamp(beside=200), golden) | fired(golden, golden)
    forced = replace(golden, alpha_mode="BLEND", sheer=None)
    assert "alpha-holes" in fired(forced, golden)
