"""Which gates a fault turned on beside its own, from a matrix's trials:

python regression/tests/relation_cases.py TRIALS.jsonl ... > regression/tests/relation_cases.json
"""

import json
import sys
from pathlib import Path

from trellis_regression import tables
from trellis_regression.detectors.relations import EXPLAINS


def cases(trials):
    """For each relation the trial in which the gate that follows was farthest beyond its limit; none where it never was."""
    found = []
    for cause, follows in EXPLAINS.items():
        for name in follows:
            seen = [t for t in trials if t.fault == cause and {cause, name} <= t.excess.keys() and t.exact]
            if seen:
                t = max(seen, key=lambda t: t.excess[name])
                found.append(
                    [f"{t.fault} {t.strength}, {t.asset}", cause, name, t.excess[cause], t.excess[name], t.cleaned]
                )
    return found


if __name__ == "__main__":
    rows = cases([t for path in sys.argv[1:] for t in tables.read(Path(path))])
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")
