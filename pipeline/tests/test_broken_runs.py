"""Whatever stage breaks, by a value that is not finite or by Ctrl-C: its name, the right status, and nothing half-written.

`STAGES` are the stages that runs record; a stage that is not in it, or that lets a NaN through, fails here.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from trellis_pipeline import Pipeline, generation
from trellis_pipeline import pipeline as running
from trellis_pipeline.cli import main
from trellis_pipeline.errors import StageError
from trellis_pipeline.export import asset as road
from trellis_pipeline.export import gltf
from trellis_pipeline.export.bake import _sample
from trellis_pipeline.image import prepare
from trellis_pipeline.manifest import Manifest
from trellis_pipeline.memory import residency
from trellis_pipeline.store import StageStore
from trellis_pipeline.testing import object_picture
from trellis_regression.glb import check_geometry, read_glb

QUICK = ("--steps", "1", "--faces", "800", "--texture", "64", "--device", "cpu", "--seed", "5")
MODELS = ("encode", "structure", "occupancy", "shape", "texture", "decode_shape", "decode_texture")
CASCADE = ("shape_low", "cascade")
EXPORT = ("extract", "clean", "orient", "simplify", "unwrap", "bake", "write")
CELLS, THREADS = 24, 2
STAGES = ("prepare", *MODELS, *CASCADE, *EXPORT, "remesh")
# What a run has kept when it comes to a stage.
ORDER = ("conditioning", "structure", "shape_low", "shape", "texture", "voxels")
KEPT = {
    "structure": 1, "occupancy": 1, "shape_low": 2, "shape": 3, "cascade": 3, "texture": 4, "decode_shape": 5,
    "decode_texture": 5,
} | dict.fromkeys((*EXPORT, "remesh"), 6)  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its arguments but for outputs, the stages that it recorded, its folder."""

    arguments: tuple[str, ...]
    stages: tuple[str, ...]
    folder: Path


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """As many here as in the interrupted runs: sums of torch's CPU kernels follow the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_object(checkpoint_folder, tmp_path_factory):
    """The checkpoint with a threshold of the structure that leaves `CELLS` cells: runs of it are quick."""
    folder = Path(shutil.copytree(checkpoint_folder, tmp_path_factory.mktemp("small") / "checkpoint"))
    seen = []

    def spy(decoder, latent, _):
        seen.append(decoder(latent))
        raise StageError("occupancy", "seen")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StageError, match="seen"):
        patch.setattr(generation, "decode_structure", spy)
        Pipeline.from_pretrained(folder, device="cpu").run(prepare(object_picture(), None), seed=5, type="512", steps=1)
    cells = torch.nn.functional.max_pool3d(seen[0], seen[0].shape[2] // 32).flatten().sort(descending=True).values
    path = next(folder.rglob("ss_dec_*.safetensors"))
    tensors = load_file(path)
    tensors["out_layer.2.bias"] -= (cells[CELLS - 1] + cells[CELLS]) / 2
    save_file(tensors, path)
    return folder


@pytest.fixture(scope="module")
def whole(small_object, tmp_path_factory):
    """Undisturbed runs by what is special about them."""
    checkpoint_folder, folder = small_object, tmp_path_factory.mktemp("whole")
    object_picture().save(folder / "object.png")
    start = ("generate", str(folder / "object.png"), "--weights", str(checkpoint_folder), *QUICK)
    runs = {}
    for name, more in {"512": (), "remesh": ("--remesh", "--resume")}.items():
        place, more = folder / name, ("--type", "512", *more)
        if name == "remesh":
            shutil.copytree(folder / "512/stages", place / "stages")
        assert main([*start, *more, *outputs(place), "-q"]) == 0
        runs[name] = Whole((*start, *more), tuple(json.loads((place / "m.json").read_text())["stages"]), place)
    # Of a cascade the models' stages alone: its export is that of the others.
    place, record = folder / "1024_cascade", Manifest("generate", {}, quiet=True)
    Pipeline.from_pretrained(checkpoint_folder, device="cpu").run(
        prepare(object_picture(), None), seed=5, type="1024_cascade", steps=1, store=StageStore(place / "stages"),
        record=record,
    )  # fmt: skip
    runs["1024_cascade"] = Whole((*start, "--type", "1024_cascade"), tuple(record.facts["stages"]), place)
    return runs


def outputs(folder):
    return ["-o", str(folder / "o.glb"), "--manifest", str(folder / "m.json"), "--keep-stages", str(folder / "stages")]


def begun(run, folder, stage):
    """A folder of stages as a run has it when it comes to `stage`."""
    shutil.copytree(run.folder / "stages", folder / "stages")
    for path in (folder / "stages").glob("*.safetensors"):
        if path.stem not in ORDER[: KEPT.get(stage, 0)]:
            path.unlink()


def assert_nothing_half_written(folder):
    """Every file is whole, none is temporary, and no kept stage holds a value that is not finite."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        assert path.suffix in (".safetensors", ".json", ".glb"), path
        assert not path.name.startswith("."), path
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".glb":
            check_geometry(read_glb(path))
        else:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118
                    value = file.get_tensor(key)
                    assert not value.is_floating_point() or bool(value.isfinite().all()), (path, key)


def test_the_list_of_stages_is_that_of_the_runs(whole):
    assert {stage for run in whole.values() for stage in run.stages} - set(ORDER) == set(STAGES) - set(ORDER)
    assert whole["512"].stages == ("prepare", *MODELS, *EXPORT)


def spoilt(value):
    """An artifact of the export road with one NaN in its first floating tensor."""
    for name, tensor in vars(value).items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            bad = tensor.clone()
            bad.view(-1)[len(bad.view(-1)) // 2] = float("nan")
            return replace(value, **{name: bad})
    raise AssertionError(f"no floating tensor in a {type(value).__name__}")


def inject(patch, stage, folder):
    """Makes `stage` work with or make a NaN, as it would on hardware or weights gone wrong."""
    if stage in EXPORT or stage == "remesh":
        owner, name = {
            "orient": (road, "orient_outward"), "bake": (sys.modules[_sample.__module__], "_sample"), "write": (gltf, "_geometry"),
        }.get(stage, (road, stage))  # fmt: skip
        original = getattr(owner, name)

        def made(*arguments, **options):
            result = original(*arguments, **options)
            if isinstance(result, torch.Tensor):
                result[len(result) // 2] = float("nan")
            elif isinstance(result, tuple) and isinstance(result[0], torch.Tensor):
                result[0][0] = float("nan")
            elif isinstance(result, tuple):
                result = (spoilt(result[0]), *result[1:])
            else:
                result = spoilt(result)
            return result

        patch.setattr(owner, name, made)
        return
    if stage == "prepare":
        values = np.full((40, 40), 100, np.float32)
        values[20, 20] = np.nan
        Image.fromarray(values).save(folder / "float.tiff")
        return
    original = running._Run._stage

    @contextmanager
    def poisoned(self, name, *rest):
        with original(self, name, *rest) as (module, facts, bar):
            if name == stage:
                for key, tensor in residency._tensors(module).items():
                    if tensor.is_floating_point() and not tensor.is_meta:
                        bad = tensor.clone()
                        bad.view(-1)[0] = float("nan")
                        residency._assign(module, key, bad)
            yield module, facts, bar

    patch.setattr(running._Run, "_stage", poisoned)


@pytest.mark.parametrize("stage", STAGES)
def test_a_nan_stops_the_run_with_the_stages_name(whole, tmp_path, capsys, monkeypatch, stage):
    run = whole["1024_cascade" if stage in CASCADE else "remesh" if stage == "remesh" else "512"]
    folder = tmp_path / "run"
    begun(run, folder, stage)
    arguments = list(run.arguments)
    with monkeypatch.context() as patch:
        inject(patch, stage, tmp_path)
        if stage == "prepare":
            arguments[1] = str(tmp_path / "float.tiff")
        status = main([*arguments, *outputs(folder), "--resume"])
    said = capsys.readouterr().err
    last = said.splitlines()[-1]
    assert status == 2 and "Traceback" not in said
    assert "finite" in last and last.startswith("trellis: error: ")
    assert stage == "prepare" or f"stage {stage}: " in last
    assert not (folder / "o.glb").exists() and not (folder / "m.json").exists()
    assert_nothing_half_written(folder)


def test_ctrl_c_at_any_stage_and_any_file_leaves_what_can_be_taken_up(whole, tmp_path):
    """One run, interrupted in every stage and at every file that it writes, and taken up again each time."""
    run = whole["512"]
    arguments = [*run.arguments, *outputs(tmp_path)]
    begun(run, tmp_path, "")  # nothing but what says which run it is
    # Each file after the stage that it holds, so that a run finds what the one before had kept. Of the export's files,
    # which are all written by one function, the last.
    after = {"encode": "conditioning", "occupancy": "structure", "decode_texture": "voxels", "bake": "textures"}
    after |= {"shape": "shape", "texture": "texture"}
    targets = []
    for stage in run.stages:
        targets += [stage, *([f"{after[stage]}.safetensors"] if stage in after else [])]
    targets += ["o.glb", "m.json"]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("interrupts.py"), *targets, "--", *arguments, "--resume"],
        capture_output=True, text=True, timeout=600, check=True, env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
    )  # fmt: skip
    *broken, last = map(json.loads, done.stdout.splitlines())
    assert [r["target"] for r in broken] == targets and len(targets) == len(run.stages) + 8
    for result in broken:
        said, target = result["said"], result["target"]
        assert result["status"] == 130, result
        assert said.endswith("trellis: interrupted\n") and "Traceback" not in said
        if target in run.stages:
            assert re.findall(r"<(\w+)>", said)[-1] == target  # it was the running one
    assert last["status"] == 0, last
    assert_nothing_half_written(tmp_path)
    assert (tmp_path / "o.glb").read_bytes() == (run.folder / "o.glb").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_at_a_command_from_outside(whole, tmp_path):
    """The command as a shell starts it; the signal comes once at the first line and once while torch still loads."""
    for moment in ("encode", ""):
        with subprocess.Popen(
            [sys.executable, "-m", "trellis_pipeline", *whole["512"].arguments, *outputs(tmp_path)],
            stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:  # fmt: skip
            said = ""
            while moment and moment not in said and (character := process.stderr.read(1)):
                said += character
            if not moment:
                # Python itself takes up to a second to start; torch is read from then on.
                maps = Path(f"/proc/{process.pid}/maps")
                while process.poll() is None and "libtorch_cpu" not in maps.read_text():
                    pass
            process.send_signal(signal.SIGINT)
            said += process.stderr.read()
        assert process.returncode == 130, said
        assert said.endswith("trellis: interrupted\n") and "Traceback" not in said
        assert_nothing_half_written(tmp_path)
        assert not (tmp_path / "o.glb").exists()
