"""Data sets: generated shapes and Pascal VOC, both read by the same loader."""
