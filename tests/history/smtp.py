"""A mail server of a few lines that speaks real SMTP on a local port, and keeps what it gets; or refuses, or hangs up."""

from __future__ import annotations

import socketserver
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        sink: SmtpSink = self.server.sink
        sink.sessions += 1
        if sink.manner == "hang up":
            return
        self.say("220 sink")
        sender, receivers = "", []
        while line := self.rfile.readline().decode("ascii", "replace").strip():
            verb = line.upper()
            if verb.startswith(("EHLO", "HELO")):
                self.say("250 sink")
            elif verb.startswith("MAIL FROM:"):
                sender = line[10:].split()[0].strip("<>")
                self.say("451 4.3.0 not now" if sink.manner == "refuse" else "250 ok")
            elif verb.startswith("RCPT TO:"):
                receivers.append(line[8:].strip("<>"))
                self.say("250 ok")
            elif verb == "DATA":
                self.say("354 go on")
                body = b"".join(iter(self.rfile.readline, b".\r\n"))
                sink.received.append((sender, receivers, message_from_bytes(body, policy=policy.default)))
                self.say("250 kept")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class SmtpSink:
    """``with SmtpSink() as sink``: ``sink.port``, ``sink.received`` (sender, receivers, message). ``manner``: accept, refuse, hang up."""

    def __init__(self, manner: str = "accept") -> None:
        self.manner, self.sessions = manner, 0
        self.received: list[tuple[str, list[str], EmailMessage]] = []

    def __enter__(self) -> SmtpSink:
        self._server = _Server(("127.0.0.1", 0), _Session)
        self._server.sink = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
