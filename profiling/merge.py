"""Estimate and measurement of one workload in one document: the estimate's tables with measured times, and the error between."""

from __future__ import annotations

from typing import Any


def attach_estimates(document, session, built):
    document["estimates"] = []
    document["errors"] = {}
