"""What a user sees of a file, a name or an argument that is wrong: one line that says so, and the right exit status."""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from handmade_glb import pack, triangle
from trellis_regression import cli, fuzz, khronos
from trellis_regression.check import check, compare
from trellis_regression.golden import ApprovalError, approve
from trellis_regression.profile import Looks
from trellis_regression.viewer.serve import server

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


@contextlib.contextmanager
def nobody():
    """For root, who may read everything: the rights of nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


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
    import trellis_regression.check  # noqa: F401  before the rights to read it are gone

    with nobody():
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
        (("check", GOLDEN, "--json", ROOT), f"--json: {ROOT} is a folder; name a file to write"),
        (("diff", GOLDEN, GOLDEN, "--html", ROOT), f"--html: {ROOT} is a folder; name a file to write"),
        (("check", GOLDEN, "--html", GOLDEN / "x.html"), "asset.glb"),
        (("check", GOLDEN, "--golden", ROOT / "docs"), "docs: a folder without a golden"),
        (
            ("approve", GOLDEN, "x", "--reason", "y", "--root", GOLDEN),
            "asset.glb is a file, and goldens are kept in folders",
        ),
        (("faults", "--assets", "0"), "--assets: expected 1 or more, got 0"),
        (("faults", "--trials", GOLDEN), "asset.glb: not trials kept by"),
        (("fuzz", "--cases", "-3"), "--cases: expected 1 or more, got -3"),
        (("approve", GOLDEN, "robot"), "--reason"),
        (("approve", GOLDEN, "a/b", "--reason", "x"), "name: expected letters, digits"),
        (("faults", "--fault", "black-textures"), "did you mean 'black-texture'?"),
        (("faults", "--asset", "hourse"), "no asset 'hourse'; did you mean 'horse'?"),
    ],
)
def test_wrong_arguments_are_status_2(said, argv, message):
    status, _, err = said(*argv)
    assert status == 2 and message in err and "Traceback" not in err


def test_no_command_writes_over_what_it_reads(said, tmp_path):
    path, other = tmp_path / "cloud.glb", tmp_path / "other.glb"
    for file in (path, other):
        file.write_bytes(lines(0))
    (tmp_path / "link").hardlink_to(path)
    for argv, option in [
        (("check", path, "--json", path), "--json"),
        (("check", path, "--html", tmp_path / "link"), "--html"),
        (("check", path, "--again", other, "--json", other), "--json"),
        (("check", path, "--golden", "robot", "--json", GOLDEN), "--json"),
        (("check", path, "--json", tmp_path / "new", "--html", tmp_path / "new"), "--html"),
        (("diff", path, other, "--json", other), "--json"),
    ]:
        status, out, err = said(*argv)
        assert (status, out) == (2, "") and err.startswith(f"trellis-gate: error: {option}: "), argv
        assert "would take the place of" in err and path.read_bytes() == other.read_bytes() == lines(0)
    assert not (tmp_path / "new").exists()


def test_version(said):
    status, out, _ = said("--version")
    assert status == 0 and out.startswith("trellis-gate ") and len(out.split()) > 1


def test_json_to_standard_output_is_nothing_but_json(said, tmp_path):
    path = tmp_path / "cloud.glb"
    path.write_bytes(lines(0))
    status, out, err = said("check", path, "--json", "-")
    assert status == 1 and json.loads(out)["fired"] == ["empty"] and err.startswith("FAIL ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_names_the_file_and_does_not_lose_the_verdict(said, tmp_path):
    path = tmp_path / "cloud.glb"
    path.write_bytes(lines(0))
    status, out, err = said("check", path, "--json", "/dev/full")
    assert status == 2 and err == "trellis-gate: error: /dev/full: No space left on device\n"
    assert "empty: the file" in out


def test_a_pipe_that_closes_ends_the_command_quietly(tmp_path):
    """`trellis-gate list | head -1`, and the same for the JSON that goes into a pipe."""
    (tmp_path / "cloud.glb").write_bytes(lines(0))
    for argv in (["list"], ["check", str(tmp_path / "cloud.glb"), "--json", "/dev/stdout"]):
        program = "import sys; from trellis_regression import cli; sys.exit(cli.main(sys.argv[1:]))"
        running = subprocess.Popen(
            [sys.executable, "-c", program, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        running.stdout.close()
        assert (running.stderr.read(), running.wait(120)) == ("", 141), argv


def test_faces_heaped_in_one_place_do_not_hold_the_command(tmp_path):
    """Each ray meets all of them, and a file of a megabyte holds 200,000."""
    heap = np.array([[0, 0, 0], [1, 0, 0.3], [0, 1, 0.7]], np.float32)
    indices = np.tile(np.arange(3, dtype=np.uint16), 200_000)
    document, _ = triangle()
    document["accessors"][0]["max"] = [1, 1, float(heap[:, 2].max())]
    document["accessors"][1]["count"] = len(indices)
    document["bufferViews"][1]["byteLength"] = indices.nbytes
    document["buffers"][0]["byteLength"] = 36 + indices.nbytes
    (tmp_path / "heap.glb").write_bytes(pack(document, heap.tobytes() + indices.tobytes()))
    (tmp_path / "robot.glb").write_bytes(GOLDEN.read_bytes())
    for argv in (["check", "heap.glb"], ["diff", "robot.glb", "heap.glb"]):
        command = [sys.executable, "-m", "trellis_regression", *argv, "--time-limit", "4", "--json", "out.json"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        assert done.returncode == 2 and not (tmp_path / "out.json").exists(), argv
        assert done.stderr == (
            "trellis-gate: error: heap.glb: not measured within 4 s (--time-limit); are its faces in one place?\n"
        )


def test_fixture_in_a_foreign_folder_approves_passes_and_fails_with_the_sentence(tmp_path):
    """As someone's own project has it: their tests, their goldens, our plugin."""
    (tmp_path / "ok.glb").write_bytes(GOLDEN.read_bytes())
    (tmp_path / "cloud.glb").write_bytes(lines(0))
    (tmp_path / "test_it.py").write_text(
        "def test_ok(glb_gate): assert glb_gate('ok.glb', golden='mine', golden_root='kept').golden.name == 'mine'\n"
        "def test_bad(glb_gate): glb_gate('cloud.glb')\n"
        "def test_gone(glb_gate): glb_gate('gone.glb')\n"
    )

    def run(*argv):
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "trellis_regression.pytest_plugin", *argv],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )  # fmt: skip

    first = run()
    assert first.returncode == 1 and "3 failed" in first.stdout, first.stdout
    assert "no golden 'mine': there are no goldens in kept" in first.stdout
    assert "empty: the file holds no surface" in first.stdout
    assert "gone.glb: cannot be read: No such file or directory" in first.stdout
    assert "During handling" not in first.stdout and ".py:" not in first.stdout.split("short test summary")[0]
    second = run("--approve-goldens", "looked at it", "-k", "ok")
    assert second.returncode == 0, second.stdout
    assert "looked at it" in (tmp_path / "kept/mine/cpu/provenance.json").read_text()


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


STRANGE = os.fsdecode(b"chair-\xff\xe6\xa4\x85.glb")  # a name of bytes that are no Unicode


def test_a_name_that_is_no_unicode_costs_neither_verdict_nor_report(tmp_path, monkeypatch):
    """Nor does one that the terminal's encoding lacks."""
    (tmp_path / STRANGE).write_bytes(GOLDEN.read_bytes())
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "latin-1"))
    html, figures = tmp_path / "r.html", tmp_path / "r.json"
    status = cli.main(["check", str(tmp_path / STRANGE), "--html", str(html), "--json", str(figures)])
    assert status == 0 and b"PASS" in sys.stdout.buffer.getvalue()
    assert "</html>" in html.read_text(encoding="utf-8") and json.loads(figures.read_text())["file"] == STRANGE


def test_the_viewer_shows_a_file_whose_name_is_no_unicode(tmp_path):
    (tmp_path / STRANGE).write_bytes(GOLDEN.read_bytes())
    with server([tmp_path / STRANGE]) as serving:
        thread = threading.Thread(target=serving.handle_request)
        thread.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{serving.server_address[1]}/", timeout=20) as answer:
            assert b"chair-" in answer.read()
        thread.join(20)


def test_files_may_be_named_by_strings_in_python(tmp_path, monkeypatch):
    """As most callers do, with the validator at work or without."""
    begun = []
    monkeypatch.setattr(khronos, "begin", lambda *files: begun.extend(f.resolve() for f in files))
    result = check(str(GOLDEN), golden=GOLDEN.parents[1], again=str(GOLDEN), looks=Looks(views=()))
    assert result.verdict.ok and result.as_json()["file"] == GOLDEN.name and begun == [GOLDEN]
    other = compare(str(GOLDEN), str(GOLDEN), looks=Looks(views=()))
    assert other.verdict.ok and other.path == GOLDEN
    with pytest.raises(ApprovalError, match="is a file, and goldens are kept in folders"):
        (tmp_path / "mine").touch()
        approve(str(GOLDEN), "mine", reason="seen", root=str(tmp_path))
