"""What lets measurements run beside each other, and the process that `trellis-gate` is."""

import gc
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from json import dumps
from pathlib import Path
from signal import pause
from threading import Barrier, Event
from time import sleep

import numpy as np
import pytest
import torch
from trellis_regression import opening
from trellis_regression.asset import Asset, rows
from trellis_regression.check import check
from trellis_regression.fuzz import seeds
from trellis_regression.glb import GlbError, read_glb
from trellis_regression.measure import pictures
from trellis_regression.once import once
from trellis_regression.profile import alone, side_by_side
from trellis_regression.reading import Reading
from trellis_regression.scene import Coming, Images

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "golden/robot/cpu/asset.glb"


def test_threads_that_ask_at_once_get_one_value():
    begun, go, made = Event(), Event(), []

    class Thing:
        @once
        def value(self) -> object:
            made.append(1)
            begun.set()
            assert go.wait(10)
            return object()

    thing = Thing()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: thing.value)
        assert begun.wait(10)
        second = pool.submit(lambda: thing.value)
        go.set()
        assert first.result(10) is second.result(10)
    assert len(made) == 1


def test_two_objects_do_not_wait_for_each_other():
    both = Barrier(2, timeout=10)

    class Thing:
        @once
        def value(self) -> int:
            return both.wait()  # broken unless the other thing's is being computed as well

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda thing: thing.value, (Thing(), Thing()))) == [0, 1]


def test_a_value_that_could_not_be_computed_is_tried_again():
    class Thing:
        tries = 0

        @once
        def value(self) -> int:
            self.tries += 1
            if self.tries == 1:
                raise ValueError("not yet")
            return self.tries

    thing = Thing()
    with pytest.raises(ValueError, match="not yet"):
        _ = thing.value
    assert thing.value == thing.value == 2


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_rows_are_those_of_an_index(shape):
    values = torch.rand(7, *shape)
    for index in (torch.tensor([[6, 0], [3, 3]]), torch.zeros(0, 3, dtype=torch.int64), torch.tensor([2])):
        assert torch.equal(rows(values, index), values[index])


def test_threads_of_torch_are_as_many_as_before():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        with pytest.raises(KeyError), side_by_side(torch.device("cpu")):
            assert torch.get_num_threads() == 2
            raise KeyError
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_the_light_is_made_once(monkeypatch):
    made = []
    pictures._light.cache_clear()
    monkeypatch.setattr(pictures, "load_environment", lambda path, device: made.append(device) or len(made))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(pictures.light, [torch.device("cpu")] * 4)) == [1] * 4
    pictures._light.cache_clear()


def test_a_gpu_is_given_the_first_comparison_ahead(monkeypatch):
    """All views and modes at once, as they are compared later: another number of them has other kernels."""
    done = []
    monkeypatch.setattr(pictures, "light", lambda device: done.append(device.type))
    monkeypatch.setattr(pictures, "flip", lambda a, b: done.append(tuple(a.shape)) or done.append(a.device.type))
    pictures.prepare(torch.device("cpu"))
    assert done == ["cpu"]
    pictures.prepare(torch.device("meta"))
    assert done[1:] == ["meta", (8, 3, pictures.SIZE, pictures.SIZE, 3), "meta"]


def test_bounds_that_another_process_found_are_not_measured_again():
    measured = Asset.read(GOLDEN)
    opened = opening.Opened(measured.glb, measured.parts, bounds=measured.bounds)
    given = Asset(measured.glb, opened=opened)
    assert given.bounds is measured.bounds and given.extent == measured.extent
    assert "positions" in vars(measured) and "positions" not in vars(given)


def test_garbage_is_collected_again_after_an_import():
    assert gc.isenabled()
    with pytest.raises(KeyError), opening.uncollected():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def _numbers(path):
    """What a process may read: arrays, one of them twice, one with its columns in the other order."""
    values = np.frombuffer(path.read_bytes(), np.uint8)
    yield {"a": values, "same": values, "turned": values.reshape(2, -1).T, "empty": np.zeros((0, 3), np.float32)}


def test_a_process_gives_what_it_read(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(range(250)))
    (found,) = Reading(file, _numbers).result()
    (expected_,) = _numbers(file)
    for name, expected in expected_.items():
        assert found[name].dtype == expected.dtype and np.array_equal(found[name], expected)
    assert found["a"] is found["same"]


def test_a_process_passes_on_its_error(tmp_path):
    broken = tmp_path / "broken.glb"
    broken.write_bytes(b"glTF")
    with pytest.raises(GlbError, match="the header alone has 12"):
        Reading(broken, opening._read).result()


def test_a_process_that_ends_without_an_answer_is_none(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"1234")
    assert Reading(file, lambda path: 1 // 0).result() is None  # no ValueError: a bug, to be met where it can be seen


@pytest.mark.parametrize("end", ["itself", "abandon"])
def test_a_process_that_is_killed_is_an_error(tmp_path, end):
    file = tmp_path / "file"
    file.write_bytes(b"1234")
    reading = Reading(file, lambda path: os.kill(os.getpid(), signal.SIGKILL) if end == "itself" else pause())
    if end == "abandon":
        reading.abandon()
    with pytest.raises(ValueError, match=r"file: the process that read it was ended by SIGKILL"):
        reading.result()
    reading.abandon()  # nothing, by then


def test_a_command_whose_reader_is_killed_says_so(tmp_path):
    """From a command line, as a system short of memory would do it."""
    script = (
        "import os, sys; from trellis_regression import cli, opening\n"
        "opening._read = lambda path: os.kill(os.getpid(), 9)\n"
        "cli._device = lambda *_: 'cpu'\n"
        "sys.exit(cli.main(['check', sys.argv[1], '--device', 'cuda']))"
    )
    done = subprocess.run([sys.executable, "-c", script, GOLDEN], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "asset.glb: the process that read it was ended by SIGKILL" in done.stderr


def _one(path):
    yield 1
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_later_has_given_what_it_read_before(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"1234")
    reading = Reading(file, _one)
    assert reading.result() == (1,)
    for _ in range(2):
        with pytest.raises(ValueError, match="ended by SIGKILL"):
            reading.result()


def test_things_come_one_after_the_other_and_then_no_more(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(range(100)))
    reading = Reading(file, lambda path: (np.frombuffer(path.read_bytes(), np.uint8)[i:] for i in range(3)))
    arrays = [reading.result()[0] for _ in range(3)]
    assert reading.result() is None and reading.result() is None
    assert [a.tolist() for a in arrays] == [list(range(i, 100)) for i in range(3)]


def test_surfaces_come_before_their_images(tmp_path, monkeypatch):
    go, finish = tmp_path / "go", Images._finish

    def waiting(index, image):
        while not go.exists():
            sleep(0.01)
        return finish(index, image)

    monkeypatch.setattr(Images, "_finish", staticmethod(waiting))
    reading = Reading(GOLDEN, opening._read)
    ((parts, _, _),) = reading.result()
    textures = parts[0].material.textures.values()
    assert len(parts[0].faces) and all(isinstance(t.image, Coming) for t in textures)
    assert len({id(t.image) for t in textures}) == len({t.image.index for t in textures})  # each once
    go.touch()
    sent = dict(reading.result()[0] for _ in {t.image.index for t in textures})
    decoded = Images(read_glb(GOLDEN))
    for t in textures:
        assert t.image.shape == decoded[t.image.index].shape and np.array_equal(
            sent[t.image.index], decoded[t.image.index]
        )
    assert reading.result() is None


def _undecodable(data):
    """Pictures whose headers can still be read."""
    return re.sub(rb"IDAT.{8}", b"IDAT" + bytes(8), data, flags=re.DOTALL)


@pytest.mark.parametrize("what", ["whole", "changed", "broken"])
def test_images_are_those_of_the_file_that_was_read(tmp_path, what):
    """In a command. A file that changes meanwhile is decoded as it was; one whose pictures are broken is named."""
    file = tmp_path / "asset.glb"
    data = GOLDEN.read_bytes()
    if what == "broken":
        data = _undecodable(data)
    file.write_bytes(data)
    script = """
import sys
from pathlib import Path
import numpy as np
from trellis_regression import opening
from trellis_regression.scene import Coming, Images
path = Path(sys.argv[1])
opening.begin(path, apart=True)
found = opening.take(path)
images = [t.image for t in found.parts[0].material.textures.values()]
assert images and all(isinstance(i, Coming) for i in images)
if sys.argv[2] == "changed":
    path.write_bytes(path.read_bytes() + bytes(4))
for image in images * 2:
    try:
        assert np.array_equal(np.asarray(image), Images(found.glb)[image.index])
    except ValueError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, file, what], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert bool(said) == (what == "broken") and all(f"{file}: images[" in line for line in said), said


def test_a_picture_that_cannot_be_decoded_is_one_line(tmp_path):
    """Though the shapes are measured by then."""
    file = tmp_path / "asset.glb"
    file.write_bytes(_undecodable(GOLDEN.read_bytes()))
    script = (
        "import sys; from trellis_regression import cli\n"
        "cli._device = lambda *_: 'cpu'\n"
        "sys.exit(cli.main(['check', sys.argv[1], '--golden', 'robot', '--device', 'cuda']))"
    )
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"{file}: images[" in done.stderr and "cannot be decoded" in done.stderr


def test_a_file_that_changes_while_it_is_read_is_none(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"1234")
    assert Reading(file, lambda path: path.write_bytes(b"123456")).result() is None


def test_a_command_reads_in_another_process():
    """The surfaces are there although this process cannot make any."""
    script = (
        "import sys; from pathlib import Path; from trellis_regression import opening\n"
        "opening.begin(Path(sys.argv[1]), apart=True); opening.surfaces = None\n"
        "found = opening.take(sys.argv[1]); print(len(found.parts[0].faces), found.frame.radius, 'torch' in sys.modules)\n"
        "print(*found.bounds.reshape(-1), found.digest)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, GOLDEN], capture_output=True, text=True)
    asset = Asset.read(GOLDEN)
    said = done.stdout.split()
    assert said[:3] == [str(len(asset.faces)), str(asset.frame.radius), "False"], done.stderr
    assert [float(x) for x in said[3:9]] == asset.bounds.reshape(-1).tolist() and said[9] == asset.digest


@pytest.mark.parametrize("without", ["fork", "memfd_create"])
def test_a_system_without_forks_reads_in_threads(without):
    script = (
        f"import os, sys; from pathlib import Path; from trellis_regression import opening; del os.{without}\n"
        "opening.begin(Path(sys.argv[1]), apart=True)\n"
        "print(len(opening._begun), len(opening._readings)); opening.take(sys.argv[1]); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-u", "-c", script, GOLDEN], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["1", "0"]), done.stderr


@pytest.fixture
def switching():
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_files_that_are_begun_do_not_wait_for_each_other(monkeypatch, switching, tmp_path):
    """On one core too there is a thread left for their pictures."""
    monkeypatch.setattr(opening, "cores", lambda: 1)
    other = tmp_path / "other.glb"
    other.write_bytes(seeds()[0])
    opening.begin(GOLDEN, other)
    with ThreadPoolExecutor(1) as pool:
        begun = [pool.submit(opening.take, path).result(60) for path in (GOLDEN, other)]
    now = [opening.take(path) for path in (GOLDEN, other)]
    for opened, again in zip(begun, now, strict=True):
        parts, same_parts = opened.parts, again.parts
        assert opened.glb.data == again.glb.data and len(parts) == len(same_parts) == 1
        assert (parts[0].positions == same_parts[0].positions).all() and (parts[0].faces == same_parts[0].faces).all()
        textures = parts[0].material.textures
        assert textures.keys() == same_parts[0].material.textures.keys()
        assert all((t.image == same_parts[0].material.textures[k].image).all() for k, t in textures.items())


def test_a_file_that_was_begun_and_is_broken_is_named(switching, tmp_path):
    broken = tmp_path / "broken.glb"
    broken.write_bytes(seeds()[0][:-2000])
    opening.begin(broken)
    with pytest.raises(GlbError, match=r"broken\.glb: truncated"):
        Asset.read(broken)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:3", "cuda:x", "nonsense", "cuda:99"])
def test_waking_a_device_never_fails(device):
    opening.wake(device)


@pytest.mark.parametrize("index", [0, 99])
def test_a_device_that_is_not_there_is_left_to_torch(index):
    opening._retain(index)


def test_a_second_golden_is_held_against_the_same_figures(tmp_path):
    """Of two variants the first does not fit; the figures of the candidate are measured once and serve both."""
    for variant, data in (("a", seeds()[0]), ("b", GOLDEN.read_bytes())):
        folder = tmp_path / "robot" / variant
        folder.mkdir(parents=True)
        (folder / "asset.glb").write_bytes(data)
        (folder / "profile.json").write_text(dumps(alone(Asset.parse(data))))
        (folder / "provenance.json").write_text(dumps({"sha256": sha256(data).hexdigest()}))
    found = check(GOLDEN, golden="robot", golden_root=tmp_path, validate=False)
    assert found.verdict.ok and found.golden.variant == "b"
    assert found.evidence.own == {k: alone(Asset.read(GOLDEN))[k] for k in ("container", "shape", "texture")}


def test_the_process_ends_with_the_commands_status_and_all_of_its_output():
    command = [sys.executable, "-m", "trellis_regression"]
    listed = subprocess.run([*command, "list"], capture_output=True, text=True)
    assert listed.returncode == 0 and "second-run" in listed.stdout and "goldens in" in listed.stdout.splitlines()[-1]
    wrong = subprocess.run([*command, "check", __file__, "--golden", "robot"], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "not a GLB" in wrong.stderr
