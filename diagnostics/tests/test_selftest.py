"""Every environment of the self-test, each check in those where it must fire and in those where it must not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from trellis_doctor.checks import ALL
from trellis_doctor.process import Answer
from trellis_doctor.selftest import ENVIRONMENTS, Environment, healthy_answers, try_one

# Rows of the catalogue of faults that name the doctor, or whose detector is a check of it.
CATALOGUE = {
    "device-mismatch",
    "grid-sample-device",
    "triton-autotune-api",
    "cudnn-mismatch",
    "torchaudio-conflict",
    "abi-mismatch",
    "missing-module",
    "cuda-home",
    "flash-attn-absent",
    "wrong-arch-wheel",
    "fork-api",
    "triton-no-compiler",
    "gated-model",
    "duplicate-cudart",
}


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Answer]:
    return healthy_answers(tmp_path_factory.mktemp("answers") / "healthy")


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.name)
def test_environment(environment: Environment, answers: Mapping[str, Answer], tmp_path: Path) -> None:
    verdict = try_one(environment, tmp_path / "bench", answers)
    assert [r.trace for r in verdict.failed] == []
    assert verdict.fired == environment.expected
    for result in verdict.results:
        for finding in result.findings:
            assert finding.seen and finding.leads_to and finding.remedy and finding.verify, finding


def test_every_check_has_an_environment_in_which_it_fires_and_names_are_unique() -> None:
    fired = set().union(*(e.expected for e in ENVIRONMENTS))
    ids = [c.id for c in ALL]
    assert fired == set(ids)
    assert len(set(ids)) == len(ids)
    assert len({e.name for e in ENVIRONMENTS}) == len(ENVIRONMENTS)


def test_the_catalogue_of_faults_is_covered() -> None:
    assert set().union(*(c.faults for c in ALL)) >= CATALOGUE


def test_the_environments_fail_for_the_reason_they_are_named_after(
    answers: Mapping[str, Answer], tmp_path: Path
) -> None:
    reasons = {
        "interpreter hangs": "gave no answer",
        "interpreter ends at once": "ended with status 1",
        "interpreter is another program": "without an answer",
        "torch hangs": "gave no answer",
        "torch dies of a segmentation fault": "SIGSEGV",
        "Triton's compiler dies": "SIGABRT",
        "an operation aborts": "did not survive voxel.mesh_to_dual_grid on cpu: it was killed by SIGABRT",
        "an operation loses the GPU": "illegal memory access",
        "one operation of many gives wrong values on the GPU alone": "raster.nearest_texel on cuda: gave 7",
        "a package that an extension imports is missing": "the package zstandard_of_nowhere is missing",
        "driver does not answer": "Driver/library version mismatch",
        "checkpoint cut off": "its header says",
        "two CUDA runtimes mapped": "2 copies of cudart",
    }
    named = {e.name: e for e in ENVIRONMENTS}
    for i, (name, reason) in enumerate(reasons.items()):
        verdict = try_one(named[name], tmp_path / str(i), answers)
        assert any(reason in f.summary for r in verdict.results for f in r.findings), name


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("healthy: RTX 3090, CUDA 12.4", "flash-attn 2.7.4.post1; no attention matrix is stored"),
        (
            "xformers for another CUDA runtime",
            "flash-attn 2.7.4.post1; xformers cannot load here: it lacks libcudart.so.13; no attention matrix is stored",
        ),
        (
            "flash-attn built against another torch",
            "torch 2.6.0 scaled_dot_product_attention; flash-attn cannot load here: it lacks 2 symbols of torch",
        ),
        ("flash-attn 4 alone", "flash-attn-4 4.0.0; no attention matrix is stored"),
        (
            "flash-attn 4 beside flash-attn 2",
            "flash-attn 2.7.4.post1, flash-attn-4 4.0.0; no attention matrix is stored",
        ),
        (
            "flash-attn 4 without its compiler, beside flash-attn 2",
            "flash-attn 2.7.4.post1; no attention matrix is stored",
        ),
    ],
)
def test_attention_says_which_package_serves_and_what_the_others_lack(
    answers: Mapping[str, Answer], tmp_path: Path, name: str, summary: str
) -> None:
    verdict = try_one({e.name: e for e in ENVIRONMENTS}[name], tmp_path / "bench", answers)
    assert [r.summary for r in verdict.results if r.check.id == "flash-attn-absent"] == [summary]
