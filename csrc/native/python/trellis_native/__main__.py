"""``python -m trellis_native``: which library serves which device for each installed extension, and why."""

import importlib
import importlib.util

from . import report

NAMES = ("sparse", "mesh", "voxel", "raster", "shade")

if __name__ == "__main__":
    for name in NAMES:
        if importlib.util.find_spec(f"trellis_{name}") is None:
            print(f"trellis_{name}: not installed")
        else:
            importlib.import_module(f"trellis_{name}")
    for row in report():
        print(f"{row['extension']}: {', '.join(row['flavours'])} in {row['folder']}")
        for device, choice in row["devices"].items():
            print(f"  {device}: {choice['flavour'] or 'NONE'} ({choice['reason']})")
