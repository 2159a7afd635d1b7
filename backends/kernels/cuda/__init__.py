"""The GPU's kernels in CUDA C++, and what launches them."""
