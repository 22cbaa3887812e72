"""What a user sees of a file, a name or an argument that is wrong: one line that says so, and the right exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from handmade_glb import pack, triangle
from trellis_regression import cli, fuzz

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "golden/robot/cpu/asset.glb"


@pytest.fixture
def said(capsys, monkeypatch):
    """(status, what is printed, the error line) of a command, run where golden/ is."""
    monkeypatch.chdir(ROOT)

    def run(*argv):
        try:
            status = cli.main([str(a) for a in argv])
        except SystemExit as error:  # argparse
            status = error.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


def lines(mode):
    """A GLB whose only primitive is drawn with a mode of points or lines."""
    document, binary = triangle()
    document["meshes"][0]["primitives"][0]["mode"] = mode
    return pack(document, binary)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a GLB: 0 bytes; whatever wrote it did not finish"),
        (b"just text", "not a GLB: it does not begin with 'glTF'"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer; run `git lfs pull`"),
        (b'{"buffers": [{"uri": "scene.bin"}]}', "export it as one binary file (.glb)"),
        (pack(*triangle(buffers=[{"byteLength": 36, "uri": "scene.bin"}])), "a GLB must hold everything it needs"),
        (pack(*triangle(extensionsRequired=["KHR_texture_basisu"])), "export it with PNG, JPEG or WebP"),
        (pack(*triangle(extensionsRequired=["EXT_meshopt_compression"])), "export it without compression"),
        (pack(*triangle(extensionsRequired=["VENDOR_new"])), "it requires the extension 'VENDOR_new'"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_status_2(said, tmp_path, data, message):
    path = tmp_path / "it.glb"
    path.write_bytes(data)
    status, out, err = said("check", path)
    assert (status, out) == (2, "")
    assert err.startswith(f"trellis-gate: error: {path}: ") and err.count("\n") == 1 and message in err
    for argv in (
        ("diff", GOLDEN, path),
        ("diff", path, GOLDEN),
        ("approve", path, "x", "--reason", "y", "--root", tmp_path),
    ):
        status, out, err = said(*argv)
        assert (status, out) == (2, "") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("mode", "kind"), [(0, "of points"), (1, "of lines"), (3, "of lines")])
def test_points_and_lines_fire_the_gate_for_empty_files_and_are_named(said, tmp_path, mode, kind):
    path = tmp_path / "cloud.glb"
    path.write_bytes(lines(mode))
    status, out, _ = said("check", path)
    assert status == 1 and f"(its primitives: 1 {kind}; none has triangles)" in out and "empty: the file" in out


def test_folder_missing_and_unreadable_file(said, tmp_path):
    status, _, err = said("check", tmp_path)
    assert status == 2 and err == f"trellis-gate: error: {tmp_path}: it is a folder; name a GLB file\n"
    status, _, err = said("check", tmp_path / "none.glb")
    assert status == 2 and err.endswith("none.glb: cannot be read: No such file or directory\n")
    locked = tmp_path / "locked.glb"
    locked.write_bytes(GOLDEN.read_bytes())
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read everything")
    status, _, err = said("check", locked)
    assert status == 2 and err.endswith("locked.glb: cannot be read: Permission denied\n")


def test_a_misspelt_golden_is_answered_with_the_nearest(said, tmp_path, monkeypatch):
    status, _, err = said("check", GOLDEN, "--golden", "robbot")
    assert status == 2 and err.endswith("did you mean 'robot'?\n") and "no golden 'robbot' in " in err
    status, _, err = said("check", GOLDEN, "--golden", "xyzzy")
    assert status == 2 and "there are controller, generated, leaf, painted, robot" in err
    status, _, err = said("check", GOLDEN, "--golden", GOLDEN)
    assert status == 2 and "to compare two files: trellis-gate diff" in err
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="there are no goldens in"):
        cli.find("robot")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("chekc", GOLDEN), "invalid choice"),
        (("check",), "the following arguments are required"),
        (("check", GOLDEN, "--profile", "lax"), "invalid choice: 'lax'"),
        (("check", GOLDEN, "--faces", "0"), "--faces: expected 1 or more, got 0"),
        (("check", GOLDEN, "--device", "gpu"), "--device: expected cpu, cuda or cuda:N, got 'gpu'"),
        (("check", GOLDEN, "--device", "cuda:99"), "cuda:99 was asked for, and torch"),
        (("check", GOLDEN, "--stages", "no/such"), "no/such: it holds no stages"),
        (("check", GOLDEN, "--json", "/proc/no/such.json"), "/proc/no"),
        (("approve", GOLDEN, "robot"), "--reason"),
        (("approve", GOLDEN, "a/b", "--reason", "x"), "name: expected letters, digits"),
        (("faults", "--fault", "black-textures"), "did you mean 'black-texture'?"),
    ],
)
def test_wrong_arguments_are_status_2(said, argv, message):
    status, _, err = said(*argv)
    assert status == 2 and message in err and "Traceback" not in err


def test_a_wrong_argument_is_told_before_torch_is_imported():
    program = (
        "import sys; from trellis_regression import cli\n"
        "try: status = cli.main(['check', 'x.glb', '--golden', 'no-such'])\n"
        "finally: print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["2", "False"], done.stderr


def test_mutated_files_of_the_fuzzer_give_a_status_and_no_traceback(said, tmp_path):
    import numpy as np

    path = tmp_path / "case.glb"
    files = fuzz.seeds()
    statuses = set()
    for case in range(24):
        path.write_bytes(fuzz.mutate(files[case % 3], np.random.default_rng((5, case))))
        status, out, err = said("check", path)
        assert status in (0, 1, 2) and (err.count("\n") == 1 if status == 2 else out)
        statuses.add(status)
    assert {1, 2} <= statuses
