"""Imports the modules named on the command line, one after another, and tells which fail and how."""

import importlib
import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")


def say(**facts: Any) -> None:
    print("TRELLIS-DOCTOR " + json.dumps(facts), flush=True)


sys.path[:] = [p for p in sys.path if not p.endswith("trellis_doctor/probes")]
for name in sys.argv[1:]:
    say(stage=name)
    try:
        importlib.import_module(name)
    except BaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # What numpy says of a module made for another numpy is a page long, and its first lines tell all.
        say(**{name: f"{type(error).__name__}: {' '.join(lines[:2])}"[:300]})
    else:
        say(**{name: None})
say(stage="done")
