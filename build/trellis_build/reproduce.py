"""`nox -s reproduce`: two builds of the same sources in two different folders must give equal bits."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import builder, shell, wheels
from .errors import BuildError
from .layout import Checkout
from .matrix import Row

# Of different lengths and depths, so that a path that leaks moves bytes.
_PLACES = ("a", "another/place/further/down")
_SKIP = shutil.ignore_patterns("out", "dist", ".git", ".nox", "__pycache__", ".*_cache", "tests", "node_modules")


def reproduce(checkout: Checkout, row: Row, *, architectures: Sequence[str], system_cuda: bool) -> None:
    """Builds `row` twice from copies of the checkout, nothing reused, and compares every file.

    Raises:
        BuildError: a build failed, or a file differs; names the first differing file and byte.
    """
    base = checkout.out / "reproduce"
    shutil.rmtree(base, ignore_errors=True)
    shared = checkout.out / "toolchains"
    shared.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for place in _PLACES:
        root = base / place
        with shell.step(f"copying the sources to {root.relative_to(checkout.out)}"):
            shutil.copytree(checkout.root, root, ignore=_SKIP, symlinks=True)
            (root / "out").mkdir()
            # The compiler is an input, not a product: both builds use the same one.
            (root / "out" / "toolchains").symlink_to(shared, target_is_directory=True)
        outcome = builder.build_row(Checkout(root), row, architectures=architectures, system_cuda=system_cuda)
        if not outcome.ok:
            raise BuildError(f"row {row.name} did not build in {root}; nothing to compare")
        outcomes.append(outcome)
    compare(outcomes[0].folder, outcomes[1].folder)
    for path in outcomes[0].wheels:
        print(f"  {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    print(f"row {row.name}: {len(outcomes[0].wheels)} wheels and the bill of materials are equal bit for bit")
    shutil.rmtree(base)


def compare(left: Path, right: Path) -> None:
    """Raises BuildError naming the first file of two dist folders that differs, and where."""
    names = [
        sorted(p.name for p in f.iterdir() if p.suffix == ".whl" or p.name.startswith("sbom")) for f in (left, right)
    ]
    if names[0] != names[1]:
        raise BuildError(f"not reproducible: one build gives {', '.join(names[0])}; the other {', '.join(names[1])}")
    found = []
    for name in names[0]:
        if name.endswith(".whl"):
            found.append(wheels.first_difference(left / name, right / name))
        elif (left / name).read_bytes() != (right / name).read_bytes():
            found.append(f"{name} differs")
    differences = [d for d in found if d is not None]
    if differences:
        raise BuildError(
            "not reproducible:\n" + "\n".join(f"    {d}" for d in differences) + f"\n    compare {left} with {right}"
        )
