"""The Khronos validator runs here, sees real errors, and is never silently absent."""

import json
import struct

import pytest
from trellis_regression.khronos import ValidatorMissingError, errors, validate


def test_a_valid_file_has_no_errors(painted_box):
    (report,) = validate(painted_box)
    assert errors(report) == []
    assert report["info"]["totalTriangleCount"] == 48


def test_a_broken_file_has_errors_that_say_where(painted_box, tmp_path):
    raw = painted_box.read_bytes()
    size = struct.unpack_from("<I", raw, 12)[0]
    document = json.loads(raw[20 : 20 + size])
    document["accessors"][0]["count"] += 5
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = raw[20 + size :]
    broken = tmp_path / "broken.glb"
    broken.write_bytes(
        struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    )
    (report,) = validate(broken)
    assert any("/accessors/0" in line for line in errors(report))


def test_a_missing_validator_is_an_error_that_names_the_remedy(painted_box, monkeypatch, tmp_path):
    monkeypatch.setenv("TRELLIS_GLTF_VALIDATOR", str(tmp_path))
    with pytest.raises(ValidatorMissingError, match=r"trellis_regression\.khronos --install DIR"):
        validate(painted_box)
