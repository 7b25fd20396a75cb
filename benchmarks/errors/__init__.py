"""Parts of :mod:`benchmarks.prediction_error`."""
