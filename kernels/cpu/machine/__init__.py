"""What the kernels know of the machine: vectors, register tiles, rows, memory."""
