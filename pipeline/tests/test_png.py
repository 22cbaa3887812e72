"""PNG files of our own against readers that are not ours."""

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from trellis_pipeline.export.png import encode_png


def picture(height, width, channels, seed=0):
    """Slopes and waves in its upper half, noise in the lower: rows that want different filters."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((height, width))
    waves = np.stack([(x * (3 + k) // 7 + x * y // 50 + 90 * np.sin(y / 9)) for k in range(channels)], 2)
    image = waves.astype(np.int64).astype(np.uint8)
    image[height // 2 :] = rng.integers(0, 256, image[height // 2 :].shape)
    return torch.from_numpy(image)


def decoded(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return torch.from_numpy(np.array(image)).reshape(image.height, image.width, -1)


def chunks(data):
    at, found = 8, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert zlib.crc32(kind + body) == int.from_bytes(data[at + 8 + size : at + 12 + size], "big")
        found.append((kind, body))
        at += 12 + size
    return found


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 700), (900, 1), (64, 33)])
def test_pillow_reads_back_every_byte(height, width, channels):
    image = picture(height, width, channels)
    assert torch.equal(decoded(encode_png([image])[0]), image)


def test_many_strips_make_one_valid_stream():
    image = picture(1500, 1100, 3)
    (data,) = encode_png([image], level=3)
    assert torch.equal(decoded(data), image)
    found = chunks(data)
    assert [kind for kind, _ in found] == [b"IHDR", *[b"IDAT"] * (len(found) - 2), b"IEND"] and len(found) > 6
    # zlib refuses a stream whose Adler-32 is wrong, which Pillow does not always look at.
    rows = np.frombuffer(zlib.decompress(b"".join(body for kind, body in found if kind == b"IDAT")), np.uint8)
    assert len(set(rows.reshape(1500, -1)[:, 0])) >= 3  # filters were chosen row by row


def test_size_is_that_of_one_long_stream():
    image = picture(1200, 1200, 3)
    one = io.BytesIO()
    Image.fromarray(image.numpy()).save(one, "PNG", compress_level=6)
    assert len(encode_png([image], level=6)[0]) < 1.02 * len(one.getvalue())


def test_threads_and_company_change_nothing():
    images = [picture(700, 800, 3, seed) for seed in range(3)]
    assert encode_png(images, threads=1) == encode_png(images, threads=5) == [encode_png([i])[0] for i in images]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4, 4, 3), torch.float32), ((4, 4, 5), torch.uint8), ((0, 4, 3), torch.uint8), ((4, 4), torch.uint8)],
)
def test_other_images_are_refused(shape, dtype):
    image = torch.zeros(shape, dtype=dtype)
    with pytest.raises(ValueError, match=r"images: expected uint8 \[H, W, 1 to 4\]"):
        encode_png([image])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_device_changes_nothing(channels):
    image = picture(600, 512, channels)
    assert encode_png([image.cuda()]) == encode_png([image])
