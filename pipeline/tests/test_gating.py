"""The regression session: sound assets pass against their goldens; broken, the gate and the stage are named."""

import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from trellis_pipeline import generation
from trellis_pipeline.gating import every_fault, regress
from trellis_pipeline.gating.faults import broken
from trellis_pipeline.gating.fixed import INPUTS
from trellis_regression import tables
from trellis_regression.check import check
from trellis_regression.profile import Looks

GOLDEN = Path(__file__).parents[2] / "golden" / "generated"
JOB = INPUTS["generated"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the random checkpoint is made once."""
    return tmp_path_factory.mktemp("generated")


def judged(folder):
    out, stages = folder / "asset.glb", folder / "stages"
    JOB.make(out, stages, "cpu")
    return check(
        out, golden=str(GOLDEN), stage_folder=stages, requested_faces=JOB.faces, looks=Looks(views=()), validate=False
    ).verdict


def test_a_sound_generation_passes_and_no_stage_differs(folder):
    verdict = judged(folder)
    assert verdict.ok, [x.sentence for x in verdict.fired]
    assert verdict.first_stage is None


def test_thresholds_in_half_precision_are_named(folder):
    with broken("fp16-threshold"):
        verdict = judged(folder)
    assert [x.name for x in verdict.fired] == ["fp16-threshold"]
    assert "decided in fp16" in verdict.fired[0].sentence
    assert "stage 'voxels' is the first that differs" in verdict.first_stage


def test_a_fault_in_a_model_is_traced_to_its_stage(folder):
    real = generation.decode_structure

    def half(*arguments):
        found = real(*arguments)
        return replace(found, coords=found.coords[::2].contiguous())

    with mock.patch.object(generation, "decode_structure", half):
        verdict = judged(folder)
    assert not verdict.ok
    assert "stage 'structure' is the first that differs: coords" in verdict.first_stage


def session(monkeypatch, folder, *arguments):
    fixed = ("--device", "cpu", "--golden", str(GOLDEN.parent), "--out", str(folder))
    monkeypatch.setattr(sys, "argv", ["regress", "--every-fault", *fixed, *arguments])
    return regress.main()


@pytest.mark.parametrize("fault", ["alpha-lost", "black-texel-bleed", "flipped-winding", "second-run"])
def test_every_fault_names_each_by_its_gate_alone(fault, monkeypatch, tmp_path, capsys):
    assert session(monkeypatch, tmp_path, "--only", "leaf", "--fault", fault) == 0
    said = capsys.readouterr().out
    assert f"| `{fault}` | in the road | leaf |" in said
    assert "no other" in said


def test_every_fault_fails_when_a_fault_is_missed_or_not_tried(monkeypatch, tmp_path, capsys):
    (trial,) = [
        t for t in every_fault.trials(["leaf"], tmp_path, GOLDEN.parent, device="cpu", faults=[]) if not t.fault
    ]
    assert not trial.causes and not every_fault.outdated([trial])
    other = replace(trial, first_stage="stage 'unwrapped' is the first that differs: uv")
    assert "leaf: sound, but stage 'unwrapped'" in every_fault.outdated([other])[0]
    assert not every_fault.outdated([replace(other, fault="blocky")])
    for wrong in (("floaters",), ("blocky", "picture-drift"), ()):
        seen = replace(trial, fault="blocky", strength="32 cells", causes=wrong)
        assert "blocky (32 cells)" in tables.not_shown([seen], ["blocky"])[0]
    assert tables.not_shown([replace(trial, causes=("blocky",))], []) == ["leaf: sound (): the gates named blocky"]
    assert session(monkeypatch, tmp_path, "--only", "painted", "--fault", "alpha-lost") == 1
    assert "alpha-lost: no asset takes it, so nothing was tried" in capsys.readouterr().out


def test_an_asset_that_cannot_be_made_is_in_the_report_and_not_taken_for_a_gate(monkeypatch, tmp_path, capsys):
    """Whatever the error is: status 2, as "it could not be tried", where a gate that fired gives 1."""

    def make(_out, _stages, _device):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(regress, "INPUTS", {"robot": replace(INPUTS["robot"], make=make)})
    monkeypatch.setattr(sys, "argv", ["regress", "--out", str(tmp_path), "--device", "cpu"])
    assert regress.main() == 2
    said = capsys.readouterr()
    assert "0 of 1 passed" in said.out and "ERROR robot: RuntimeError: CUDA error: an illegal" in said.err
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "robot" in report and "RuntimeError: CUDA error: an illegal memory access" in report
