"""What ``up`` does before it starts anything: one start per data folder, static files, the first admin."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import transaction

FIRST_ADMIN = "admin"
PASSWORD_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # noqa: S105  (none that look alike)


class AlreadyRunning(Exception):
    """Another ``up`` serves this data folder."""

    def __init__(self, holder: dict):
        self.holder = holder
        where = holder.get("url") or "without a web server"
        pid = holder.get("pid")
        super().__init__(
            f"llmcompare is already running on this data folder ({settings.DATA_DIR}): {where}"
            + (f", process {pid}. Stop it with Ctrl-C there or with: kill {pid}" if pid else ".")
            + "\nTo run a second, separate one, give it a folder of its own: LLMCOMPARE_DATA=/another/folder"
        )


@contextlib.contextmanager
def only_one(url: str) -> Iterator[None]:
    """Hold the data folder for one ``up``. The lock goes with the process, however it ends; the file says who holds it."""
    path = Path(settings.DATA_DIR) / "up.lock"
    with open(path, "a+", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = {}
            with contextlib.suppress(ValueError):
                holder = json.loads(file.read())
            raise AlreadyRunning(holder) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "url": url}, file)
        file.flush()
        yield
        file.truncate(0)


def collect_static() -> bool:
    """Run collectstatic when a source file has changed since the last time; returns whether it had to."""
    signature = _static_signature()
    stamp = Path(settings.DATA_DIR) / "static.stamp"
    with contextlib.suppress(OSError):
        if stamp.read_text() == signature and Path(settings.STATIC_ROOT).is_dir():
            return False
    stamp.unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, verbosity=0)
    stamp.write_text(signature)
    return True


def _static_signature() -> str:
    """Changes with the name, size or time of any source file, and with the way they are stored."""
    digest = hashlib.sha256(json.dumps([settings.STORAGES["staticfiles"], str(settings.STATIC_ROOT)]).encode())
    for finder in get_finders():
        for name, storage in sorted(finder.list([]), key=lambda found: found[0]):
            facts = os.stat(storage.path(name))
            digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def new_password() -> str:
    """About 116 bits, easy to type."""
    return "".join(secrets.choice(PASSWORD_LETTERS) for _ in range(20))


def create_first_admin(password: str = "") -> str | None:
    """Create the superuser ``admin`` when there is no superuser yet. Returns the password that was used, None when nothing was done.

    Raises ValueError when an ordinary account has that name already.
    """
    accounts = get_user_model()
    with transaction.atomic():
        if accounts.objects.filter(is_superuser=True).exists():
            return None
        if accounts.objects.filter(username=FIRST_ADMIN).exists():
            raise ValueError(
                f"There is no administrator, and an ordinary account is called {FIRST_ADMIN}. "
                "Make an administrator with: python3 manage.py reset_admin --username NAME"
            )
        password = password or new_password()
        accounts.objects.create_superuser(FIRST_ADMIN, email="", password=password)
    return password


def reset_admin(username: str, password: str = "") -> tuple[str, bool]:
    """Give an administrator a new password, creating the account if need be. Returns ``(password, created)``.

    Raises ValueError for an account that is there and is no administrator: a typing error must not promote somebody.
    """
    from axes.utils import reset

    accounts = get_user_model()
    password = password or new_password()
    with transaction.atomic():
        user = accounts.objects.filter(username=username).first()
        if user is None:
            accounts.objects.create_superuser(username, email="", password=password)
        elif not user.is_superuser:
            raise ValueError(f"{username} is an ordinary account, not an administrator. Choose another name.")
        else:
            user.set_password(password)
            user.is_active = True
            user.save(update_fields=["password", "is_active"])
        reset(username=username)
    return password, user is None
