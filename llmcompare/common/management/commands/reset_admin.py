"""``manage.py reset_admin``: a new random password for an administrator, printed once."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError

from llmcompare.common.preparing import FIRST_ADMIN, reset_admin


class Command(BaseCommand):
    help = (
        "Gives an administrator a new random password and prints it; creates the account if there is none of that name."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--username", default=FIRST_ADMIN, help=f"the administrator's name (default: {FIRST_ADMIN})"
        )

    def handle(self, *args, username, **options):
        try:
            password, created = reset_admin(username)
        except ValueError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"{'Created' if created else 'Changed'} the administrator {username}.\n  password: {password}"
        )
        self.stdout.write(
            "It is not stored anywhere in readable form. Whoever was logged in as this account is logged out."
        )
