"""Tells why a Python environment for TRELLIS.2 is broken, before anything of it is imported; see README.md."""

__version__ = "0.1.0"
SCHEMA_VERSION = 1
"""Version of the JSON report; its schema is facts/report.schema.json."""
