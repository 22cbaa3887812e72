"""Imports torch and tells what this process then holds; one small convolution is run."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")


def say(**facts: Any) -> None:
    print("TRELLIS-DOCTOR " + json.dumps(facts), flush=True)


sys.path[:] = [p for p in sys.path if not p.endswith("trellis_doctor/probes")]
say(stage="importing torch")
try:
    import torch
except BaseException as error:
    say(failed=f"{type(error).__name__}: {error}")
    sys.exit(0)

say(stage="reading torch's state", version=str(torch.__version__), cuda=torch.version.cuda)
facts: dict[str, Any] = {"cxx11": bool(getattr(torch._C, "_GLIBCXX_USE_CXX11_ABI", True))}
try:
    cudnn: Any = torch.backends.cudnn
    facts["cudnn"] = cudnn.version()
except Exception as error:
    facts["cudnn_error"] = str(error)
facts["available"] = bool(torch.cuda.is_available())
say(**facts)

facts = {"devices": []}
if torch.cuda.is_available():
    say(stage="using the GPU")
    try:
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            facts["devices"].append(
                [properties.name, list(torch.cuda.get_device_capability(i)), properties.total_memory]
            )
        x = torch.ones((1, 8, 8, 8), device="cuda")
        y = torch.nn.functional.conv2d(x, torch.ones((4, 8, 3, 3), device="cuda"))
        facts["convolution"] = float(y[0, 0, 0, 0])
    except Exception as error:
        facts["gpu_error"] = f"{type(error).__name__}: {error}"
say(**facts)

mapped: set[str] = set()
try:
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
        mapped = {line.split(None, 5)[5].strip() for line in maps if ".so" in line and len(line.split(None, 5)) == 6}
except OSError:
    pass
say(stage="done", mapped=sorted(mapped))
