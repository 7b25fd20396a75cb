"""A stand-in for Vertex AI on this machine, as a process of its own: ``python -m tests.standins.vertex --port 0 --token TOKEN=PROJECT``.

Requests are parsed with Google's real messages, so that it cannot drift from the client libraries; an unknown field is refused. It checks
bearer tokens, keeps to the documented limits, and a deployment starts the real serving container as a process. ``/control/…`` has switches
for everything that goes wrong in the cloud (:mod:`.control`).
"""
