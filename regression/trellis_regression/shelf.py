"""Where goldens lie and what stands beside each; nothing here measures anything, or needs torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .glb import GlbError

if TYPE_CHECKING:
    import torch

    from .asset import Asset


@dataclass(frozen=True)
class Golden:
    """One approved variant."""

    name: str
    variant: str
    folder: Path
    profile: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def path(self) -> Path:
        """Its GLB."""
        return self.folder / "asset.glb"

    def asset(self, device: torch.device | str = "cpu") -> Asset:
        """Its GLB, read; one that is not what was approved is an error."""
        from .asset import Asset

        asset = Asset.read(self.path, device)
        if asset.digest != self.provenance.get("sha256"):
            raise GlbError(
                f"{self.path}: its SHA-256 is {asset.digest[:12]}, approved was {str(self.provenance.get('sha256'))[:12]}"
            )
        return asset


def find(what: str, root: Path | None = None) -> list[Golden]:
    """The variants of a golden: `what` is a name under `root` (golden/ here or above), or a folder.

    Raises:
        GlbError: there is none; the text names the nearest.
    """
    if Path(what).is_file():
        raise GlbError(f"{what} is a file, and a golden is a name or a folder; to compare two files: trellis-gate diff")
    home = Path(what)
    if not home.is_dir():
        home = (root or golden_root()) / what
    folders = [home] if (home / "profile.json").is_file() else sorted(p.parent for p in home.glob("*/profile.json"))
    if not folders:
        if Path(what).is_dir():
            raise GlbError(f"{what}: a folder without a golden, which is asset.glb, profile.json and provenance.json")
        raise GlbError(_none(what, root or golden_root()))
    return [_read(f, home.name if f != home else home.parent.name) for f in folders]


def names(root: Path) -> list[str]:
    """The goldens under a folder."""
    return sorted({p.parent.parent.name for p in root.glob("*/*/profile.json")})


def _none(what: str, root: Path) -> str:
    known = names(root)
    if not known:
        return (
            f"no golden {what!r}: there are no goldens in {root}; run where golden/ lies, or give --golden its folder"
        )
    near = get_close_matches(what, known, n=1, cutoff=0.5)
    rest = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[:12])}"
    return f"no golden {what!r} in {root}; {rest}"


def golden_root() -> Path:
    """The folder golden/ of the checkout that the command runs in, or ./golden."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "golden").is_dir():
            return folder / "golden"
    return Path.cwd() / "golden"


def _read(folder: Path, name: str) -> Golden:
    try:
        profile = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GlbError(f"{folder}: not a golden: {error}") from error
    if not isinstance(profile, dict) or not isinstance(provenance, dict):
        raise GlbError(f"{folder}: not a golden: its profile or provenance is no object")
    return Golden(name, folder.name, folder, profile, provenance)
