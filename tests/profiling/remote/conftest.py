"""A browser that another test of this process started keeps an event loop running in the thread; these tests have loops of their own."""

from __future__ import annotations

import asyncio

import pytest


@pytest.fixture(autouse=True)
def _own_loop():
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(running)
