"""The engine of llmcompare: analysis and measurement of language models.

A plain Python library and command line (``python -m profiling``). It imports no Django and no Celery. Importing this
package, :mod:`profiling.spec`, :mod:`profiling.units` or :mod:`profiling.client` does not import torch either: everything
that needs torch or transformers runs in a child process.
"""

__version__ = "0.1.0"
