"""The image side: what is cropped, what is refused, and DINOv3 through whichever transformers is here."""

import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import EpsImagePlugin, Image
from safetensors.torch import load_file, save_file
from trellis_pipeline.errors import CheckpointError, ImageError
from trellis_pipeline.image import background, load_image_encoder, open_image, prepare
from trellis_pipeline.testing import object_picture

CPU = torch.device("cpu")


def box_picture(size, box, alpha=255, colour=(200, 100, 50)):
    pixels = np.zeros((*size[::-1], 4), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = (*colour, alpha)
    return Image.fromarray(pixels)


def test_the_object_fills_a_square_on_black():
    out = prepare(box_picture((300, 200), (100, 40, 200, 80)), None)
    assert out.alpha == "own" and out.source_size == (300, 200)
    assert out.image.mode == "RGB" and out.image.size == (98, 98)  # twice half the longer side, 99 // 2
    pixels = np.asarray(out.image)
    assert tuple(pixels[49, 49]) == (200, 100, 50)
    filled = np.flatnonzero(pixels[:, 49].any(1))
    assert len(filled) == 40 and abs(filled.mean() - 48.5) <= 1  # its 40 rows, in the middle
    assert (pixels[:20] == 0).all()


def test_colours_are_multiplied_by_alpha():
    picture = np.asarray(box_picture((64, 64), (10, 10, 50, 50))).copy()
    picture[20:30, 20:30, 3] = 51
    picture[0, 0] = (255, 255, 255, 10)  # not solid: outside the box, and dark
    out = np.asarray(prepare(Image.fromarray(picture), None).image)
    assert {tuple(c) for c in out.reshape(-1, 3)} == {(200, 100, 50), (40, 20, 10)}


def test_large_pictures_are_scaled_to_a_longest_side_of_1024():
    out = prepare(box_picture((4096, 2048), (0, 0, 4096, 2048), alpha=254), None)
    assert out.image.size == (1022, 1022)


def test_opaque_pictures_need_their_background_removed():
    picture = Image.new("RGB", (50, 40), (9, 9, 9))
    with pytest.raises(ImageError, match="opaque"):
        prepare(picture, None)
    seen = []

    def remove(image):
        seen.append(image.mode)
        return box_picture(image.size, (10, 10, 30, 30))

    assert prepare(picture, remove).alpha == "removed" and seen == ["RGB"]
    assert prepare(picture, background.choose("keep")).image.size == (48, 48)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("RGBA", (20, 20), (1, 2, 3, 0)), "fully transparent"),
        (Image.new("RGBA", (20, 20), (1, 2, 3, 204)), "no pixel has alpha over 0.8"),
        (box_picture((20, 20), (5, 5, 7, 6)), "2 x 1 pixels small"),
    ],
)
def test_pictures_without_an_object_are_refused(picture, message):
    with pytest.raises(ImageError, match=message):
        prepare(picture, None)


def test_what_is_no_picture_is_named(tmp_path, monkeypatch):
    path = tmp_path / "concept.png"  # whatever its name says
    for content, said in [
        (b"", "the file is empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "it is HEIC; save it as PNG"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG drawing; save it as PNG"),
        (b"<!DOCTYPE html><title>404</title>", "it is a web page, perhaps of a download that failed"),
        (b"%PDF-1.7\n", "it is a PDF"),
        (b"no picture", "not a picture in a format that is known here"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ImageError, match=re.escape(said) + "$" if "PDF" not in said else said):
            open_image(path)
    # Pillow would have Ghostscript run it.
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("a program in the file was run"))
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="it is an EPS drawing; save it as PNG"):
        open_image(path)


def test_files_are_read_upright_and_with_their_transparency(tmp_path):
    path = tmp_path / "photo.jpg"
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)
    assert open_image(path).size == (20, 40)
    palette = Image.new("P", (8, 8))
    palette.info["transparency"] = 0
    palette.save(tmp_path / "p.png", transparency=0)
    assert open_image(tmp_path / "p.png").mode == "RGBA"
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    deep.save(tmp_path / "deep.png")
    assert open_image(tmp_path / "deep.png").getpixel((0, 0)) == (156, 156, 156)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_not_a_picture_is_refused(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"x\.png"):
        open_image(tmp_path / "x.png")


def test_truncated_and_huge_pictures_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    with pytest.raises(ImageError, match="cannot be decoded"):
        open_image(tmp_path / "cut.png")
    Image.new("1", (40_000, 10)).save(tmp_path / "wide.png")
    with pytest.raises(ImageError, match="40000 x 10 pixels; at most"):
        open_image(tmp_path / "wide.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(ImageError, match=r"huge\.png: at most 32,768 pixels a side and 134,217,728 in all"):
        open_image(tmp_path / "huge.png")
    Image.new("1", (12_000, 10_000)).save(tmp_path / "large.png")  # more than Pillow would take
    assert open_image(tmp_path / "large.png").size == (12_000, 10_000)
    with pytest.raises(ImageError, match="it is a folder"):
        open_image(tmp_path)


def test_background_models_must_be_present(tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    with pytest.raises(ImageError, match=r"rembg has no model in .*u2net.onnx would serve.*alpha channel, or .*keep"):
        background.choose("auto")
    with pytest.raises(ImageError, match="expected one of auto"):
        background.choose("magic")
    (tmp_path / "u2net.onnx").touch()
    with pytest.raises(ImageError, match=r"where birefnet-general.onnx would serve \('rembg d birefnet-general'"):
        background.choose("birefnet")
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(ImageError, match="rembg is not installed"):
        background.choose("rembg")
    picture = background.choose("keep")(Image.new("RGB", (2, 2), (9, 8, 7)))
    assert picture.getpixel((0, 0)) == (9, 8, 7, 255)


@pytest.mark.parametrize(
    ("method", "present", "taken"),
    [
        ("auto", ("isnet-general-use", "u2net"), "isnet-general-use"),
        ("rembg", background.REMBG_MODELS, "birefnet-general"),
        ("birefnet", background.REMBG_MODELS, "birefnet-general"),
    ],
)
def test_rembg_is_given_the_best_model_that_is_present(tmp_path, monkeypatch, method, present, taken):
    class Rembg:
        @staticmethod
        def new_session(name):
            return name

        @staticmethod
        def remove(picture, session, only_mask):
            assert session == taken and only_mask
            return Image.new("L", picture.size, 77)

    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "rembg", Rembg)
    for name in present:
        (tmp_path / f"{name}.onnx").touch()
    out = background.choose(method)(Image.new("RGB", (6, 4), (1, 2, 3)))
    assert out.mode == "RGBA" and out.getpixel((3, 3)) == (1, 2, 3, 77)


@torch.no_grad()
def test_features_are_the_hidden_states_before_the_final_norm(checkpoint_folder):
    encoder = load_image_encoder(str(checkpoint_folder / "dinov3"))
    picture = object_picture().convert("RGB")
    with encoder.weights.on(CPU, "swap") as model:
        features = encoder.encode(model, picture, 64, CPU)
        # The same by hand, layer by layer, in the layout that the installed version has.
        pixels = torch.from_numpy(np.array(picture.resize((64, 64), Image.Resampling.LANCZOS), np.float32) / 255)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels = ((pixels - mean) / std).permute(2, 0, 1)[None]
        h = model.embeddings(pixels)
        position = model.rope_embeddings(pixels)
        layers = model.layer if hasattr(model, "layer") else model.model.layer
        for layer in layers:
            h = layer(h, position_embeddings=position)
            h = h[0] if isinstance(h, tuple) else h
        expected = F.layer_norm(h, h.shape[-1:])
    assert features.shape == (1, 1 + 4 + 16, 32)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert not encoder.weights.placed


def test_encoders_that_do_not_fit_are_refused(copied):
    with pytest.raises(CheckpointError, match="holds no config"):
        load_image_encoder(str(copied))
    path = copied / "dinov3/model.safetensors"
    tensors = load_file(path)
    name = next(k for k in tensors if k.endswith("norm1.weight"))
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing \(.*norm1.weight"):
        load_image_encoder(str(copied / "dinov3"))


def as_timm(folder, source):
    """A DINOv3 of transformers, its query and value biases zeroed, and the same values as timm stores them."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(1)
    config = DINOv3ViTConfig(
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_register_tokens=4,
        patch_size=16,
    )
    model = DINOv3ViTModel(config)
    state = {k: torch.randn(v.shape) * 0.1 for k, v in model.state_dict().items()}
    state |= {k: torch.zeros_like(v) for k, v in state.items() if k.endswith(("q_proj.bias", "v_proj.bias"))}
    model.load_state_dict(state)
    model.save_pretrained(source)
    plain = {k.removeprefix("model."): v for k, v in state.items()}
    out = {"cls_token": plain["embeddings.cls_token"], "reg_token": plain["embeddings.register_tokens"]}
    for leaf in ("weight", "bias"):
        out[f"norm.{leaf}"] = plain[f"norm.{leaf}"]
        out[f"patch_embed.proj.{leaf}"] = plain[f"embeddings.patch_embeddings.{leaf}"]
    for i in range(2):
        a, b = f"layer.{i}.", f"blocks.{i}."
        out[b + "attn.qkv.weight"] = torch.cat([plain[f"{a}attention.{x}_proj.weight"] for x in "qkv"])
        out[b + "gamma_1"], out[b + "gamma_2"] = plain[a + "layer_scale1.lambda1"], plain[a + "layer_scale2.lambda1"]
        for leaf in ("weight", "bias"):
            out[b + f"attn.proj.{leaf}"] = plain[a + f"attention.o_proj.{leaf}"]
            out[b + f"mlp.fc1.{leaf}"] = plain[a + f"mlp.up_proj.{leaf}"]
            out[b + f"mlp.fc2.{leaf}"] = plain[a + f"mlp.down_proj.{leaf}"]
            for norm in ("norm1", "norm2"):
                out[b + f"{norm}.{leaf}"] = plain[a + f"{norm}.{leaf}"]
    folder.mkdir()
    (folder / "config.json").write_text('{"architecture": "vit_large_patch16_dinov3"}')
    save_file({k: v.clone() for k, v in out.items()}, folder / "model.safetensors")
    return out


def test_timms_file_gives_the_features_of_transformers_own(tmp_path):
    values = as_timm(tmp_path / "timm", tmp_path / "own")
    listed = (Path(__file__).parents[2] / "diagnostics/trellis_doctor/facts/checkpoints/dinov3.keys.txt").read_text()
    public = {line.split("\t")[0] for line in listed.splitlines() if line.strip()}
    assert set(values) == {k for k in public if not k.startswith("blocks.") or k.split(".")[1] in "01"}
    picture = object_picture().convert("RGB")
    features = []
    for folder in ("own", "timm"):
        encoder = load_image_encoder(str(tmp_path / folder))
        with encoder.weights.on(CPU, "swap") as model:
            features.append(encoder.encode(model, picture, 64, CPU))
    torch.testing.assert_close(*features)
    del values["blocks.1.gamma_2"]
    save_file(values, tmp_path / "timm/model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks blocks\.1\.gamma_2"):
        load_image_encoder(str(tmp_path / "timm"))


def test_sizes_that_are_no_multiple_of_the_patch_are_refused(checkpoint_folder):
    encoder = load_image_encoder(str(checkpoint_folder / "dinov3"))
    with pytest.raises(ValueError, match="multiple of the patch of 16 pixels, got 500"):
        encoder.encode(None, object_picture(), 500, CPU)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, struct.error, IndexError, zlib.error])
def test_whatever_a_reader_makes_of_a_broken_file_the_picture_is_named(tmp_path, monkeypatch, error):
    """Pillow's for AVIF and DDS raise the first two; in a batch another error would be taken for a crash of the process."""

    def broken(*_, **__):
        raise error("Failed to decode frame 0")

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(ImageError, match=r"a\.png: it cannot be decoded: Failed to decode frame 0"):
        open_image(tmp_path / "a.png")
