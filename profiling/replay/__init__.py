"""Operator replay: each different operator of a forward pass timed alone on this host's processor or GPU, and times of passes put together from them.

``shapes`` finds the operators, ``timing`` runs them, ``device`` is what they run on and how a GPU is timed, ``twin`` measures what the pass costs beside them, ``table`` keeps all of it per
host and device, ``law`` says how long a shape takes that was never timed, and ``predict`` adds up.
"""
