"""Broken files through the whole check: findings or one clear error, never worse. `trellis-gate fuzz` runs more."""

import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trellis_regression.fuzz import _split, examine, mutate, run, seeds
from trellis_regression.glb import GlbError


def test_seeds_are_judged():
    for data in seeds():
        assert "dummy-primitive" in examine(data)


def test_mutated_files_give_findings_or_one_error():
    outcome = run(400, seed=7)
    assert outcome.ok, outcome.summary()
    assert sum(outcome.errors.values()) < outcome.cases  # some are still whole enough to be judged
    assert outcome.peak_megabytes < 4000


@pytest.mark.parametrize(
    ("key", "value"), [("alphaMode", ["MASK"]), ("alphaMode", "FADE"), ("alphaCutoff", "x"), ("emissiveFactor", [1])]
)
def test_material_values_of_the_wrong_kind_are_one_clear_error(key, value):
    data = seeds()[0]
    document, rest = _split(data)
    document["materials"][0][key] = value
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    broken = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    with pytest.raises(GlbError):
        examine(broken)


def test_a_crash_would_be_seen(monkeypatch):
    def crash(data):
        raise IndexError("as a bug would")

    monkeypatch.setattr("trellis_regression.fuzz.examine", crash)
    outcome = run(3)
    assert not outcome.ok and "IndexError: as a bug would" in outcome.summary()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2), st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_arbitrary_bytes_after_a_valid_header(which, tail, seed):
    import numpy as np

    data = mutate(seeds()[which], np.random.default_rng(seed))
    for candidate in (tail, data[:20] + tail, data[: len(data) - len(tail)] + tail):
        try:
            examine(candidate)
        except GlbError as error:
            assert "\n" not in str(error).strip()


def test_many_materials_with_one_image_cost_one_image():
    """Each image is decoded once: a small file must not be able to ask for the same picture a thousand times."""
    from trellis_regression.glb import parse_glb
    from trellis_regression.scene import load_parts

    data = seeds()[0]
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    document["materials"] *= 500
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    many = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    parts = load_parts(parse_glb(many))
    assert parts[0].material.textures["baseColorTexture"].image.shape == (16, 16, 4)


def test_pixels_of_all_images_together_are_limited(monkeypatch):
    monkeypatch.setattr("trellis_regression.scene.MAX_TEXTURE_PIXELS", 300)
    with pytest.raises(GlbError, match="at most 300 pixels are read in all"):
        examine(seeds()[0])  # two images of 16 x 16
