"""The engine process seen from its parent: answers, noise, secrets, and every way in which it can end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from profiling import spawn
from profiling.client import EngineChild, EngineError, WarmChild, warm_child

ROOT = Path(__file__).resolve().parents[2]

#: An engine process with extra operations, which stands where the real one would be started.
MISBEHAVING = """
import os, signal, sys, time
from profiling import child

@child.operation("environ")
def environ(request, report):
    return dict(os.environ)

@child.operation("noise")
def noise(request, report):
    for number in range(2000):
        print("x" * 100, number)
        print("y" * 100, number, file=sys.stderr)
    os.write(1, b'{"id": 1, "type": "result", "document": {"forged": true}}\\n')
    return {"stdin": sys.stdin.read()}

@child.operation("hang")
def hang(request, report):
    report("working", 0.1, "hanging")
    report.partial({"reached": "working"})
    signal.pause()

@child.operation("compute")
def compute(request, report):
    import numpy
    report("computing", 0.1, "for ever")
    while True:
        numpy.sort(numpy.zeros(1 << 22))

@child.operation("eat")
def eat(request, report):
    report("eating", 0.1, "")
    held = []
    while True:
        held.append(b"x" * (8 << 20))
        time.sleep(0.001)

@child.operation("fault")
def fault(request, report):
    report("load", 0.1, "")
    raise RuntimeError("cannot open /home/someone/secret/model.bin for reading")

@child.operation("exhausted")
def exhausted(request, report):
    raise MemoryError

@child.operation("nan")
def nan(request, report):
    return {"value": float("nan")}

@child.operation("inherited")
def inherited(request, report):
    import subprocess
    code = "import os; print(sorted(os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd') if f > '2'))"
    return {"files": subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, close_fds=False).stdout}

child.main()
"""


@pytest.fixture
def engine(monkeypatch):
    """An engine process that has the operations above."""
    real = spawn.spawn

    def start(arguments, **options):
        return real([arguments[0], "-c", MISBEHAVING], **options)

    monkeypatch.setattr("profiling.client.spawn", start)
    with EngineChild() as child:
        yield child


def failure(engine, op, **options) -> EngineError:
    with pytest.raises(EngineError) as caught:
        engine.request(op, options.pop("payload", None), **options)
    return caught.value


def test_answers_requests_one_after_the_other():
    with EngineChild() as engine:
        first, second = engine.request("ping"), engine.request("ping")
        assert first["pid"] == second["pid"] == engine.pid
        assert first["warm"] is False
    assert not engine.alive


def test_an_unknown_request_is_refused_and_the_process_lives_on():
    with EngineChild() as engine:
        assert failure(engine, "no such thing").kind == "protocol"
        assert engine.request("ping")["pid"] == engine.pid


def test_what_libraries_print_neither_corrupts_nor_forges_answers(engine):
    lines = []
    document = engine.request("noise", on_log=lambda level, message: lines.append((level, message)))
    assert document == {"stdin": ""}, "the real answer, and a library that reads stdin sees it empty"
    assert engine.request("ping")["pid"] == engine.pid
    assert sum(level == "output" for level, _ in lines) > 100


def test_the_child_knows_no_secrets(monkeypatch):
    for name in (
        "DATABASE_URL",
        "BROKER_URL",
        "LLMCOMPARE_SECRET_KEY",
        "HTTPS_PROXY",
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
    ):
        monkeypatch.setenv(name, "secret-value")
    with EngineChild() as fresh:
        fresh.request("ping")  # before its program runs, a process shows no environment at all
        environment = Path(f"/proc/{fresh.pid}/environ").read_bytes()
    assert b"secret-value" not in environment
    assert b"HF_HUB_OFFLINE=1" in environment


def test_the_child_writes_into_a_folder_of_its_own_that_goes_with_it(engine):
    environment = engine.request("environ")
    folder = Path(environment["TMPDIR"])
    assert environment["HOME"] == environment["HF_HOME"] == str(folder)
    assert folder.is_dir()
    engine.close()
    assert not folder.exists()


def test_processes_that_the_child_starts_do_not_hold_its_results_open(engine):
    assert engine.request("inherited")["files"].count("pipe:") == 0


def test_killed_child_is_noticed_at_once_with_a_readable_reason(engine):
    killed_at = []

    def kill(stage, fraction, message):
        killed_at.append(time.monotonic())
        os.kill(engine.pid, signal.SIGKILL)

    error = failure(engine, "hang", on_progress=kill)
    assert time.monotonic() - killed_at[0] < 2
    assert error.kind == "killed"
    assert error.phase == "working"
    assert "killed (signal 9)" in str(error)
    assert "memory" in str(error)
    assert error.partial in (None, {"reached": "working"})


def test_cancelling_ends_the_process_quickly_and_keeps_what_was_known(engine):
    begun = threading.Event()
    error = failure(engine, "hang", on_progress=lambda *a: begun.set(), should_stop=begun.is_set)
    assert error.kind == "cancelled"
    assert not psutil.pid_exists(engine.pid)


def test_a_request_that_hangs_ends_at_its_time_limit(engine):
    started = time.monotonic()
    error = failure(engine, "hang", timeout_s=1)
    assert 1 <= time.monotonic() - started < 4
    assert error.kind == "timeout"
    assert "1 s" in str(error)
    assert error.partial == {"reached": "working"}
    assert not engine.alive


def test_memory_is_watched_and_the_limit_is_named(engine):
    engine.memory_limit_bytes = 300_000_000
    error = failure(engine, "eat", timeout_s=60)
    assert error.kind == "memory"
    assert "0.3 GB" in str(error)
    assert not psutil.pid_exists(engine.pid)


def test_unforeseen_faults_name_the_phase_and_no_paths(engine):
    logs = []
    error = failure(engine, "fault", on_log=lambda level, message: logs.append((level, message)))
    assert (error.phase, error.kind) == ("load", "internal")
    assert "model.bin" in str(error)
    assert "/home" not in str(error)
    assert "Traceback" not in str(error)
    assert any("Traceback" in message for level, message in logs if level == "error")
    assert engine.request("ping")


def test_running_out_of_memory_inside_is_said_in_words(engine):
    error = failure(engine, "exhausted")
    assert error.kind == "memory"
    assert "smaller" in str(error)


def test_a_document_with_nan_is_an_error_not_broken_json(engine):
    assert failure(engine, "nan").kind == "internal"


def test_a_dead_child_answers_further_requests_with_an_error(engine):
    engine.kill()
    assert failure(engine, "ping").kind == "killed"


def test_a_request_larger_than_a_pipe_is_sent_whole(engine):
    assert engine.request("ping", {"filler": "x" * 3_000_000})["pid"] == engine.pid


def test_waiting_costs_no_processor_time(engine):
    before = time.process_time()
    failure(engine, "hang", timeout_s=1.5)
    assert time.process_time() - before < 0.4


PARENT = """
import sys
sys.path.insert(0, {root!r})
from profiling import client, spawn
real = spawn.spawn
client.spawn = lambda arguments, **options: real([arguments[0], "-c", {child!r}], **options)
engine = client.EngineChild()
engine.request({op!r}, on_progress=lambda *a: print(engine.pid, flush=True))
"""


@pytest.mark.parametrize("op", ["hang", "compute"])
def test_the_child_dies_with_its_parent(op):
    code = PARENT.format(root=str(ROOT), child=MISBEHAVING, op=op)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = os.pidfd_open(int(parent.stdout.readline()))
    try:
        parent.kill()
        parent.wait()
        ended, _, _ = select.select([child], [], [], 5)
        assert ended, "the engine process outlived its parent"
    finally:
        os.close(child)
        parent.stdout.close()


def test_the_child_ends_when_stdin_does_even_without_the_parent_death_signal():
    """Other systems than Linux have only this: the parent lives on but has closed the child's stdin in mid-computation."""
    result_read, result_write = os.pipe()
    environment = spawn.child_environment(folder="/tmp", result_fd=result_write)
    process = subprocess.Popen(
        [sys.executable, "-c", MISBEHAVING],
        stdin=subprocess.PIPE,
        pass_fds=(result_write,),
        env=environment,
        cwd=ROOT,
        text=True,
    )
    os.close(result_write)
    process.stdin.write('{"id": 1, "op": "compute"}\n')
    process.stdin.flush()
    with os.fdopen(result_read) as answers:
        assert json.loads(answers.readline())["type"] == "accepted"
        assert json.loads(answers.readline())["stage"] == "computing"
        process.stdin.close()
        assert process.wait(5) == 0


def test_folders_of_parents_that_were_killed_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = tmp_path / f"{spawn.FOLDER_PREFIX}{dead.pid}-abc"
    living = tmp_path / f"{spawn.FOLDER_PREFIX}{os.getpid()}-abc"
    stale.mkdir()
    living.mkdir()
    spawn.remove_stale_folders()
    assert not stale.exists()
    assert living.exists()


def test_a_child_outlives_the_thread_that_started_it():
    """The parent-death signal of Linux follows the thread; a request's thread ends long before the warm child may."""
    made = []
    thread = threading.Thread(target=lambda: made.append(EngineChild()))
    thread.start()
    thread.join()
    with made[0] as engine:
        assert engine.request("ping")["pid"] == engine.pid


# --- the warm child ------------------------------------------------------------------------------------------------------


def test_the_warm_child_is_one_and_is_replaced_when_it_has_died():
    warm = WarmChild()
    try:
        first = warm.request("ping")
        assert first["warm"] is True
        assert warm.request("ping")["pid"] == first["pid"]
        os.kill(first["pid"], signal.SIGKILL)
        assert warm.request("ping")["pid"] != first["pid"]
    finally:
        warm.close()
    assert warm.pid is None


def test_the_warm_child_is_recycled_after_its_number_of_requests():
    warm = WarmChild(max_requests=2)
    try:
        pids = [warm.request("ping")["pid"] for _ in range(3)]
    finally:
        warm.close()
    assert pids[0] == pids[1] != pids[2]


def test_the_warm_child_is_recycled_when_it_has_grown():
    warm = WarmChild(max_memory_bytes=1)
    try:
        assert warm.request("ping")["pid"] != warm.request("ping")["pid"]
    finally:
        warm.close()


def test_requests_from_several_threads_all_get_their_own_answer():
    warm = WarmChild(max_waiting=7)
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        with pytest.raises(EngineError) as caught:
            warm.request(f"unknown-{number}")
        answers[number] = str(caught.value)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        warm.close()
    assert all(f"unknown-{number}" in answers[number] for number in range(8))


def test_a_busy_warm_child_says_so_instead_of_waiting_for_ever():
    warm = WarmChild()
    with warm._lock:
        error = failure(warm, "ping", timeout_s=0.5)
    assert error.kind == "busy"


def test_there_is_one_warm_child_per_process():
    assert warm_child() is warm_child()


def test_importing_the_clients_side_does_not_import_torch():
    code = (
        "import sys; import profiling.client, profiling.host, profiling.weights, profiling.spec; "
        "profiling.host.detect(); profiling.weights.known_packages(); "
        "print([name for name in ('torch', 'transformers', 'django', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
