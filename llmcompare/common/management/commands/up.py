"""``manage.py up``: prepares the data folder, then runs the web server and the worker until it is stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sqlite3
import sys
import threading
import time
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection, connections

from llmcompare.common import preparing
from llmcompare.common.listening import CannotListen, listen, url_of
from llmcompare.env import env_secret
from llmcompare.install import explain_os_error
from llmcompare.supervisor import Service, Supervisor


class Command(BaseCommand):
    help = "Starts the portal: web server and worker. Prepares the database, static files, catalogues and the first admin before."
    requires_system_checks = ()

    def add_arguments(self, parser):
        parser.add_argument(
            "--bind", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)"
        )
        parser.add_argument("--port", default=8000, type=int, help="port to listen on (default: 8000)")
        parser.add_argument(
            "--workers", default=1, type=int, help="processes of the web server, 8 threads each (default: 1)"
        )
        parser.add_argument("--no-web", action="store_true", help="no web server: only the worker")
        parser.add_argument("--no-worker", action="store_true", help="no worker: only the web server")
        parser.add_argument("--no-admin", action="store_true", help="do not create the first administrator")

    def handle(self, *args, **options):
        if options["no_web"] and options["no_worker"]:
            raise CommandError("--no-web and --no-worker together leave nothing to start.")
        if options["workers"] < 1 or not 0 < options["port"] < 65536:
            raise CommandError("--workers must be at least 1, --port between 1 and 65535.")
        try:
            code = self._up(options)
        except (preparing.AlreadyRunning, CannotListen) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=130) from None
        except OSError as error:
            raise CommandError(explain_os_error(error, settings.DATA_DIR)) from error
        except DatabaseError as error:
            raise CommandError(_explain_database_error(error)) from error
        if code:
            sys.exit(code)

    def _up(self, options) -> int:
        host, port = options["bind"], options["port"]
        web = not options["no_web"]
        with preparing.only_one(url_of(host, port) if web else ""):
            server = self._listen(host, port, options) if web else None
            url = url_of(host, server.getsockname()[1]) if server else ""
            self._prepare(options)
            environment = _environment(url)
            if os.geteuid() == 0:
                self._say("Note: this runs as root. Outside a container use an ordinary account.")
            services = []
            if server:
                services.append(_web_service(server, options["workers"]))
            if not options["no_worker"]:
                services.append(_worker_service())
            supervisor = Supervisor(services, settings.BASE_DIR, environment, self._say)

            def started() -> None:
                if server:
                    arguments = (supervisor, server.getsockname(), url, options)
                    threading.Thread(target=self._announce, args=arguments, daemon=True).start()
                else:
                    supervisor.ready.set()
                    self._say("The worker was started. Ctrl-C stops it.")

            code = supervisor.run(started)
            if server:
                server.close()
            self._say("Stopped.")
            return code

    def _say(self, text: str) -> None:
        # A terminal that was closed must not keep the services from being stopped in good order.
        with contextlib.suppress(OSError):
            self.stdout.write(text)
            self.stdout.flush()

    def _listen(self, host: str, port: int, options) -> socket.socket:
        try:
            return listen(host, port)
        except CannotListen as error:
            if error.free_port is None:
                raise
            command = f"python3 manage.py up{f' --bind {host}' if host != '127.0.0.1' else ''} --port {error.free_port}"
            if not sys.stdin.isatty():
                raise CannotListen(f"{error}\nTo start there:  {command}") from None
            if input(f"{error} Use it? [Y/n] ").strip().lower() not in ("", "y", "yes"):
                raise CannotListen(f"Nothing was started. To start on another port:  {command}") from None
            return listen(host, error.free_port)

    def _prepare(self, options) -> None:
        self._say("Preparing the database, the static files and the catalogues …")
        call_command("migrate", interactive=False, verbosity=0)
        if not options["no_web"]:
            preparing.collect_static()
        call_command("load_catalogue", verbosity=0)
        if not options["no_admin"] and not options["no_web"]:
            self._first_admin()
        # The children open connections of their own; this process needs none from here on.
        connections.close_all()

    def _first_admin(self) -> None:
        given = env_secret("LLMCOMPARE_ADMIN_PASSWORD")
        try:
            password = preparing.create_first_admin(given)
        except ValueError as error:
            self._say(str(error))
            return
        if password is None:
            return
        if given:
            self._say(
                f"Created the administrator {preparing.FIRST_ADMIN} with the password in LLMCOMPARE_ADMIN_PASSWORD."
            )
            return
        self._say(
            "\n  Created the first administrator. The password is shown this once:\n"
            f"    user name: {preparing.FIRST_ADMIN}\n    password:  {password}\n"
            "  To get a new one later: python3 manage.py reset_admin\n"
        )

    def _announce(self, supervisor: Supervisor, address: tuple, url: str, options) -> None:
        """Wait until the site answers: the request queues in the listening socket until the server takes it."""
        host = address[0] if address[0] not in ("0.0.0.0", "::") else ("::1" if ":" in address[0] else "127.0.0.1")  # noqa: S104
        while not supervisor.stopping:
            client = http.client.HTTPConnection(host, address[1], timeout=60)
            try:
                client.request("GET", "/accounts/login/", headers={"Host": urlsplit(url).netloc})
                status = client.getresponse().status
                break
            except OSError:
                time.sleep(0.2)
            except http.client.HTTPException:
                time.sleep(0.2)
            finally:
                client.close()
        else:
            return
        supervisor.ready.set()
        if status >= 500:
            self._say(f"The site answers with an error ({status}); its messages are above.")
        text = f"\nllmcompare is running: {url}/\n"
        if options["bind"] in ("0.0.0.0", "::") and not os.environ.get("LLMCOMPARE_URL"):  # noqa: S104
            text += "Other machines are refused until LLMCOMPARE_URL says under which address they open it, e.g. http://name:8000\n"
        if options["no_worker"]:
            text += "No worker was started: runs wait until one is.\n"
        self._say(text + "Ctrl-C stops it.")


def _environment(url: str) -> dict[str, str]:
    """The children's variables: links that the portal makes begin with the address it really has."""
    variables = os.environ | {"LLMCOMPARE_URL": os.environ.get("LLMCOMPARE_URL") or url or settings.PUBLIC_URL}
    if os.geteuid() == 0:
        # Celery's page-long warning about this account; ours is one line (containers have no other account, as a rule).
        kept = variables.get("PYTHONWARNINGS")
        variables["PYTHONWARNINGS"] = ",".join(filter(None, [kept, "ignore:::celery.platforms:"]))
    return variables


def _web_service(server: socket.socket, workers: int) -> Service:
    arguments = ["-c", "python:llmcompare.gunicorn_conf", "-b", f"fd://{server.fileno()}", "-w", str(workers)]
    return Service("web server", "gunicorn", arguments, pass_fds=(server.fileno(),))


def _worker_service() -> Service:
    from llmcompare.runs.queues import host_slug, worker_queues

    arguments = ["--quiet", "-A", "llmcompare", "worker", "-P", "threads", "-c", "1", "-l", "WARNING"]
    arguments += ["-n", f"{host_slug()}-{os.getpid()}@llmcompare", "-Q", ",".join(worker_queues())]
    arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return Service("worker", "celery", arguments)


def _explain_database_error(error: DatabaseError) -> str:
    text = str(error).strip()
    if connection.vendor == "sqlite":
        where = connection.settings_dict["NAME"]
        code = getattr(error.__cause__, "sqlite_errorcode", None)
        if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
            return f"The disk is full: the database {where} could not be written. Free some space and start again."
        if code is not None and code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return f"The database {where} cannot be written ({text}). Give yourself write access, or name another folder in LLMCOMPARE_DATA."
        return f"The database {where} cannot be used: {text}."
    return f"The database cannot be used: {text}\nCheck DATABASE_URL and that the server is running."
