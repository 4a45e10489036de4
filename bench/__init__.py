"""Benchmarks and studies: each prints its figures, ends with a line a target, and its exit status says if all hold."""
