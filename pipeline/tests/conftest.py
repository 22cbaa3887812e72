import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trellis_pipeline.remake import RemakeOptions, remake
from trellis_pipeline.testing import make_checkpoint, write_painted_asset


@dataclass(frozen=True)
class Remade:
    """One remade asset: its source as placed by a node transform, the result, and the manifest's facts."""

    source: Path
    path: Path
    facts: dict[str, Any]
    options: RemakeOptions
    offset: tuple[float, float, float]
    scale: float


@pytest.fixture(scope="session")
def painted(tmp_path_factory):
    """The painted asset as a file, scaled and off-centre."""
    return write_painted_asset(tmp_path_factory.mktemp("source") / "painted.glb", offset=(5, -2, 3), scale=4)


@pytest.fixture(scope="session")
def remade(painted, tmp_path_factory):
    """The painted asset remade at 96^3."""
    out = tmp_path_factory.mktemp("remade") / "remade.glb"
    options = RemakeOptions(resolution=96, faces=6000, texture=512)
    return Remade(painted, out, remake(painted, out, options, quiet=True), options, (5, -2, 3), 4)


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory):
    """A tiny random checkpoint in the real layout."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def copied(checkpoint_folder, tmp_path):
    """A copy of it that a test may break."""
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What the commands remember stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
