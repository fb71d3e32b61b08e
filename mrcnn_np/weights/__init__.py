"""Readers for the weights of other implementations."""
