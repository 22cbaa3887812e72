"""Hashes of files: right, remembered while a file stays as it is, and never for one that changed."""

import hashlib
import os
import threading

import pytest
from trellis_pipeline import hashes
from trellis_pipeline.hashes import Hashes, sha256


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * (i * 9_000_001))  # none, and more than a block
    return paths


def found(paths):
    with Hashes(paths) as digests:
        result = [digests.of(p) for p in paths]
        digests.remember()
    return result


def test_files_are_hashed_once_for_as_long_as_they_stay(files):
    right = [hashlib.sha256(p.read_bytes()).hexdigest() for p in files]
    assert found(files) == [{"sha256": x} for x in right]
    assert found(files) == [{"sha256": x, "remembered": True} for x in right]
    # A byte changed, with the size and the time of change as before: the fingerprint reads the file's beginning.
    status = files[2].stat()
    data = bytearray(files[2].read_bytes())
    data[70_000] ^= 1
    files[2].write_bytes(data)
    os.utime(files[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    files[1].touch()
    assert found(files)[1:] == [{"sha256": right[1]}, {"sha256": hashlib.sha256(data).hexdigest()}]


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(files, monkeypatch):
    def changing(path, stop):
        with path.open("ab") as file:
            file.write(b"more")
        return "0" * 64

    with monkeypatch.context() as patch:
        patch.setattr(hashes, "sha256", changing)
        found(files[:1])
    assert found(files[:1]) == [{"sha256": hashlib.sha256(b"more").hexdigest()}]


@pytest.mark.parametrize("content", ["nonsense", "[]", '{"a": 3}'])
def test_a_memory_that_cannot_serve_is_none(files, tmp_path, content):
    place = tmp_path / "cache/trellis/sha256.json"
    place.parent.mkdir(parents=True)
    place.write_text(content)
    assert "remembered" not in found(files)[0]
    assert found(files)[0]["remembered"]
    place.unlink()
    place.mkdir()  # not to be written
    assert "remembered" not in found(files)[0] and "remembered" not in found(files)[0]


def test_hashing_stops_when_the_run_does(files, monkeypatch):
    stop = threading.Event()
    stop.set()
    with pytest.raises(RuntimeError, match="stopped"):
        sha256(files[2], stop)
    begun, seen = threading.Event(), []

    def endless(path, stop):
        begun.set()
        seen.append(stop.wait(60))

    monkeypatch.setattr(hashes, "sha256", endless)
    with pytest.raises(KeyboardInterrupt), Hashes(files):
        begun.wait(60)
        raise KeyboardInterrupt
    assert all(seen)
