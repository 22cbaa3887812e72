"""``trellis batch``: whatever becomes of one picture, the others are made, and the same command goes on where it stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from trellis_pipeline.batch import command
from trellis_pipeline.batch.jobs import find
from trellis_pipeline.batch.supervise import Worker
from trellis_pipeline.cli import main
from trellis_pipeline.generate import GenerateOptions
from trellis_pipeline.hashes import sha256
from trellis_pipeline.store import alone
from trellis_pipeline.testing import object_picture
from trellis_regression.whole import beginning

OPTIONS = GenerateOptions(seed=5)


class Batch:
    """Pictures, a folder for what becomes of them, and a process that stands for the one that makes them."""

    def __init__(self, folder, capsys):
        self.pictures, self.out, self.starts, self.capsys = folder / "in", folder / "out", folder / "starts", capsys
        self.pictures.mkdir()

    def add(self, *names):
        for name in names:
            path = self.pictures / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"picture {name}")

    def run(self, *sources, options=OPTIONS, **more):
        """Status and lines; a refusal is its text."""
        script = Path(__file__).with_name("batch_worker.py")
        start = [sys.executable, "-S", str(script), "--starts", str(self.starts)]
        try:
            sources = sources or [self.pictures]
            status = command.run(sources, self.out, options, start=lambda: Worker(start), **more)
        except ValueError as error:
            status = str(error)
        return status, self.capsys.readouterr().out.splitlines()

    @property
    def started(self):
        return len(self.starts.read_text().splitlines()) if self.starts.exists() else 0

    def made(self):
        return sorted(str(p.relative_to(self.out)) for p in self.out.rglob("*.glb"))


@pytest.fixture
def batch(tmp_path, capsys):
    return Batch(tmp_path, capsys)


def test_what_one_picture_does_ends_no_other(batch):
    batch.add("a.png", "bad.png", "exit.png", "hang.png", "left.png", "once.png", "segfault.png", "z.png")
    status, said = batch.run(timeout=2.0)
    assert status == 1
    assert batch.made() == ["a.glb", "left.glb", "once.glb", "z.glb"]
    text = "\n".join(said)
    assert "[1/8]" in said[0] and said[0].endswith("a.png: 12 faces, 0.1 s")
    assert "bad.png: failed: not a picture" in text
    assert "exit.png: its process ended with exit status 3; again, in a new process" in text
    assert "exit.png: failed: its process ended with exit status 3" in text
    assert f"hang.png: failed: it was stopped after 2 s without a result (--timeout) ({batch.out / 'hang.log'})" in text
    assert "once.png: its process was ended by SIGKILL (out of main memory" in text and "once.png: 12 faces" in text
    assert "segfault.png: failed: its process was ended by SIGSEGV" in text
    assert "1,073,741,824 bytes of the device were left behind" in text
    assert said[-1].startswith("4 made, 4 failed (")
    # One for the start, one after each crash (two each of exit, hang and segfault, one of once) and one after what was left.
    assert batch.started == 1 + 2 * 3 + 1 + 1
    for pid in batch.starts.read_text().split():
        assert not Path(f"/proc/{pid}").exists()


def test_the_same_command_goes_on_and_leaves_what_is_made(batch):
    batch.add("a.png", "bad.png", "b.png")
    assert batch.run()[0] == 1
    times = {p: p.stat().st_mtime_ns for p in batch.out.glob("*.glb")}
    status, said = batch.run()
    assert status == 1 and batch.started == 1  # nothing was to do, so no model was opened
    assert said[-1].startswith("2 made before, 1 set aside before (") and "set aside before: not a picture" in said[2]
    assert times == {p: p.stat().st_mtime_ns for p in batch.out.glob("*.glb")}
    # What failed is tried when asked for, when it has changed, or with other options.
    assert batch.run(retry_failed=True)[1][-1].startswith("2 made before, 1 failed")
    batch.add("c.png")
    (batch.pictures / "bad.png").write_text("another picture")
    assert batch.run()[1][-1].startswith("1 made, 2 made before, 1 failed")
    # Another seed, a changed picture, a damaged result: made anew. Where and how fast it runs changes nothing.
    assert batch.run(options=replace(OPTIONS, seed=6))[1][-1].startswith("3 made, 1 failed")
    (batch.pictures / "a.png").write_text("changed")
    (batch.out / "b.glb").write_bytes(b"cut")
    harmless = replace(OPTIONS, seed=6, device="cuda:1", vram_budget=8, attention="math")
    assert batch.run(options=harmless)[1][-1].startswith("2 made, 1 made before, 1 set aside before")


def test_a_full_disk_stops_it_and_sets_nothing_aside(batch):
    batch.add("a.png", "full.png", "z.png")
    status, said = batch.run()
    assert status == f"No space left on device: 1 made. Make room in {batch.out}; the same command goes on from here"
    assert len(said) == 1
    (batch.pictures / "full.png").rename(batch.pictures / "fuller.png")
    assert batch.run()[1][-1].startswith("2 made, 1 made before")


def test_a_journal_that_cannot_be_written_is_a_full_disk(batch, monkeypatch):
    batch.add("a.png", "b.png")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _ = batch.run()
    assert str(status).startswith("No space left on device: nothing was made. Make room")
    monkeypatch.undo()
    assert batch.run()[1][-1].startswith("1 made, 1 made before")


def test_a_machine_that_fails_is_not_taken_for_its_pictures(batch):
    batch.add("a.png", *(f"segfault-{i}.png" for i in range(9)))
    status, _ = batch.run(retries=0)
    assert "5 pictures in a row crashed, the last by: its process was ended by SIGSEGV" in status
    for i in range(9):
        (batch.pictures / f"segfault-{i}.png").rename(batch.pictures / f"well-{i}.png")
        (batch.pictures / f"segfault-{i}.png").write_text("once more")
    assert len([line for line in batch.run(retries=0)[1] if "set aside before" in line]) == 0


def test_models_that_do_not_open_are_said_once(batch):
    batch.add("a.png", "b.png")
    status, said = batch.run(options=replace(OPTIONS, revision="broken"))
    assert status == "holds no pipeline.json" and said == []
    assert not batch.out.exists()


def test_names(batch):
    batch.add("a/chair.png", "b/chair.png", "b/.hidden.png", "b/notes.txt", "chair.v2.png", "photo.HEIC")
    status, said = batch.run()
    assert status == 0 and said[0] == "1 files in the folders are no pictures"
    assert batch.made() == ["a/chair.glb", "b/chair.glb", "chair.v2.glb", "photo.glb"]
    one, other = batch.pictures / "a/chair.png", batch.pictures / "b/chair.png"
    status, _ = batch.run(one, other)
    assert status.startswith(f"{one} and {other} would both become {batch.out / 'chair.glb'}: rename one")
    batch.add("a/chair.jpg")
    assert "would both become" in batch.run()[0]
    assert batch.run(one, one)[0] == 0
    assert batch.run(batch.pictures / "none.png")[0].endswith("none.png: there is no such file")
    (batch.pictures / "empty").mkdir()
    assert "no picture is there" in batch.run(batch.pictures / "empty")[0]


def test_it_writes_over_nothing_of_others(batch):
    batch.add("a.png")
    batch.out = batch.pictures
    (batch.pictures / "a.json").write_text('{"caption": "a chair"}')
    status, _ = batch.run()
    assert "a.json would be written over, and no batch made it" in status
    assert "caption" in (batch.pictures / "a.json").read_text()
    batch.out = batch.pictures / "glb"
    assert batch.run()[0] == 0 and batch.run()[1][-1].startswith("1 made before")
    with pytest.raises(ValueError, match="would be written over"):
        find([batch.pictures / "a.json"], batch.pictures)


def test_two_batches_do_not_share_a_folder(batch):
    batch.add("a.png")
    batch.out.mkdir()
    with alone(batch.out, "--out", "batch"):
        status, _ = batch.run()
    assert "another batch is at work there" in status
    assert batch.run()[0] == 0


def test_a_torn_line_of_the_journal_costs_one_picture_at_most(batch):
    batch.add("bad.png", "bad-2.png")
    batch.run()
    journal = batch.out / "batch.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert batch.run()[1][-1].startswith("1 failed, 1 set aside before")
    assert batch.run()[1][-1].startswith("2 set aside before")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_nothing_half_made(batch, number):
    batch.add("a.png", "hang.png")
    code = (
        "import sys; sys.path[:0] = {path!r}\n"
        "from test_batch import *\n"
        "Worker.__init__.__defaults__ = ({worker!r},)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.exit(main(['batch', {pictures!r}, '-o', {out!r}, '--seed', '5']))"
    ).format(
        path=[str(Path(__file__).parent), *sys.path], pictures=str(batch.pictures), out=str(batch.out),
        worker=[sys.executable, "-S", str(Path(__file__).with_name("batch_worker.py")), "--starts", str(batch.starts)],
    )  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as it:
        while not (batch.out / "hang.log").exists():
            assert it.poll() is None, it.stderr.read()
            time.sleep(0.01)
        it.send_signal(number)
        said, error = it.communicate(timeout=60)
    assert it.returncode == 130 and error == "trellis: interrupted\n"
    assert said.splitlines()[-1] == "1 made; the same command goes on from here"
    assert sorted(p.name for p in batch.out.iterdir()) == ["a.glb", "a.json", "batch.jsonl", "hang.log"]
    assert not Path(f"/proc/{batch.starts.read_text().split()[-1]}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel to end a child with its parent")
def test_killed_in_the_midst_of_a_picture_and_taken_up(checkpoint_folder, tmp_path, capsys, monkeypatch):
    """The real thing, on the tiny checkpoint: SIGKILL while the second picture runs, then the same command."""
    pictures, out = tmp_path / "in ü", tmp_path / "out"
    pictures.mkdir()
    for name in ("a", "b"):
        object_picture().save(pictures / f"{name}.png")
    (pictures / "c.jpg").write_bytes(b"<!doctype html>")
    Image.new("RGBA", (30, 30)).save(pictures / "d.png")
    quick = ("--type", "512", "--steps", "1", "--faces", "800", "--texture", "64", "--device", "cpu")
    arguments = ["batch", str(pictures), "-o", str(out), "--weights", str(checkpoint_folder), *quick]
    with subprocess.Popen([sys.executable, "-m", "trellis_pipeline", *arguments], stdout=subprocess.PIPE) as process:
        while not (out / "b.log").exists():
            assert process.poll() is None
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    assert len(children) == 1
    until = time.monotonic() + 20
    while Path(f"/proc/{children[0]}").exists() and time.monotonic() < until:  # it holds the card's memory
        time.sleep(0.01)
    assert not Path(f"/proc/{children[0]}").exists()
    before = (out / "a.glb").stat().st_mtime_ns
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "a.png: made before" in said and "b.png: 8" in said
    assert "c.jpg: failed: not a picture" in said and "d.png: failed: the picture is fully" in said
    assert (out / "a.glb").stat().st_mtime_ns == before
    named = (out / "b.glb").read_bytes().replace(b'"b"', b'"a"').replace(b'"b_', b'"a_')
    assert named == (out / "a.glb").read_bytes()  # the pictures are equal
    facts = json.loads((out / "b.json").read_text())
    assert facts["output"]["sha256"] == sha256(out / "b.glb") and facts["checkpoint"]["source"] == str(
        checkpoint_folder
    )
    assert not (out / "b.log").exists() and not list(out.rglob(".*"))


def test_links_are_followed_and_one_to_nothing_fails_alone(batch, tmp_path):
    batch.add("a.png")
    (batch.pictures / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.png").write_text("picture")
    (batch.pictures / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(batch.pictures)  # leads in a circle
    jobs, _ = find([batch.pictures], batch.out)
    assert [job.name for job in jobs] == ["a", "gone", "more/b"]
    (batch.pictures / "gone.png").rename(batch.pictures / "bad.png")  # which the process of these tests refuses
    assert batch.run()[0] == 1 and batch.made() == ["a.glb", "more/b.glb"]


def test_a_folder_that_cannot_be_read_is_said(batch, monkeypatch):
    batch.add("a.png", "closed/b.png")
    scan = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(PermissionError, match="closed"):
        find([batch.pictures], batch.out)


def test_names_of_the_greatest_length(batch):
    name = "x" * 250
    batch.add(f"{name}.png")
    (batch.out).mkdir()
    (batch.out / "batch.jsonl").touch()
    left = batch.out / f"{beginning(name + '.glb')}0123456789ab"
    left.write_text("half")
    assert batch.run()[0] == 0 and batch.made() == [f"{name}.glb"] and not left.exists()
