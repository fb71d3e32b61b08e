"""The table of operations of the benchmark.

- ``rows``: which operations, at which sizes, and what is to be reached
- ``op``: what a row is; how arrays become tensors
- ``layers``, ``regions``, ``objectives``: the operations by kind
- ``run``: measures them
"""
