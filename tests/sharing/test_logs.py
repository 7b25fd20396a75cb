"""Whoever reads a log cannot open what it mentions."""

import io
import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from llmcompare.sharing.logs import HideTokens
from llmcompare.sharing.weblog import TokenlessLogger

TOKEN = "Zm9vYmFyLWEtdmVyeS1zZWNyZXQtdG9rZW4"


@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"GET /s/{TOKEN}/ 200", ()),
        ('"%s" %s %s', (f"GET /s/{TOKEN}/export.json?x=1 HTTP/1.1", "200", "5")),
        ("%(r)s %(s)d", ({"r": f"GET /s/{TOKEN}/", "s": 200},)),
        ("Not Found: %s", (f"https://x.org/s/{TOKEN}",)),
        ("%s", (ValueError(f"/s/{TOKEN}/"),)),
    ],
)
def test_tokens_are_hidden(message, args):
    record = logging.LogRecord("x", logging.INFO, "f", 1, message, args, None)
    assert HideTokens().filter(record) is True
    text = record.getMessage()
    assert TOKEN not in text
    assert "/s/[hidden]" in text


def test_other_lines_stay_as_they_are():
    record = logging.LogRecord("x", logging.INFO, "f", 1, "took %d ms at %.1f %s", (5, 0.5, "/runs/abc/"), None)
    HideTokens().filter(record)
    assert record.getMessage() == "took 5 ms at 0.5 /runs/abc/"


def test_djangos_own_complaints_about_shared_addresses_are_hidden(client, db, monkeypatch):
    """Django logs every 404 with its path: also of links that were revoked a moment ago, or are mistyped by one letter."""
    console = next(h for h in logging.getLogger().handlers if any(isinstance(f, HideTokens) for f in h.filters))
    written = io.StringIO()
    monkeypatch.setattr(console, "stream", written)
    client.get(f"/s/{TOKEN}/no/such/page")
    assert "/s/[hidden]/no/such/page" in written.getvalue()
    assert TOKEN not in written.getvalue()


def test_the_access_log_of_the_web_server_is_hidden_too():
    config = Config()
    config.set("accesslog", "-")
    logger = TokenlessLogger(config)
    written = io.StringIO()
    (handler,) = logger.access_log.handlers
    handler.stream = written
    environ = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": f"/s/{TOKEN}/",
        "PATH_INFO": f"/s/{TOKEN}/",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_REFERER": f"http://x/s/{TOKEN}/",
    }
    response = SimpleNamespace(status="200 OK", sent=5, headers=[])
    logger.access(
        response, SimpleNamespace(headers=[("REFERER", environ["HTTP_REFERER"])]), environ, timedelta(seconds=1)
    )
    assert "/s/[hidden]/" in written.getvalue()
    assert TOKEN not in written.getvalue()
