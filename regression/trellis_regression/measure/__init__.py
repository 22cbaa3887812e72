"""Measurements of one GLB, or of one against another. Each module gives a flat dictionary of plain numbers.

Figures have no thresholds here: what is bad is decided by `detectors`, from the spread of clean assets.
"""
