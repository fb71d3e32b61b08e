"""The graphics card behind a few functions (``device``), and what stands in for it where there is none."""
