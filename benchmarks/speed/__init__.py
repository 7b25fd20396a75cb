"""Parts of ``benchmarks/engine_speed.py``: each runs in a process of its own."""
