"""The table of operations of the benchmark."""
