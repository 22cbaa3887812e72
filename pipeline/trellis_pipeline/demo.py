"""``python -m trellis_pipeline.demo``: the sample asset through the whole road, looked at and checked."""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path

from trellis_regression.command import Parser
from trellis_regression.compare import compare_pictures
from trellis_regression.render import load_environment, turntable_sheet

from .manifest import Manifest, write_manifest
from .options import device
from .remake import RemakeOptions, remake

# What the remade sample must keep of its source. `nox -s demo` gave 0.9996 and 0.0020 (CPU, AMD EPYC, 2026-11-23).
LIMITS = {"silhouette_iou": 0.99, "color_error": 0.02}


def main() -> int:
    """Runs the demo; exit status 1 when the result is not the object that went in."""
    parser = Parser(prog="python -m trellis_pipeline.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--device", type=device, default="cpu")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    result, sheet = out / "remade.glb", out / "turntable.png"
    with as_file(files("trellis_pipeline") / "samples" / "controller.glb") as source:
        facts = remake(source, result, RemakeOptions(device=arguments.device))
        look = Manifest("demo", {})
        with look.stage("render"):
            turntable_sheet([source, result], load_environment(None)).save(sheet)
        with look.stage("compare") as measured:
            measured.update(compare_pictures(source, result))
    facts["stages"] |= look.facts["stages"]
    facts["check"] = {name: {"value": measured[name], "limit": limit} for name, limit in LIMITS.items()}
    write_manifest(facts, out / "manifest.json")
    wrong = []
    if measured["silhouette_iou"] < LIMITS["silhouette_iou"]:
        wrong.append(f"its outline agrees with the source's only to {measured['silhouette_iou']:.3f}")
    if measured["color_error"] > LIMITS["color_error"]:
        wrong.append(f"its colours differ from the source's by {measured['color_error']:.3f} on average")
    if wrong:
        print(f"demo: the result is not the object that went in: {'; '.join(wrong)}", file=sys.stderr)
        return 1
    print(f"\nThe remade asset:   {result}\nIts turntable:      {sheet}  (top: source, bottom: remade)")
    print(f"What was done:      {out / 'manifest.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
