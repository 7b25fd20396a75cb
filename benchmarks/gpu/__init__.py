"""What :mod:`benchmarks.gpu_check` checks on an accelerator."""
