"""Probes of kernels, in torch: the same code on a GPU and on the CPU."""
