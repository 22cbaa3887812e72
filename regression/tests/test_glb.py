"""The GLB reader: right values from right files, one clear error from broken ones, and nothing worse from any."""

import base64
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from handmade_glb import pack, triangle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image
from trellis_regression import glb as glb_module
from trellis_regression.glb import MAX_PLACED, GlbError, check_geometry, decode_data_uri, parse_glb, read_glb
from trellis_regression.scene import Images, load_parts


def everything(data):
    """All that a caller does with a file."""
    glb = parse_glb(data)
    check_geometry(glb)
    return load_parts(glb)


def test_a_valid_file_gives_its_values():
    (part,) = everything(pack(*triangle()))
    assert part.positions.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert part.faces.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(part.normals, [[0, 0, 1]] * 3)


def test_textured_file_of_another_writer_is_read(painted_box):
    glb = read_glb(painted_box)
    (part,) = load_parts(glb)
    assert check_geometry(glb) == len(part.faces) == 48
    np.testing.assert_allclose(part.positions.min(0), [9, -0.5, -0.5])
    texture = part.material.textures["baseColorTexture"]
    columns = (part.uvs[0][:, 0] * texture.image.shape[1]).astype(int)
    colours = texture.image[4, columns]
    np.testing.assert_array_equal(colours[:, 0] == 255, part.positions[:, 0] < 10)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a GLB: 0 bytes"),
        (b"PK\x03\x04 a zip file", "not a GLB: it seems to be a ZIP archive"),
        (b"o cube\nv 0 0 0\n", "not a GLB: it does not begin with 'glTF'"),
        (b' {"asset": {"version": "2.0"}}', "not a GLB: it is text, as a .gltf with files beside it is"),
        (b"glTF\x02", "not a GLB: 5 bytes"),
        (b"glTF" + struct.pack("<II", 1, 12), "GLB version 1"),
        (pack(*triangle())[:-4], "truncated: the header says"),
        (b"glTF" + struct.pack("<II", 2, 12), "no JSON chunk"),
        (b"glTF" + struct.pack("<IIII", 2, 20, 4000, 0x4E4F534A), "truncated: a chunk of 4000 bytes"),
        (pack(b"{not json"), "JSON chunk cannot be read"),
        (pack(b"[" * 100_000), "JSON chunk cannot be read"),
        (pack(b'{"a": ' + b"1" * 5000 + b"}"), "JSON chunk cannot be read"),
        (pack([1]), "not an object"),
        (pack({"asset": {"version": "2.0"}}), "the scene is empty: it has no mesh"),
        (pack(*triangle(meshes=[])), "nodes[0] refers to meshes[0], but there are 0"),
        (pack(*triangle(nodes=[{"mesh": 0, "children": [1]}, {"children": [0]}])), "its nodes form a cycle"),
        (pack(*triangle(nodes=[{"mesh": 0, "children": [1, 2]}, {"children": [2]}, {}])), "nodes[2] has 2 parents"),
        (pack(*triangle(buffers=[{"byteLength": 44, "uri": "model.bin"}])), "external file 'model.bin'"),
        (pack(*triangle(buffers=[{"byteLength": 45}])), "buffers[0] claims 45 bytes, 44 are there"),
        (pack(*triangle(images=[{"uri": "textures/skin.png"}])), "images[0] refers to the external file 'textures/skin.png'"),
        (pack(*triangle(textures=[{"source": 0}])), "textures[0] refers to images[0], but there are 0"),
        (pack(*triangle(materials=[{"emissiveTexture": {"index": 3}}])), "materials[0].emissiveTexture refers to textures[3]"),
        (pack(*triangle(bufferViews=[{"buffer": 0, "byteLength": 99}] * 2)), "bufferViews[0] ends at byte 99, its buffer has 44"),
        (pack(*triangle(extensionsRequired=["KHR_draco_mesh_compression"])), "export it without compression (KHR_draco_mesh_compression)"),
        (pack(*triangle(extensionsRequired=["KHR_texture_basisu"])), "its textures are KTX2 (Basis Universal), which is not read"),
        (pack(*triangle(extensionsRequired=["EXT_mesh_gpu_instancing"])), "the extension 'EXT_mesh_gpu_instancing', which is not"),
        (pack(*triangle(extensionsRequired="KHR_lights_punctual")), "extensionsRequired is not a list of names"),
        (pack(*triangle(textures=[{"extensions": {"KHR_texture_basisu": {"source": 0}}}])), "its textures are KTX2"),
        (pack(*triangle(meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "mode": 1}]}])), "the scene has no faces"),
        (pack(*triangle(scenes="x")), "scenes is not a list of objects"),
        (pack(*triangle(nodes=[{"mesh": 0, "translation": [1, 2]}])), "not valid glTF"),
        (pack(*triangle(nodes=[{"mesh": 0, "scale": [1e38, 1e38, 1e38]}, ])).replace(b"1e+38", b"1e999"), "not finite"),
    ],
)  # fmt: skip
def test_broken_files_give_one_clear_error(data, message):
    with pytest.raises(GlbError) as caught, warnings.catch_warnings():
        warnings.simplefilter("error")  # which would stand on standard error before the line
        everything(data)
    assert message in str(caught.value)


def with_image(data):
    """The triangle with these bytes as its texture."""
    document, binary = triangle(images=[{"bufferView": 2}], textures=[{"source": 0}])
    document["materials"] = [{"emissiveTexture": {"index": 0}}]
    document["bufferViews"].append({"buffer": 0, "byteOffset": 44, "byteLength": len(data)})
    document["buffers"] = [{"byteLength": 44 + len(data)}]
    return pack(document, binary + data)


@pytest.mark.parametrize("side", [10_000, 16_384])
def test_a_texture_as_large_as_is_allowed_is_opened_without_a_word(side):
    """Pillow warns of the smaller one and refuses the larger, which `trellis remake --texture 16384` writes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    png += b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Images(parse_glb(with_image(png)))._open(0).size == (side, side)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_program_is_no_texture(monkeypatch):
    """Ghostscript is not run on what a file from anywhere holds."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: ran.append(True) or Image.new("RGB", (8, 8)).im)
    Image.open(io.BytesIO(eps)).load()
    assert ran.pop() and not ran  # as Pillow would
    with pytest.raises(GlbError, match=r"images\[0\] cannot be decoded"):
        everything(with_image(eps))
    assert not ran


def test_compressed_data_without_a_plain_copy_is_refused_also_where_it_is_not_required():
    draco = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    document, binary = triangle()
    document["meshes"][0]["primitives"][0]["extensions"] = draco
    assert len(everything(pack(document, binary))) == 1  # the plain copy is there
    del document["accessors"][0]["bufferView"]
    with pytest.raises(GlbError, match="compressed with Draco"):
        parse_glb(pack(document, binary))
    document, binary = triangle()
    document["buffers"].append({"byteLength": 36})
    document["bufferViews"][0] = {
        "buffer": 1, "byteLength": 36,
        "extensions": {"EXT_meshopt_compression": {"buffer": 0, "byteLength": 36, "byteStride": 12, "count": 3, "mode": "ATTRIBUTES"}},
    }  # fmt: skip
    with pytest.raises(GlbError, match="compressed with meshopt"):
        parse_glb(pack(document, binary))


@pytest.mark.parametrize("name", ["KHR_materials_unlit", "KHR_texture_transform", "KHR_mesh_quantization"])
def test_required_extensions_that_are_known_are_read(name):
    assert len(everything(pack(*triangle(extensionsRequired=[name])))) == 1


def test_a_texture_that_is_ktx2_is_named_as_such():
    document, binary = triangle()
    document["bufferViews"].append({"buffer": 0, "byteOffset": 44, "byteLength": 16})
    document["buffers"] = [{"byteLength": 60}]
    document |= {"images": [{"bufferView": 2, "mimeType": "image/ktx2"}], "textures": [{"source": 0}]}
    document["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    with pytest.raises(GlbError, match=r"images\[0\] is KTX2 \(Basis Universal\), which is not read"):
        everything(pack(document, binary + b"\xabKTX 20\xbb\r\n\x1a\n0000"))


def accessor_change(index, **changes):
    document, binary = triangle()
    document["accessors"][index] |= changes
    return pack(document, binary)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            accessor_change(0, count=100_000_000),
            "accessors[0] claims 100000000 elements (1200000000 bytes), its bufferView has 36",
        ),
        (accessor_change(0, count=10**40), "its bufferView has 36"),
        (accessor_change(0, count=-1), "expected a size of 0 or more, got -1"),
        (accessor_change(0, componentType=5124), "which glTF does not define"),
        (accessor_change(0, type="VEC2"), "POSITION is VEC2, expected VEC3"),
        (accessor_change(1, count=300_000_000, bufferView=None), "accessors[1] refers to bufferViews[None]"),
        (accessor_change(0, sparse={"count": 4, "indices": {"componentType": 5125}, "values": {}}), "4 of 3 elements"),
        (
            accessor_change(0, sparse={"count": 2, "indices": {}, "values": {}}),
            "not valid glTF: missing 'componentType'",
        ),
    ],
)
def test_lying_accessors_are_refused_before_anything_is_allocated(data, message):
    with pytest.raises(GlbError) as caught:
        everything(data)
    assert message in str(caught.value)


def test_a_hundred_million_faces_placed_by_a_small_file_are_refused():
    document, binary = triangle()
    document["meshes"][0]["primitives"] = [{"attributes": {"POSITION": 0}, "indices": 2}] * 1000
    document["accessors"].append({"componentType": 5121, "count": 3 * 2000, "type": "SCALAR"})
    document["nodes"] = [{"mesh": 0} for _ in range(100)]
    with pytest.raises(GlbError, match="the scene has 100000000 faces or more; at most 99999999 are read"):
        check_geometry(parse_glb(pack(document, binary)), max_triangles=99_999_999)


@pytest.mark.parametrize(
    ("nodes", "roots", "times"),
    [
        ([{"mesh": 0}], [0] * 40, 40),
        # Each of a chain is named as a root as well, and so drawn again with each one above it.
        ([{"mesh": 0, "children": [i + 1]} for i in range(8)] + [{"mesh": 0}], list(range(9)), 45),
        ([{}], [0], 1),  # shown nowhere, and read
    ],
)
def test_whatever_a_scene_makes_of_a_mesh_counts(nodes, roots, times):
    """A file of a kilobyte must not become more than is allowed, by any way of naming what it holds."""
    data = pack(*triangle(nodes=nodes, scenes=[{"nodes": roots}]))
    with pytest.raises(GlbError, match=f"the scene has {3 * times} vertices or more"):
        check_geometry(parse_glb(data), max_vertices=3 * times - 1)
    if "mesh" in nodes[0]:
        assert check_geometry(parse_glb(data), max_vertices=3 * times) == len(load_parts(parse_glb(data))) == times


def test_faces_of_a_mesh_that_nothing_shows_are_bounded_too():
    document, binary = triangle(nodes=[{}])
    document["meshes"][0]["primitives"] *= 10
    with pytest.raises(GlbError, match="the scene has 9 faces or more"):
        check_geometry(parse_glb(pack(document, binary)), max_triangles=8)


@pytest.mark.parametrize("what", ["nodes", "primitives"])
def test_more_placings_than_can_be_looked_at_are_refused(what):
    document, binary = triangle()
    if what == "nodes":  # empty ones, and each drawn again with every one above it
        document["nodes"] = [{"children": [i + 1]} for i in range(999)] + [{"mesh": 0}]
        document["scenes"] = [{"nodes": list(range(1000))}]
    else:
        document["meshes"][0]["primitives"] *= 1001
        document["nodes"] = [{"mesh": 0} for _ in range(100)]
        document["scenes"] = [{"nodes": list(range(100))}]
    with pytest.raises(GlbError, match=rf"the scene (places|has) \d+ {what} or more; at most {MAX_PLACED} are read"):
        check_geometry(parse_glb(pack(document, binary)))


def test_a_buffer_in_the_json_is_decoded_once(monkeypatch):
    """However many accessors read it: of a buffer of 40 MB each decoding takes a tenth of a second."""
    document, binary = triangle()
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    document["meshes"][0]["primitives"] *= 20
    times = []
    monkeypatch.setattr(glb_module, "decode_data_uri", lambda *a: times.append(a) or decode_data_uri(*a))
    (first, *_) = everything(pack(document))
    assert first.faces.tolist() == [[0, 1, 2]] and len(times) == 1


def test_sets_of_coordinates_that_nothing_looks_up_are_not_read():
    document, binary = triangle()
    document["accessors"].append({"componentType": 5126, "count": 3, "type": "VEC2"})
    document["meshes"][0]["primitives"][0]["attributes"] |= {f"TEXCOORD_{k}": 2 for k in range(1000)}
    (part,) = everything(pack(document, binary))
    assert list(part.uvs) == [0]


def test_images_that_share_their_bytes_do_not_multiply_them():
    """Each is held while it is decoded: a file of 4 MB must not take hundreds."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    picture = file.getvalue() + bytes(4 << 20)
    document, binary = triangle(images=[{"bufferView": 2}] * 100, textures=[{"source": i} for i in range(100)])
    document["materials"] = [{"emissiveTexture": {"index": i}} for i in range(100)]
    document["bufferViews"].append({"buffer": 0, "byteOffset": 44, "byteLength": len(picture)})
    document["buffers"] = [{"byteLength": 44 + len(picture)}]
    with pytest.raises(GlbError, match="its images share their bytes"):
        everything(pack(document, binary + picture))
    document["images"] = document["images"][:8]
    document["textures"], document["materials"] = document["textures"][:8], document["materials"][:8]
    assert len(everything(pack(document, binary + picture))) == 1


def test_parts_of_one_mesh_share_what_a_placing_leaves_as_it_is():
    nodes = [{"mesh": 0}, {"mesh": 0, "scale": [-1, 1, 1]}, {"mesh": 0, "translation": [0, 0, 7]}]
    plain, mirrored, moved = everything(pack(*triangle(nodes=nodes, scenes=[{"nodes": [0, 1, 2]}])))
    assert plain.faces is moved.faces and moved.positions[:, 2].tolist() == [7, 7, 7]
    assert plain.faces.tolist() == [[0, 1, 2]] and mirrored.faces.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_positions_that_are_not_finite_are_named(value):
    document, binary = triangle()
    broken = np.frombuffer(binary[:36], np.float32).copy()
    broken[4] = value
    with pytest.raises(GlbError, match=r"meshes\[0\]\.primitives\[0\]: vertex 1 is not finite"):
        check_geometry(parse_glb(pack(document, broken.tobytes() + binary[36:])))


def test_an_index_past_the_vertices_is_named():
    document, binary = triangle()
    with pytest.raises(GlbError, match="index 3 of 3 vertices"):
        check_geometry(parse_glb(pack(document, binary[:36] + np.array([0, 1, 3, 0], np.uint16).tobytes())))


def test_missing_file_and_folder_are_clear_errors(tmp_path):
    with pytest.raises(GlbError, match="cannot be read: No such file"):
        read_glb(tmp_path / "none.glb")
    (tmp_path / "a.glb").touch()
    with pytest.raises(GlbError, match=r"it is a folder; name a GLB file in it, such as a\.glb"):
        read_glb(tmp_path)


def test_a_file_larger_than_the_format_allows_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.glb"
    path.touch()
    os.truncate(path, 1 << 32)  # takes no room on the disk
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(GlbError, match=r"a\.glb: not a GLB: it has 4294967296 bytes"):
        read_glb(path)


@pytest.mark.parametrize(
    ("mode", "faces"), [(4, [[0, 1, 2]]), (5, [[0, 1, 2], [1, 3, 2]]), (6, [[1, 2, 0], [2, 3, 0]])]
)
def test_triangle_lists_strips_and_fans(mode, faces):
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    document, _ = triangle(buffers=[{"byteLength": 48}], bufferViews=[{"buffer": 0, "byteLength": 48}])
    document["accessors"] = [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}]
    document["meshes"] = [{"primitives": [{"attributes": {"POSITION": 0}, "mode": mode}]}]
    (part,) = everything(pack(document, positions.tobytes()))
    assert part.faces.tolist() == faces


def test_mirrored_nodes_keep_faces_and_normals_outward():
    document, binary = triangle(nodes=[{"mesh": 0, "scale": [-1, 1, 1]}])
    (part,) = everything(pack(document, binary))
    a, b, c = part.positions[part.faces[0]]
    np.testing.assert_allclose(np.cross(b - a, c - a) / np.linalg.norm(np.cross(b - a, c - a)), [0, 0, 1])
    np.testing.assert_allclose(part.normals, [[0, 0, 1]] * 3)


def test_node_transforms_compose():
    half = np.sqrt(0.5)
    nodes = [
        {"children": [1], "translation": [5, 0, 0]},
        {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 2, 2]},
    ]
    (part,) = everything(pack(*triangle(nodes=nodes)))
    np.testing.assert_allclose(part.positions, [[5, 0, 0], [5, 2, 0], [3, 0, 0]], atol=1e-6)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_give_findings_never_crashes(painted_box, data):
    """Any change of bytes gives parts or a GlbError. Most mutations are aimed at the JSON, where structure lives."""
    raw = bytearray(painted_box.read_bytes())
    json_end = 20 + struct.unpack_from("<I", raw, 12)[0]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, json_end) | st.integers(0, len(raw) - 1))
        kind = data.draw(st.sampled_from(["byte", "digit", "cut"]))
        if kind == "byte":
            raw[at] = data.draw(st.integers(0, 255))
        elif kind == "digit":
            digits = [i for i in range(20, json_end) if raw[i : i + 1].isdigit()]
            raw[digits[at % len(digits)]] = ord(data.draw(st.sampled_from("0123456789-e")))
        else:
            del raw[at : at + data.draw(st.integers(1, 64))]
        json_end = min(json_end, len(raw) - 1)
        if not raw:
            break
    try:
        parts = everything(bytes(raw))
    except GlbError:
        return
    assert sum(len(p.faces) for p in parts) >= 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("height", [1, 128, 300])
def test_pixels_are_those_that_pil_converts(mode, height):
    """Taken in strips; one colour is see-through by the file's word, where there is no alpha."""
    channels = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    pixels = np.random.default_rng(0).integers(0, 4, (height, 5, *channels), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(
        file, "PNG", **{"RGB": {"transparency": (1, 2, 3)}, "L": {"transparency": 2}}.get(mode, {})
    )
    expected = np.asarray(Image.open(file).convert("RGBA"))
    assert np.array_equal(Images._finish(0, Image.open(file)), expected)
    assert mode == "RGBA" or height < 128 or (expected[..., 3] == 0).any()
