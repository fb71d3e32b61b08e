"""Every operation beside PyTorch's."""
