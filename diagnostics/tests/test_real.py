"""The real libtorch of the interpreter that runs the tests, against symbols that real wheels ask for.

data/torchaudio-*.txt list what the libraries of those two wheels need, define and leave to torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trellis_doctor.cache import LibraryCache
from trellis_doctor.checks import abi, extensions, known_answers, libraries, torch_import
from trellis_doctor.context import Context
from trellis_doctor.interpreter import inspect
from trellis_doctor.machine import Machine
from trellis_doctor.probes.known_operations import OPERATIONS
from trellis_doctor.selftest import elf_writer
from trellis_doctor.symbols import linked_libraries, misfit

DATA = Path(__file__).parent / "data"


def _wheel(version: str, folder: Path) -> None:
    """Libraries with the names of a real wheel's."""
    for part in (DATA / f"torchaudio-{version}.txt").read_text().split("library ")[1:]:
        name, *lines = part.splitlines()
        words: dict[str, list[str]] = {"needed": [], "undefined": [], "defined": []}
        for line in lines:
            kind, symbol = line.split()
            words[kind].append(symbol)
        elf_writer.write(folder / name, **words)  # type: ignore[arg-type]
    info = folder / f"torchaudio-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: torchaudio\nVersion: {version}\n")


def _context(folder: Path) -> Context:
    machine = Machine(
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    )
    return Context(inspect(Path(sys.executable), machine), machine, LibraryCache(None))


def _missing(context: Context) -> set[str]:
    """Symbols that no CUDA build is needed for, and that the installed torch lacks."""
    assert context.torch is not None
    found = [
        misfit(context, context.torch, p, f)
        for p, f in linked_libraries(context, context.torch)
        if "torchaudio" in str(p) or "torio" in str(p)
    ]
    return {s for m in found if m for s in m.symbols if "cuda" not in s}


def test_torchaudio_2_8_lacks_symbols_of_a_later_torch(tmp_path: Path) -> None:
    _wheel("2.8.0", tmp_path)
    context = _context(tmp_path)
    missing = _missing(context)
    assert context.torch is not None
    if context.torch.key >= (2, 11):  # measured against 2.13.0
        assert "_ZN3c1013MessageLoggerC1EPKcii" in missing and "_ZNK3c106SymInt6sym_neERKS0_" in missing
    finding = abi.run_family(context).findings[0]
    assert finding.severity == "error"
    if context.torch.cuda is None:
        assert any("libcudart.so.12" in e.text for e in finding.seen)


def test_torchaudio_2_11_lacks_none(tmp_path: Path) -> None:
    _wheel("2.11.0", tmp_path)
    context = _context(tmp_path)
    assert context.torch is not None
    if context.torch.key >= (2, 11):
        assert _missing(context) <= {"torch_c10_cuda_check_msg"}


def test_this_environment_is_read_without_a_false_alarm() -> None:
    context = _context(Path("/nowhere"))
    assert context.torch is not None
    assert libraries.run_unreadable(context).findings == ()
    assert libraries.run_system(context).findings == ()
    assert abi.run_others(context).findings == ()
    assert abi.run_cxx11(context).findings == ()


def test_torch_imports_in_a_process_of_its_own() -> None:
    outcome = torch_import.run(_context(Path("/nowhere")))
    assert outcome.findings == () and "imported in" in outcome.summary


def test_the_real_extensions_give_every_known_answer() -> None:
    context = _context(Path("/nowhere"))
    if len(extensions.installed(context)) < 5:
        pytest.skip("the extensions are not installed here")
    outcome = known_answers.run(context)
    assert [f.summary for f in outcome.findings] == []
    assert len(outcome.details) == len(OPERATIONS)
    device = "cuda" if "and cuda" in outcome.summary else "cpu"
    assert all("right on cpu" in line or "absent" in line for line in outcome.details)
    assert sum(f"right on {device}" in line for line in outcome.details) > 0.9 * len(OPERATIONS)


def test_the_lookup_agrees_with_nm_on_libc10() -> None:
    context = _context(Path("/nowhere"))
    assert context.torch is not None
    library = context.torch.folder / "lib" / "libc10.so"
    lines = subprocess.run(
        ["nm", "-D", str(library)], check=True, capture_output=True, text=True, timeout=60
    ).stdout.splitlines()
    names = {line.split()[-1].split("@")[0]: line.split()[-2] not in "Uw" for line in lines}
    assert len(names) > 1000
    found = context.defined_in(names, [library])
    assert found == {name for name, is_defined in names.items() if is_defined}
