"""A request behind ``login_required``, for type checkers: its user is never the anonymous one."""

from __future__ import annotations

from llmcompare.accounts.models import User
from llmcompare.common.requests import HtmxRequest


class UserRequest(HtmxRequest):
    user: User
