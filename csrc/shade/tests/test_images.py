"""Environment files."""

import sys

import numpy as np
import OpenImageIO
import pytest
import torch
from trellis_shade import EnvironmentLight, read_radiance


def write(path, pixels, names=("R", "G", "B")):
    spec = OpenImageIO.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], "float")
    spec.channelnames = names
    out = OpenImageIO.ImageOutput.create(str(path))
    assert out.open(str(path), spec) and out.write_image(pixels) and out.close()


@pytest.fixture
def pixels():
    return (np.random.default_rng(0).uniform(size=(12, 24, 3)) ** 6 * 1000).astype(np.float32)


def test_exr_is_read_exactly(tmp_path, pixels):
    write(tmp_path / "a.exr", pixels)
    torch.testing.assert_close(read_radiance(tmp_path / "a.exr"), torch.from_numpy(pixels), rtol=0, atol=0)


def test_hdr_is_read_to_its_own_precision(tmp_path, pixels):
    write(tmp_path / "a.hdr", pixels)
    got = read_radiance(str(tmp_path / "a.hdr")).numpy()
    # Eight bits of mantissa, shared by the three channels.
    assert (np.abs(got - pixels) <= pixels.max(-1, keepdims=True) / 128).all()


def test_channels_are_found_by_name(tmp_path, pixels):
    order = np.concatenate([pixels[..., 2:], np.ones_like(pixels[..., :1]), pixels[..., :2]], -1)
    write(tmp_path / "a.exr", order, ("B", "A", "R", "G"))
    torch.testing.assert_close(read_radiance(tmp_path / "a.exr"), torch.from_numpy(pixels), rtol=0, atol=0)
    write(tmp_path / "grey.exr", pixels[..., :1], ("Y",))
    assert torch.equal(read_radiance(tmp_path / "grey.exr"), torch.from_numpy(pixels[..., :1]).expand(12, 24, 3))
    write(tmp_path / "depth.exr", pixels[..., :2], ("Z", "A"))
    with pytest.raises(ValueError, match="expected channels R, G and B, got"):
        read_radiance(tmp_path / "depth.exr")


def test_load_makes_a_light(tmp_path):
    pixels = np.full((4, 8, 3), 3.0, np.float32)
    pixels[0] = -1
    write(tmp_path / "a.exr", pixels)
    light = EnvironmentLight.load(tmp_path / "a.exr", resolution=16, samples=32)
    down, up = light.radiance(torch.tensor([[0.0, -1, 0], [0, 1, 0]]))
    assert down.tolist() == [3, 3, 3] and up.tolist() == [0, 0, 0]


def test_bad_files_are_errors(tmp_path, pixels):
    with pytest.raises(FileNotFoundError, match="path: no such file"):
        read_radiance(tmp_path / "none.hdr")
    (tmp_path / "text.hdr").write_text("not an image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_radiance(tmp_path / "text.hdr")
    for name in ("cut.exr", "cut.hdr"):
        write(tmp_path / name, pixels)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(ValueError, match="cannot be read"):
            read_radiance(tmp_path / name)
    pixels[3, 3] = np.nan
    write(tmp_path / "nan.exr", pixels)
    with pytest.raises(ValueError, match="expected finite values"):
        read_radiance(tmp_path / "nan.exr")


def test_a_missing_reader_is_named(tmp_path, pixels, monkeypatch):
    write(tmp_path / "a.exr", pixels)
    monkeypatch.setitem(sys.modules, "OpenImageIO", None)
    with pytest.raises(ImportError, match=r'pip install "trellis-shade\[hdr\]"'):
        read_radiance(tmp_path / "a.exr")
