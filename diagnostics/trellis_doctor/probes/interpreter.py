"""Where this interpreter keeps its packages. Runs with -I; must work in any Python 3."""

import json
import os
import platform
import site
import struct
import sys
import sysconfig

paths = sysconfig.get_paths()
user = []
if getattr(site, "ENABLE_USER_SITE", None) is not False:
    user = [site.getusersitepackages()] if sys.prefix == sys.base_prefix else []
print(
    "TRELLIS-DOCTOR "
    + json.dumps(
        {
            "version": list(sys.version_info[:3]),
            "prefix": sys.prefix,
            "venv": sys.prefix != sys.base_prefix,
            "path": [p for p in sys.path if p and not p.endswith("trellis_doctor/probes")],
            "purelib": paths["purelib"],
            "platlib": paths["platlib"],
            "include": paths["include"],
            "user": user,
            "machine": platform.machine(),
            "bits": struct.calcsize("P") * 8,
            # Set by the start-up file of an environment that runs a checkout's sources.
            "native": os.environ.get("TRELLIS_NATIVE_DIR") or None,
        }
    )
)
