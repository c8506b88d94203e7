"""Kernels that a processor is faster with; they compute what torch's own compute."""
