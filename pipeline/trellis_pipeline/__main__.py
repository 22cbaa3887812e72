"""``python -m trellis_pipeline`` is the ``trellis`` command."""

import sys

from .cli import main

sys.exit(main())
