"""pytest plugin: the fixture `glb_gate` judges GLBs in anyone's tests.

    def test_chair(glb_gate, tmp_path):
        make_chair(tmp_path / "chair.glb")
        glb_gate(tmp_path / "chair.glb", golden="chair")

With ``--approve-goldens "REASON"`` the candidate becomes the golden instead, if approval is not refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .check import Result


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --approve-goldens and --golden-root."""
    group = parser.getgroup("trellis-gate")
    group.addoption(
        "--approve-goldens", metavar="REASON", help="make what glb_gate is given the golden, for this reason"
    )
    group.addoption("--golden-root", metavar="DIR", help="where goldens lie (golden/ of the checkout)")


@pytest.fixture
def glb_gate(request: pytest.FixtureRequest) -> Callable[..., Result]:
    """Judges a GLB; fails the test with the gates' own sentences. Arguments are those of `trellis_regression.check.check`."""
    reason = request.config.getoption("--approve-goldens")
    root = request.config.getoption("--golden-root")

    def gate(path: str | Path, *, golden: str | None = None, **options: Any) -> Result:
        from .check import check  # torch is loaded by tests that use the fixture only
        from .golden import approve

        place = options.pop("golden_root", None)
        place = root or place
        try:
            if reason is not None and golden is not None:
                approve(path, golden, reason=reason, root=place, stage_folder=options.get("stage_folder"))
            result = check(path, golden=golden, golden_root=place, **options)
            wrong = [] if result.verdict.ok else result.lines()
        except ValueError as error:  # GlbError and ApprovalError
            wrong = [str(error)]
        if wrong:  # outside the handler: the sentences say it all, and a traceback would hide them
            pytest.fail("\n".join(wrong), pytrace=False)
        return result

    return gate
