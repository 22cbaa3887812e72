"""The table of operations: it names all of them, its samples have the facts that it states, and wrong ones do not."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from trellis_doctor.probes.known_operations import OPERATIONS

SOURCES = Path(__file__).parents[2] / "csrc"
# Writing is tried with the reading of what was written.
ELSEWHERE = {"voxel": {"write", "write_npz", "write_ply", "write_vxz"}}
WITH_METHODS = {"mesh": {"Bvh"}, "voxel": {"Grid"}, "shade": {"EnvironmentLight"}}


@pytest.mark.parametrize("package", ["sparse", "mesh", "voxel", "raster", "shade"])
def test_every_public_operation_has_a_row(package: str) -> None:
    tree = ast.parse((SOURCES / package / "python" / f"trellis_{package}" / "__init__.py").read_text())
    [listed] = [
        ast.literal_eval(n.value)
        for n in tree.body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    ]
    public = {n for n in listed if n.islower()} | WITH_METHODS.get(package, set())
    rows = {o.name.split(":")[0].split(".")[0] for o in OPERATIONS if o.package == package}
    assert public - ELSEWHERE.get(package, set()) == rows


def _tampered(value: Any) -> Any:
    """`value` with its innermost first number moved, and its lists one item short."""
    if isinstance(value, dict):
        return {k: _tampered(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_tampered(v) for v in value[:-1]] if len(value) > 1 else [_tampered(v) for v in value]
    return not value if isinstance(value, bool) else -5 - value


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda o: o.id)
def test_an_answer_is_known_and_can_be_missed(row: Any) -> None:
    assert row.answer is not None
    if row.facts is None:
        return
    assert (
        row.facts(row.sample) == pytest.approx(row.answer) if _flat(row.answer) else row.facts(row.sample) == row.answer
    )
    try:
        wrong = row.facts(_tampered(row.sample))
    except (IndexError, KeyError, TypeError, ValueError):
        return  # the probe tells an exception too
    assert wrong != row.answer


def _flat(answer: Any) -> bool:
    return isinstance(answer, list) and all(isinstance(a, (int, float)) for a in answer)


def test_names_are_unique() -> None:
    assert len({o.id for o in OPERATIONS}) == len(OPERATIONS)
