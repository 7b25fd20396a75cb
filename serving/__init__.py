"""The container that serves one model on Vertex AI, or anywhere else, and says where its time goes: ``python -m serving``.

It speaks Vertex AI's contract for custom containers and the OpenAI protocol, on processors and CUDA devices. Everything that it measures is
measured by :mod:`profiling`; nothing of the portal is in it.
"""
