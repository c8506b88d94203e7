"""Kernels that are faster on a CPU than torch's own; they compute the same."""
