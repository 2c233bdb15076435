"""The catalogue's section A: what the user's function may do to itself and to its worker."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from slurmapply import (
    RowError,
    RowsFailedError,
    SlurmJob,
    current_row,
    slurm_apply,
    slurm_map,
)
from tests.faults.nodeside import (
    causes,
    is_there,
    records,
    run,
    statuses,
    wait_until,
    written,
)
from tests.test_task import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.test_task import Task


def test_A_01_an_exception_costs_its_row_only_and_is_told_in_full() -> None:
    def inverse(x: int) -> float:
        print("inverting", x)
        return 1 / (x - 2)

    job = run(inverse, 5)
    with pytest.raises(RowsFailedError, match="ZeroDivisionError"):
        job.results()
    assert statuses(job) == ["ok", "ok", "error", "ok", "ok"]
    row = job.row(2)
    assert (row.status, row.cause, row.parameters) == ("error", "ZeroDivisionError", {"x": 2})
    assert row.traceback.startswith("Traceback")
    assert "return 1 / (x - 2)" in row.traceback
    assert row.log == "inverting 2\n"
    assert row.host
    assert row.seconds is not None
    error = job.results(errors="keep")[2]
    assert isinstance(error, RowError)
    assert isinstance(error.exception, ZeroDivisionError)


def failed_rows(job: SlurmJob) -> int:
    return statuses(job).count("error")


@pytest.mark.parametrize("schedule", ["dynamic", "static"])
def test_A_02_a_function_that_always_fails_alike_is_not_tried_on_all_rows(schedule: str) -> None:
    def fails(x: int) -> int:
        return x + undefined_name  # type: ignore[name-defined,no-any-return]  # noqa: F821

    begin = time.monotonic()
    job = run(fails, 10_000, cpus_per_node=2, schedule=schedule)
    assert time.monotonic() - begin < 20
    assert 20 <= failed_rows(job) <= 25
    assert statuses(job).count("unfinished") == 10_000 - failed_rows(job)
    (stopping,) = records(job, "stopping")
    assert stopping["reason"] == "max_failures"
    assert "NameError" in stopping["message"]
    assert "in fails" not in stopping["message"]  # one line for people
    assert "\n" not in stopping["message"]
    assert records(job, "end")[0]["reason"] == "max_failures"


def test_A_02_each_of_two_tasks_stops_by_itself(start: Callable[..., Task]) -> None:
    def fails(x: int) -> int:
        return x + undefined_name  # type: ignore[name-defined,no-any-return]  # noqa: F821

    job = prepare(fails, 1000)
    tasks = [start(job, 0), start(job, 1)]
    for task in tasks:
        assert task.end() == ""
        assert task.wait_for("end")["reason"] == "max_failures"
        assert task.process.returncode == 0
    assert 20 <= failed_rows(job) <= 50


def test_A_02_one_row_that_is_ok_or_another_fault_lets_the_rest_run() -> None:
    def mostly_fails(x: int) -> int:
        if x:
            raise ValueError(x)
        return x

    def fails_in_two_ways(x: int) -> int:
        if x % 2:
            raise ValueError(x)
        raise TypeError(x)

    assert statuses(run(mostly_fails, 60)) == ["ok"] + ["error"] * 59
    assert statuses(run(fails_in_two_ways, 60)) == ["error"] * 60


@pytest.mark.parametrize("schedule", ["dynamic", "static"])
def test_A_02_a_number_of_failures_counts_whatever_else_is_ok(schedule: str) -> None:
    def often_fails(x: int) -> int:
        if x % 3 == 2:
            raise ValueError(x)
        return x

    job = run(often_fails, 100, max_failures=4, schedule=schedule)
    # One worker: the fourth failure is the last, and what came before it is kept.
    assert statuses(job) == (["ok", "ok", "error"] * 4 + ["unfinished"] * 88)
    assert "max_failures=4" in records(job, "stopping")[0]["message"]
    assert statuses(run(often_fails, 100, max_failures=None)).count("error") == 33


def test_A_02_crashes_count_too() -> None:
    def dies(x: int) -> None:
        os._exit(3)

    job = run(dies, 100, max_failures=3)
    assert statuses(job) == ["crashed"] * 3 + ["unfinished"] * 97
    assert "exit_3" in records(job, "stopping")[0]["message"]


def test_A_03_an_exception_that_cannot_be_unpickled_is_kept_as_text() -> None:
    class TwoArgumentsError(Exception):
        def __init__(self, a: int, b: str) -> None:
            super().__init__(f"{a} and {b}")

    def fails(x: int) -> int:
        if x == 1:
            raise TwoArgumentsError(x, "more")
        return x

    job = run(fails, 3)
    kept_error = job.results(errors="keep")[1]
    assert (kept_error.cause, kept_error.exception) == ("TwoArgumentsError", None)
    assert "1 and more" in str(kept_error)
    assert "raise TwoArgumentsError" in kept_error.traceback
    assert statuses(job) == ["ok", "error", "ok"]


def test_A_04_a_result_that_cannot_be_pickled_costs_its_row_and_says_what_it_was() -> None:
    def returns(x: int) -> Any:
        return [1, (n for n in "ab"), threading.Lock()][x]

    job = run(returns, 3)
    assert statuses(job) == ["ok", "error", "error"]
    messages = list(job.errors()["message"])
    assert messages[0].startswith("the function returned a generator, which cannot be saved")
    assert "Return plain data" in messages[0]
    assert "lock" in messages[1]


def test_A_05_a_result_that_cannot_be_unpickled_costs_its_row_only() -> None:
    class Spoilt:
        def __setstate__(self, state: object) -> None:
            raise ValueError("not with me")

    def returns(x: int) -> Any:
        found = Spoilt()
        found.__dict__["a"] = 1
        return found if x == 1 else x

    job = run(returns, 3)
    with pytest.raises(RowError, match=r"row 1: its value cannot be loaded here .*not with me"):
        job.results()
    first, bad, last = job.results(errors="keep")
    assert (first, last) == (0, 2)
    assert (bad.row, bad.cause) == (1, "not_loaded")
    assert causes(job) == ["", "not_loaded", ""]
    assert job.status().ok  # it was computed, and lies in the folder


def test_A_06_a_segfault_is_told_with_the_place_in_the_function() -> None:
    def touches_nothing(x: int) -> int:
        print("row", x)
        if x == 1:
            ctypes.string_at(0)
        return x

    job = run(touches_nothing, 3)
    row = job.row(1)
    assert (row.status, row.cause, row.attempt) == ("crashed", "SIGSEGV", 1)
    assert "row 1 crashed: SIGSEGV (its process died of signal 11): " in row.message
    for text in (row.traceback, row.log):
        assert "Fatal Python error: Segmentation fault" in text
        assert "in touches_nothing" in text
    assert "slurmapply/worker/" not in row.traceback
    assert row.log.startswith("row 1\n")
    assert statuses(job) == ["ok", "crashed", "ok"]
    assert job.logs(row=2) == "row 2\n"


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (lambda: os._exit(0), "exit_0"),
        (lambda: os._exit(7), "exit_7"),
        (lambda: ctypes.CDLL(None).exit(0), "exit_0"),
        (lambda: os.abort(), "SIGABRT"),  # noqa: PLW0108  # os.abort has no name to pickle
        (lambda: os.kill(os.getpid(), 40), "signal_40"),
    ],
)
def test_A_07_an_end_without_an_answer_is_a_crash_whatever_its_status(end: Any, cause: str) -> None:
    def ends(x: int) -> int:
        if x == 1:
            end()
        return x

    job = run(ends, 3)
    assert statuses(job) == ["ok", "crashed", "ok"]
    assert causes(job)[1] == cause
    assert job.row(1).message.startswith("row 1 crashed: ")


def test_A_08_sys_exit_is_the_rows_fault_and_not_the_workers_end() -> None:
    check_row_alone(SystemExit(2), r"the function called sys\.exit\(2\)")


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_A_09_what_is_no_exception_is_the_rows_fault_and_not_the_workers_end(
    error: type[BaseException],
) -> None:
    check_row_alone(error(), error.__name__)


def check_row_alone(error: BaseException, said: str) -> None:
    def raises(x: int) -> int:
        if x == 1:
            raise error
        return os.getpid()

    job = run(raises, 3)
    first, _, last = job.results(errors="keep")
    assert first == last, "the worker lives on"
    assert statuses(job)[1] == "error"
    with pytest.raises(RowsFailedError, match=said):
        job.results()


def test_A_10_a_row_without_end_is_stopped_and_says_where_it_was() -> None:
    def loops(x: int) -> int:
        time.sleep(0.1)
        while x == 1:
            pass
        return x

    begin = time.monotonic()
    job = run(loops, 3, row_timeout=1)
    assert time.monotonic() - begin < 8
    assert statuses(job) == ["ok", "row_timeout", "ok"]
    row = job.row(1)
    assert (row.cause, row.attempt) == ("row_timeout", 1)
    assert row.message == (
        'row 1 was stopped after 1 s (row_timeout): job.retry(rows="row_timeout", row_timeout=2)'
    )
    assert "in loops" in row.traceback
    assert "slurmapply/call.py" not in row.traceback
    assert row.seconds is not None
    assert 1 <= row.seconds < 2.5


def test_A_10_a_slow_row_within_its_time_is_left_alone() -> None:
    def sleeps(x: int) -> int:
        time.sleep(1.2)
        return os.getpid()

    job = run(sleeps, 2, row_timeout=2)
    assert len(set(job.results())) == 1


def test_A_10_a_row_that_took_too_long_is_tried_again_with_retries() -> None:
    def slow_at_first(x: int) -> int:
        if current_row().attempt == 1:
            time.sleep(100)
        return current_row().attempt

    job = run(slow_at_first, 1, row_timeout=0.5, retries=1)
    assert job.results() == [2]
    assert [each["cause"] for each in records(job, "interrupted")] == ["row_timeout"]


def test_A_10_the_longest_running_row_is_named_without_a_timeout() -> None:
    def sleeps(x: int) -> int:
        time.sleep(2.6)
        return x

    job = run(sleeps, 1)
    (running,) = records(job, "running")
    assert (running["row"], running["attempt"]) == (0, 1)


def test_A_11_c_code_that_holds_the_interpreter_is_stopped_all_the_same() -> None:
    def holds(x: int) -> int:
        if x == 1:
            ctypes.PyDLL(None).sleep(1000)
        return x

    begin = time.monotonic()
    job = run(holds, 3, row_timeout=0.5)
    assert time.monotonic() - begin < 8
    assert statuses(job) == ["ok", "row_timeout", "ok"]
    assert "in holds" in job.row(1).traceback


def test_A_13_each_rows_own_peak_memory_is_told() -> None:
    def grows(x: int) -> int:
        data = bytearray((0, 100, 0, 200)[x] << 20)
        data[::4096] = b"1" * len(data[::4096])
        time.sleep(0.02)
        return len(data)

    job = run(grows, 4)
    peaks = job.table(details=True)["row_peak_mb"].tolist()
    assert peaks[1] - peaks[0] == pytest.approx(100, abs=10)
    assert peaks[2] - peaks[0] < 20, "the peak of the row before is not this one's"
    assert peaks[3] - peaks[0] == pytest.approx(200, abs=10)


def test_A_14_a_forgotten_program_is_ended_after_its_row_and_named() -> None:
    def forgets(x: int) -> int:
        if x == 0:
            return subprocess.Popen(["sleep", "1000"]).pid
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        job = run(forgets, 2)
    pid = job.results()[0]
    assert not is_there(pid)
    assert f"slurmapply: row 0 left sleep (process {pid}) running; it was ended" in job.logs(row=0)
    assert job.logs(row=1) == ""


def test_A_14_a_program_whose_handle_is_kept_serves_the_next_rows_and_ends_with_the_job() -> None:
    def server(x: int) -> list[Any]:
        this = sys.modules["__main__"]
        if not hasattr(this, "server"):
            this.server = subprocess.Popen(["sleep", "1000"])  # type: ignore[attr-defined]
        handle: Any = this.server
        return [handle.pid, handle.poll()]

    job = run(server, 3)
    (pid, poll), *others = job.results()
    assert others == [[pid, None]] * 2
    assert poll is None
    wait_until(lambda: not is_there(pid), 5)


def test_A_14_a_daemon_that_left_its_parents_ends_with_the_job() -> None:
    def daemonizes(x: int) -> int:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                Path("daemon").write_text(str(os.getpid()))
                time.sleep(1000)
            os._exit(0)
        os.wait()
        while not Path("daemon").exists() or not Path("daemon").read_text():
            time.sleep(0.01)
        return x

    job = run(daemonizes, 1)
    assert job.results() == [0]
    wait_until(lambda: not is_there(written("daemon")), 5)


def test_A_14_a_forgotten_thread_does_not_hold_the_worker() -> None:
    def starts_a_thread(x: int) -> int:
        threading.Thread(target=time.sleep, args=(1000,)).start()
        return x

    begin = time.monotonic()
    assert run(starts_a_thread, 3).results() == [0, 1, 2]
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_A_15_pools_of_multiprocessing_work_inside_a_row(how: str) -> None:
    def uses_a_pool(x: int) -> list[int]:
        import multiprocessing

        pool = multiprocessing.get_context(how).Pool(2)
        found = pool.map(abs, [-x, x - 10])
        pool.terminate()
        pool.join()
        return found

    assert run(uses_a_pool, 2).results() == [[0, 10], [1, 9]]


def test_A_15_what_a_row_forks_has_the_signals_of_any_program() -> None:
    def forks(x: int) -> dict[str, list[Any]]:
        def in_child() -> list[Any]:
            read, write = os.pipe()
            if os.fork() == 0:
                kinds = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)]
                held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
                os.write(write, pickle.dumps([*map(str, kinds), held]))
                os._exit(0)
            os.wait()
            found: list[Any] = pickle.loads(os.read(read, 1000))
            return found

        found = {"main": in_child()}
        thread = threading.Thread(target=lambda: found.update(thread=in_child()))
        thread.start()
        thread.join()
        signal.signal(signal.SIGTERM, print)
        found["own"] = in_child()
        found["here"] = [signal.pthread_sigmask(signal.SIG_BLOCK, [])]
        return found

    default = str(signal.SIG_DFL)
    assert run(forks, 1).results() == [
        {
            "main": [default, default, set()],
            "thread": [default, default, set()],
            "own": [str(print), default, set()],
            "here": [set()],
        }
    ]


def test_A_15_an_executor_of_processes_works_inside_a_row() -> None:
    def uses_an_executor(x: int) -> list[int]:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(2) as pool:
            return list(pool.map(abs, [-x, x - 10]))

    job = run(uses_an_executor, 2)
    assert job.results() == [[0, 10], [1, 9]]
    assert job.logs(row=0) == ""


def test_A_15_a_pool_of_joblib_is_kept_from_row_to_row() -> None:
    joblib = pytest.importorskip("joblib")

    def uses_joblib(x: int) -> Any:
        def who(_: int) -> int:
            time.sleep(0.05)
            return os.getpid()

        return joblib.Parallel(n_jobs=2)(joblib.delayed(who)(n) for n in range(4))

    job = run(uses_joblib, 3)
    pids = {pid for row in job.results() for pid in row}
    assert len(pids) == 2, "the same processes served all rows"
    assert "left" not in "".join(job.logs(row=row) for row in range(3))
    wait_until(lambda: not any(map(is_there, pids)), 5)


def test_A_16_a_row_finds_the_working_folder_as_the_session_had_it() -> None:
    def moves(x: int) -> str:
        here = os.getcwd()  # noqa: PTH109
        os.mkdir(f"sub_{x}")  # noqa: PTH102
        os.chdir(f"sub_{x}")
        if x == 1:
            os.rmdir(f"../sub_{x}")  # noqa: PTH106  # nowhere now
        return here

    assert run(moves, 3).results() == [str(Path.cwd())] * 3


def test_A_16_a_row_that_raises_elsewhere_does_not_move_the_next() -> None:
    def moves_and_fails(x: int) -> str:
        if x == 0:
            os.chdir("/")
            raise ValueError(x)
        return os.getcwd()  # noqa: PTH109

    assert run(moves_and_fails, 2).results(errors="keep")[1] == str(Path.cwd())


@pytest.mark.slurm
def test_A_17_workers_share_no_state_without_a_seed() -> None:
    def meet(item: int) -> Any:
        drawn = random.random(), float(np.random.rand())  # noqa: NPY002
        folder = current_row().folder.parent
        (folder / f"row_{item}").touch()
        while not (folder / f"row_{1 - item}").exists():  # so that there are two workers
            time.sleep(0.01)
        return drawn

    job = slurm_map(meet, [0, 1], nodes=1, processes_per_node=2, job_name="meet")
    (plain, numpys), (other_plain, other_numpys) = job.results()
    assert plain != other_plain
    assert numpys != other_numpys


def test_A_18_what_a_row_prints_is_cut_and_the_next_rows_is_whole() -> None:
    def prints(x: int) -> int:
        if x == 1:
            for _ in range(100):
                print("y" * (1 << 20))
        print("row", x)
        return x

    job = run(prints, 3)
    assert job.results() == [0, 1, 2]
    assert console_size(job) < 11 << 20
    log = job.logs(row=1)
    assert len(log) < 11 << 20
    assert "row 1 printed more than 10 MB; the rest was dropped" in log[-200:]
    assert (job.logs(row=0), job.logs(row=2)) == ("row 0\n", "row 2\n")


def test_A_18_what_c_code_and_child_processes_print_is_cut_too() -> None:
    def prints(x: int) -> int:
        if x == 1:
            for _ in range(50):
                os.write(1, b"\xff\x00" * (1 << 19))
        elif x == 2:
            subprocess.run(["head", "-c", "50M", "/dev/zero"], check=True)
        print("row", x)
        return x

    job = run(prints, 4)
    assert job.results() == [0, 1, 2, 3]
    assert console_size(job) < 22 << 20
    for row in (1, 2):
        assert f"row {row} printed more than 10 MB" in job.logs(row=row)[-200:]
    assert (job.logs(row=0), job.logs(row=3)) == ("row 0\n", "row 3\n")


def test_A_18_a_row_that_prints_without_end_is_cut_while_it_runs() -> None:
    def floods(x: int) -> int:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            os.write(1, b"y" * (1 << 20))
            time.sleep(0.01)
        return x

    job = run(floods, 1)
    assert job.results() == [0]
    assert console_size(job) < 11 << 20


def console_size(job: SlurmJob) -> int:
    (console,) = (job.folder / "run_0").glob("console_*")
    return console.stat().st_size


def test_A_19_a_row_may_close_or_redirect_its_streams_and_the_next_has_its_own() -> None:
    def spoils(x: int) -> int:
        print("row", x)
        sys.stdout.flush()
        time.sleep(0.005)
        if x == 0:
            os.close(1)
            os.close(2)
        elif x == 6:
            os.close(2)
        elif x == 1:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.close(null)
            print("into nothing")
        elif x == 2:
            sys.stdout.close()
        elif x == 3:
            sys.stdout = sys.stderr = open("elsewhere", "w")  # noqa: SIM115, PTH123
            print("elsewhere")
        elif x == 4:
            sys.stdout = None
        elif x == 5:
            del sys.stderr
        else:
            os.write(2, b"raw\n")
        return os.getpid()

    job = run(spoils, 8)
    assert len(set(job.results())) == 1, "one worker for all"
    assert [job.logs(row=row) for row in range(7)] == [f"row {row}\n" for row in range(7)]
    assert job.logs(row=7) == "row 7\nraw\n"
    assert Path("elsewhere").read_text() == "elsewhere\n"


def test_A_19_there_is_nothing_to_read() -> None:
    def reads(x: int) -> str:
        return input() if x == 1 else sys.stdin.read()

    job = run(reads, 2)
    assert statuses(job) == ["ok", "error"]
    assert causes(job)[1] == "EOFError"


def test_A_19_another_attempt_has_its_streams_and_its_folder_back() -> None:
    def spoils_and_fails(x: int) -> str:
        here = os.getcwd()  # noqa: PTH109
        print("attempt", current_row().attempt)
        if current_row().attempt == 1:
            subprocess.Popen(["sleep", "1000"])
            sys.stdout.flush()
            sys.stderr.close()
            os.close(2)
            os.chdir("/")
            raise ValueError(x)
        return here

    job = run(spoils_and_fails, 1, retries=1)
    assert job.results() == [str(Path.cwd())]
    lines = job.logs(row=0).splitlines()
    assert lines[0] == "attempt 1"
    assert "left sleep" in lines[1]
    assert lines[2] == "slurmapply: attempt 1 of row 0 failed, once more:"
    assert lines[-2:] == ["ValueError: 0", "attempt 2"]


def test_A_19_a_fault_of_ours_between_two_rows_costs_the_row_that_brought_it() -> None:
    def spoils(x: int) -> int:
        if x == 1:
            os.fstat = None  # type: ignore[assignment]
        return x

    assert statuses(run(spoils, 3)) == ["ok", "crashed", "ok"]


def test_A_19_a_trace_is_kept_though_the_row_closed_its_streams() -> None:
    def closes_and_dies(x: int) -> None:
        os.close(1)
        os.close(2)
        ctypes.string_at(0)

    row = run(closes_and_dies, 1).row(0)
    assert "in closes_and_dies" in row.traceback


@pytest.mark.parametrize("deaf", [False, True])
def test_A_20_a_task_stops_in_time_whatever_its_rows_do_to_signals(
    start: Callable[..., Task],
    deaf: bool,  # noqa: FBT001  # pytest's way
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stubborn(x: int) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN if deaf else lambda *_: None)
        Path("pid").write_text(str(os.getpid()))
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(1000)

    slurm_conf = tmp_path / "slurm.conf"
    slurm_conf.write_text("KillWait=5\n")
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    job = prepare(stubborn, 3, nodes=1)
    task = start(job, 0)
    worker = written("pid")
    begin = time.monotonic()
    task.process.send_signal(signal.SIGTERM)
    os.kill(worker, signal.SIGTERM)  # where Slurm signals all processes of a task
    assert task.end() == ""
    assert time.monotonic() - begin < 4.9, "before Slurm's SIGKILL"
    assert not is_there(worker)
    assert task.wait_for("stopping")["rows"] == [0]
    interrupted = task.wait_for("interrupted")
    assert (interrupted["row"], interrupted["cause"]) == (0, "stopped")
    assert task.wait_for("end")["reason"] == "SIGTERM"
    assert set(statuses(job)) <= {"unfinished", "pending"}


def test_A_20_handlers_of_a_row_do_not_keep_a_local_job_alive() -> None:
    def stubborn(x: int) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path("pid").write_text(str(os.getpid()))
        time.sleep(1000)
        return x

    job = slurm_apply(stubborn, {"x": [1, 2]}, backend="local", nodes=1, cpus_per_node=1)
    worker = written("pid")
    job.cancel()
    wait_until(lambda: not is_there(worker), 10)
    wait_until(lambda: job.status().completed, 10)


def test_A_21_nothing_is_a_result_too() -> None:
    def gives_nothing(x: int) -> None:
        print(x)

    job = run(gives_nothing, 5)
    assert job.results() == [None] * 5
    assert statuses(job) == ["ok"] * 5
    assert job.status().ok


def test_A_22_a_task_whose_folder_is_gone_ends_soon() -> None:
    def removes(x: int) -> int:
        if x == 2:
            Path("supervisor").write_text(str(os.getppid()))
            shutil.rmtree(Path(str(current_row().job_folder)))
        return x

    job = slurm_apply(removes, {"x": list(range(5))}, backend="local", nodes=1, cpus_per_node=1)
    supervisor = written("supervisor")
    wait_until(lambda: not is_there(supervisor), 15)
    assert not job.folder.exists()


def test_A_22_a_task_whose_folder_was_moved_goes_on() -> None:
    def moves(x: int) -> int:
        if x == 2:
            folder = Path(str(current_row().job_folder))
            folder.rename(folder.with_name("moved"))
        return x

    slurm_apply(moves, {"x": list(range(5))}, backend="local", nodes=1, cpus_per_node=1)
    wait_until(lambda: Path("moved").exists())
    job = SlurmJob("moved")
    assert job.wait(30).results() == [0, 1, 2, 3, 4]


def test_A_23_warnings_stand_in_their_rows_log_and_harm_nobody() -> None:
    def warns(x: int) -> int:
        warnings.simplefilter("always")
        for number in range(20_000 if x == 1 else 1):
            warnings.warn(f"number {number} of row {x}", stacklevel=1)
        return x

    job = run(warns, 3)
    assert job.results() == [0, 1, 2]
    assert "number 0 of row 2" in job.logs(row=2)
    assert "row 1" not in job.logs(row=2)
    assert "number 19999 of row 1" in job.logs(row=1)


def test_A_23_nodes_where_warnings_are_errors_run_rows() -> None:
    job = run(lambda x: x, 3, setup="export PYTHONWARNINGS=error")
    assert job.results() == [0, 1, 2]
    assert all("Warning" not in text for text in job.logs().values())


def test_A_24_deep_recursion_is_an_exception_like_any_other() -> None:
    def deep(x: int) -> Any:
        if x == 1:
            return deep(x)
        if x == 2:
            nest: list[Any] = []
            for _ in range(100_000):
                nest = [nest]
            return nest
        return x

    job = run(deep, 4)
    assert statuses(job) == ["ok", "error", "error", "ok"]
    assert causes(job)[1] == "RecursionError"
    assert "recursion" in job.row(2).message
    assert len(job.row(1).traceback) < 20_000
    assert "repeated" in job.row(1).traceback
