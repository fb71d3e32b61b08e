"""Formats of files that hold weights, read without running anything in them."""
