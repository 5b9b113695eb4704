"""From a density written in PyTorch to a C function of its value and gradient, which samplers call without Python."""
