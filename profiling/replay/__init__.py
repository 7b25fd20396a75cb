"""Operator replay: each different operator of a forward pass timed alone on this host, and times of passes put together from them.

``shapes`` finds the operators, ``timing`` runs them, ``twin`` measures what the pass costs beside them, ``table`` keeps all of it per
host, ``law`` says how long a shape takes that was never timed, and ``predict`` adds up.
"""
