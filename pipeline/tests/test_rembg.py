"""Background removal through the real rembg and onnxruntime, with a small model in place of BiRefNet's weights.

Not part of the development lock: rembg brings 400 MB of packages (numba, llvmlite, scikit-image, onnxruntime).
"""

import json

import numpy as np
import pytest
from PIL import Image
from trellis_pipeline.cli import main
from trellis_pipeline.errors import ImageError
from trellis_pipeline.image import background, prepare

onnx = pytest.importorskip("onnx", reason="makes the model file; not in the development lock")
pytest.importorskip("onnxruntime", reason="rembg's back end; not in the development lock")
pytest.importorskip("rembg", reason="400 MB with what it needs; not in the development lock")

MEAN, STD, LUMA = (np.array(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (0.299, 0.587, 0.114)))


def darkness(path, size=1024, sharpness=60.0):
    """A model with BiRefNet's input and output: logits that are positive where the picture is darker than mid grey.

    rembg feeds float32 [1, 3, 1024, 1024], (colour - mean) / std, and takes the sigmoid of output 0, stretched to [0, 1].
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = (-sharpness * LUMA * STD).astype(np.float32).reshape(1, 3, 1, 1)
    bias = np.array([sharpness * (0.5 - LUMA @ MEAN)], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input_image", "w", "b"], ["output_image"])], "darkness",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("output_image", TensorProto.FLOAT, [1, 1, size, size])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """rembg's folders, empty, and no way out."""
    for name in ("U2NET_HOME", "REMBG_HOME", "MODEL_CHECKSUM_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def refuse(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("pooch.retrieve", refuse)
    return tmp_path / "data"


PLACES = (".u2net/birefnet-general.onnx", "rembg/models/birefnet-general/birefnet-general.onnx")


def photo():
    """A dark object on a bright background, without alpha."""
    pixels = np.full((120, 200, 3), (230, 240, 235), np.uint8)
    pixels[20:100, 60:120] = (90, 30, 40)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("place", PLACES)
def test_an_opaque_picture_becomes_a_glb(home, checkpoint_folder, tmp_path, capsys, place):
    darkness(home / place)
    photo().save(tmp_path / "photo.jpg", quality=95)
    manifest = tmp_path / "m.json"
    quick = ["--type", "512", "--steps", "1", "--faces", "800", "--texture", "64", "--device", "cpu", "-q"]
    status = main(
        ["generate", str(tmp_path / "photo.jpg"), "-o", str(tmp_path / "o.glb"), "--weights", str(checkpoint_folder),
         "--background", "birefnet", "--manifest", str(manifest), *quick]
    )  # fmt: skip
    assert status == 0, capsys.readouterr().err
    facts = json.loads(manifest.read_text())
    assert facts["stages"]["prepare"] | {"seconds": 0} == {"size": 78, "alpha": "removed", "seconds": 0}
    assert facts["packages"]["rembg"]


def test_the_object_is_what_the_model_finds(home):
    darkness(home / PLACES[0])
    out = prepare(photo(), background.choose("auto"))
    assert out.alpha == "removed" and abs(out.image.width - 78) <= 2  # the taller side of 80, less one, made even
    pixels = np.asarray(out.image).astype(int)
    middle, corner = pixels[40, 40], pixels[40, 1]
    assert np.abs(middle - (90, 30, 40)).max() <= 3 and corner.max() <= 3  # black around it
    covered = (pixels.sum(2) > 60).sum()
    assert abs(covered - 60 * 78) < 250


def test_files_that_are_no_such_model_are_refused_and_nothing_is_fetched(home):
    file = home / PLACES[1]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not onnx")
    with pytest.raises(ImageError, match=r"birefnet-general\.onnx: rembg cannot open it"):
        background.choose("auto")
    darkness(file, size=64)  # a model for another size
    with pytest.raises(ImageError, match=r"birefnet-general\.onnx: it cannot tell the object"):
        background.choose("auto")(photo())
