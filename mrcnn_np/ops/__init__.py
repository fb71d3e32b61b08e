"""Differentiable primitives: forward and backward of one operation in one file."""
