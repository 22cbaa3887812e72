"""What a remake cannot take over is named, once for each kind, and nothing else is."""

import json
import struct

import pytest
from trellis_pipeline.export import load_source
from trellis_pipeline.remake import RemakeOptions, remake


def changed(source, path, change):
    """A copy of a GLB whose JSON went through `change`."""
    data = source.read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    document = json.loads(data[20 : 20 + length])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    path.write_bytes(data[:8] + struct.pack("<III", 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest)
    return path


def material(document, **more):
    document["materials"][0].update(name="Lamp", **more)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"normalTexture": {"index": 0}}, "normal map"),
        ({"occlusionTexture": {"index": 0}}, "occlusion"),
        (
            {"extensions": {"KHR_materials_transmission": {"transmissionFactor": 1}}},
            "glass .* KHR_materials_transmission",
        ),
        ({"extensions": {"KHR_materials_unlit": {}}}, "KHR_materials_unlit"),
        (
            {
                "emissiveFactor": [0, 0.5, 0],
                "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 4}},
            },
            "brighter than 1",
        ),
    ],
)
def test_what_a_material_has_more_is_named(painted, tmp_path, more, words):
    import re

    (sentence,) = load_source(changed(painted, tmp_path / "a.glb", lambda d: material(d, **more))).left_out
    assert re.search(words, sentence) and sentence.endswith("(Lamp)")


def test_what_is_taken_over_is_not_named(painted, tmp_path):
    def change(document):
        material(
            document, emissiveFactor=[1, 1, 1], extensions={"KHR_materials_emissive_strength": {"emissiveStrength": 1}}
        )
        document["materials"].append({"name": "not used", "normalTexture": {"index": 0}})

    assert load_source(changed(painted, tmp_path / "a.glb", change)).left_out == ()


def test_many_materials_are_one_sentence(painted, tmp_path):
    def change(document):
        first = document["meshes"][0]["primitives"][0]
        document["materials"] = [{"name": f"m{i}", "occlusionTexture": {"index": 0}} for i in range(5)]
        document["meshes"][0]["primitives"] = [{**first, "material": i} for i in range(5)]

    (sentence,) = load_source(changed(painted, tmp_path / "a.glb", change)).left_out
    assert sentence == "the occlusion map (m0, m1, m2 and 2 more)"


def test_what_moves_is_named(painted, tmp_path):
    def change(document):
        primitive = document["meshes"][0]["primitives"][0]
        primitive["targets"] = [{"POSITION": primitive["attributes"]["POSITION"]}]
        document["animations"] = [{"channels": [], "samplers": []}]

    found = load_source(changed(painted, tmp_path / "a.glb", change)).left_out
    assert [s.split(";")[0] for s in found] == ["animations", "morph targets"]


def test_a_remake_says_it_and_its_manifest_keeps_it(painted, tmp_path, capsys):
    source = changed(painted, tmp_path / "a.glb", lambda d: material(d, normalTexture={"index": 0}))
    facts = remake(source, tmp_path / "b.glb", RemakeOptions(resolution=32, faces=500, texture=64))
    (sentence,) = facts["input"]["left_out"]
    assert capsys.readouterr().err.count(f"left out: {sentence}\n") == 1
