"""Matrix rows, locks, toolchains, wheels and provenance. Works on a checkout; needs no torch."""

__version__ = "0.1.0"
