"""The clean sample: what it holds, who made it, and that a model made by a person is not flagged."""

import hashlib
import io
import re
import zipfile

import by_people
import numpy as np
import pytest
from PIL import Image
from trellis_regression import gate, matrix, sample, thresholds
from trellis_regression.glb import check_geometry, parse_glb
from trellis_regression.sample import people
from trellis_regression.scene import load_parts


def test_every_asset_is_there_once_and_either_sets_thresholds_or_is_held_out():
    assert len(sample.BY_FORMULA) == 39 and len(sample.BY_PEOPLE) >= 12
    assert len(set(sample.NAMES)) == len(sample.NAMES) == len(sample.BY_FORMULA) + len(sample.BY_PEOPLE)
    assert sorted(sample.CALIBRATION + sample.HELD_OUT) == sorted(sample.NAMES)


def test_every_model_made_by_a_person_is_the_one_its_credit_tells_of():
    files = {p.stem for p in people.FOLDER.glob("*.glb")}
    assert files == {name.replace(" ", "-") for name in people.catalogue()}
    assert set(by_people.CHOSEN) == set(people.catalogue())
    for name, credit in people.catalogue().items():
        assert credit["license"] == "CC0-1.0"
        assert credit["title"] and credit["author"]
        assert re.fullmatch(r"https?://www\.blendswap\.com/blends?/(view/)?\d+", credit["url"])
        assert re.fullmatch(r"[0-9a-f]{64}", credit["library_sha256"])
        assert credit["path"].split("/")[-2] == by_people.CHOSEN[name]
        assert hashlib.sha256(people.build(name)).hexdigest() == credit["sha256"]


def test_models_made_by_people_are_small_and_have_colours():
    sizes = [len(people.build(name)) for name in sample.BY_PEOPLE]
    assert max(sizes) < 150_000 and sum(sizes) < 1_000_000
    for name in sample.BY_PEOPLE:
        glb = parse_glb(people.build(name))
        check_geometry(glb)
        parts = load_parts(glb)
        assert sum(len(p.faces) for p in parts) >= 300
        textures = [t.image for p in parts for t in p.material.textures.values()]
        colours = {tuple(p.material.base_color[:3]) for p in parts}
        assert textures or len(colours) > 1, f"{name}: one colour all over"
        assert all(max(t.shape[:2]) <= by_people.TEXTURE for t in textures)


@pytest.mark.parametrize("name", ["boot", "plant", "umbrella"])
def test_a_model_made_by_a_person_is_not_flagged(road, tmp_path, name):
    """Something dark and hollow, leaves in a pot, cloth on a stick: none of them has set a threshold."""
    assert name not in sample.CALIBRATION
    control = matrix.make_control(road, tmp_path, name)
    verdict = gate.judge(control.evidence(looks=matrix.QUICK_LOOK), thresholds.load())
    assert verdict.ok, [f.sentence for f in verdict.fired]


CUBE_SIDE = """\
mtllib a.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl painted
f 1/1 2/2 3/3 4/4
usemtl glass
f 1 2 -1
f 1 1 2
"""
LOOKS = """\
newmtl painted
Kd 0.1 0.2 0.3
map_Kd side.png
newmtl glass
Kd 0.5 0 1
Ns 98
d 0.25
map_Kd C:\\Users\\somebody\\wood.jpg
"""


def _library(path, licence):
    picture = io.BytesIO()
    Image.fromarray(np.full((600, 300, 3), (10, 200, 30), np.uint8)).save(picture, "PNG")
    with zipfile.ZipFile(path, "w") as library:
        catalogue = "name#1=Side\nmodel#1=/lib/side/side.obj\ncreator#1=Somebody\n"
        library.writestr("PluginFurnitureCatalog.properties", catalogue)
        library.writestr("lib/side/side.obj", CUBE_SIDE)
        library.writestr("lib/side/side.mtl", LOOKS)
        library.writestr("lib/side/side.png", picture.getvalue())
        library.writestr("lib/side/LICENSE.txt", licence)
    return path


def test_a_library_gives_what_its_licence_allows_as_it_was(tmp_path):
    url = "http://www.blendswap.com/blends/view/12"
    said = f'Thank you for downloading "A side" by someone\nCreative Commons Zero\nDownloaded from {url}'
    [(facts, data)] = by_people.usable(_library(tmp_path / "free.sh3f", said))
    assert (facts["title"], facts["author"], facts["url"], facts["faces"]) == (
        "A side", "Somebody", url, 3,
    )  # fmt: skip
    glb = parse_glb(data)
    check_geometry(glb)
    painted, glass = load_parts(glb)
    # A polygon is cut into triangles, and a face without area left out.
    assert len(painted.faces) == 2 and len(glass.faces) == 1
    # The picture's first row is the top of v; a colour beside a picture counts for nothing.
    image = painted.material.textures["baseColorTexture"].image
    assert max(image.shape[:2]) == by_people.TEXTURE and np.abs(image[..., :3].astype(int) - (10, 200, 30)).max() < 8
    assert painted.material.base_color[:3] == pytest.approx((1, 1, 1))
    corner = np.flatnonzero((painted.positions == (0, 1, 0)).all(1))
    assert painted.uvs[0][corner].tolist() == [[0.0, 0.0]]
    # A picture on somebody's disk is none; colours are linear in glTF.
    assert not glass.material.textures and glass.material.alpha_mode == "BLEND"
    assert glass.material.base_color == pytest.approx((0.2140, 0, 1, 0.25), abs=1e-3)
    assert glass.material.roughness == pytest.approx(np.sqrt(0.02), abs=1e-3)

    other = _library(tmp_path / "not.sh3f", said.replace("Commons Zero", "Commons Attribution"))
    assert not list(by_people.usable(other))
