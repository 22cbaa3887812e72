"""Judges GLB files from anywhere."""
