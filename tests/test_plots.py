"""Timelines and durations: what is drawn of which rows, and how axes go in and out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from slurmapply import SlurmApplyError, SlurmJob, jobfolder, slurm_apply, slurm_map
from slurmapply.durations import durations
from slurmapply.gantt import gantt, notes_on
from slurmapply.jobfolder import Life
from slurmapply.numeric import NumberColumn
from slurmapply.outcome_file import Origin, Same
from slurmapply.palette import COLOURS, exact, task_labels
from slurmapply.plots import plot_timeline
from slurmapply.records import LifeView
from slurmapply.rows import RowNumbers
from slurmapply.runview import RunView
from slurmapply.schedulers.base import Submission
from slurmapply.states import STATUS_CODES, RowStatus
from slurmapply.timeline import INTERRUPTED, RUNNING, SHOWN, Lane, Moment, Wait, timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurmapply.timeline import Timeline

OK, ERROR, CRASHED = (
    STATUS_CODES[each] for each in (RowStatus.OK, RowStatus.ERROR, RowStatus.CRASHED)
)
#: When runs are submitted here, in seconds since the epoch.
T = 1_700_000_000.0


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


class Attempts:
    """As much of an outcomes file's frame as a timeline looks at."""

    def __init__(
        self, lane: tuple[int, int, int], starts: Any, seconds: Any, codes: Any = OK
    ) -> None:
        run, task, worker = lane
        name = Life("1", task, 0).outcomes(run, str(worker))
        self.origin = Origin(run, task, 0, name)
        self.columns = {
            "start": starts,
            "seconds": seconds if hasattr(seconds, "__len__") else Same(seconds, len(starts)),
            "status": codes if hasattr(codes, "__len__") else Same(codes, len(starts)),
        }

    def __len__(self) -> int:
        return len(self.columns["start"])


def life(task: int, number: int, started: float | None, **records: Any) -> LifeView:
    view = LifeView(Life("1", task, number))
    if started is not None:
        view.started = {"time": started, "host": "login", "node": f"node{task}", "workers": 2}
    for name, value in records.items():
        setattr(view, name, value)
    return view


def run_of(number: int, tasks: int, lives: list[LifeView], kind: str = "slurm") -> RunView:
    submission = Submission(kind, "1")
    rows = RowNumbers.first(9)
    return RunView(number, {"tasks": tasks}, submission, rows, cancelled=False, lives=lives)


def at(now: float = T + 1000, *, running: set[int] = frozenset(), alive: bool = False) -> Moment:  # type: ignore[assignment]
    return Moment(now, frozenset(running), alive)


def whole(frames: Any, runs: Sequence[RunView] | None = None) -> Timeline:
    """Give a timeline of frames alone, whose runs were submitted at T."""
    tasks = {frame.origin[:2] for frame in frames}
    if runs is None:
        numbers = sorted({run for run, _ in tasks})
        runs = [run_of(number, 1, [life(0, 0, T)]) for number in numbers]
    return timeline(runs, frames, {}, at())


# -- what ran when -------------------------------------------------------------------------------


def test_each_attempt_is_on_the_lane_of_its_worker() -> None:
    frames: Any = [
        Attempts((0, 1, 0), [T + 12.0], 3.0, ERROR),
        Attempts((0, 0, 1), [T + 10.0, T + 11.0], [1.0, 2.0]),
        Attempts((0, 0, 0), [T + 10.5], 4.0),
    ]
    lives = [life(0, 0, T + 10.0), life(1, 0, T + 11.5)]
    line = timeline([run_of(0, 2, lives)], frames, {0: T}, at())
    assert line.lanes == [Lane(0, 0, 0), Lane(0, 0, 1), Lane(0, 1, 0)]
    order = np.argsort(line.bars.begin)
    assert line.bars.lane[order].tolist() == [1, 0, 1, 2]
    assert np.allclose(line.bars.begin[order], [0.0, 0.5, 1.0, 2.0])
    assert np.allclose(line.bars.end[order], [1.0, 4.5, 3.0, 5.0])
    assert line.bars.code[order].tolist() == [OK, OK, OK, ERROR]
    assert line.waits == [Wait(0, 0, -10.0, 0.0), Wait(0, 1, -10.0, 1.5)]
    assert line.hosts == {(0, 0): "node0", (0, 1): "node1"}


def test_a_task_waits_again_when_it_is_started_anew() -> None:
    ended = {"reason": "SIGTERM", "files": {}, "time": T + 20.0}
    lives = [life(0, 0, T + 5.0, end=ended), life(0, 1, T + 60.0)]
    line = timeline([run_of(0, 1, lives)], [], {0: T}, at())
    assert line.waits == [Wait(0, 0, -5.0, 0.0), Wait(0, 0, 15.0, 55.0)]


@pytest.mark.parametrize(("alive", "until"), [(True, 95.0), (False, 15.0)])
def test_a_task_that_has_not_begun_waits_till_now_or_did_till_the_end(
    *, alive: bool, until: float
) -> None:
    ended = {"reason": "done", "files": {}, "time": T + 20.0}
    lives = [life(0, 0, T + 5.0, end=ended)]
    line = timeline([run_of(0, 2, lives)], [], {0: T}, at(T + 100, alive=alive))
    assert line.waits[1] == Wait(0, 1, -5.0, until)
    assert line.lanes == [Lane(0, 0, 0), Lane(0, 1, 0)]


def test_a_job_in_the_queue_only_waits() -> None:
    line = timeline([run_of(0, 2, [])], [], {0: T}, at(T + 30, alive=True))
    chart = gantt(line, most_lines=9, bins=10)
    assert [(wait.begin, wait.end) for wait in line.waits] == [(0.0, 30.0)] * 2
    assert (chart.left, chart.right, chart.since) == (0.0, 30.0, "since it was submitted")
    assert len(chart.lines) == 2


def test_what_nobody_wrote_down_is_not_drawn() -> None:
    by_hand = timeline([run_of(0, 1, [life(0, 0, T)])], [], {}, at())
    assert by_hand.waits == []
    later: Any = [Attempts((0, 0, 0), [T], 1.0), Attempts((0, 0, 1), [T], float("nan"))]
    line = timeline([run_of(0, 1, [life(0, 0, T)])], later, {0: T + 5}, at())
    assert line.waits == []  # clocks that differ make no negative times
    assert len(line.bars.code) == 1


def test_in_the_session_itself_nothing_waits() -> None:
    assert timeline([run_of(0, 1, [life(0, 0, T + 1)], "inline")], [], {0: T}, at()).waits == []


def test_rows_that_run_go_on_till_now_and_others_do_not() -> None:
    console = jobfolder.console_of(Life("1", 0, 0).outcomes(0, "3"))
    named = {7: {"row": 7, "start": T + 2.0, "console": console}, 8: {"row": 8, "start": T + 2.0}}
    line = timeline(
        [run_of(0, 1, [life(0, 0, T, running=named)])], [], {}, at(T + 9, running={7}, alive=True)
    )
    assert line.lanes == [Lane(0, 0, 3)]
    assert line.bars.code.tolist() == [RUNNING]
    assert np.allclose([line.bars.begin[0], line.bars.end[0]], [2.0, 9.0])


def test_interrupted_attempts_stand_where_there_is_room() -> None:
    frames: Any = [
        Attempts((0, 0, 0), [T, T + 6.0], [5.0, 2.0]),
        Attempts((0, 0, 1), [T + 4.0], 4.0),
    ]
    cut_short = [
        {"row": 3, "start": T + 1.0, "seconds": 2.0},
        {"row": 4, "start": T + 4.5, "seconds": 1.0},
        {"row": 5, "seconds": 1.0},  # by an earlier version, without its time
    ]
    lives = [life(0, 0, T, interrupted=cut_short)]
    line = timeline([run_of(0, 1, lives)], frames, {}, at())
    mine = line.bars.code == INTERRUPTED
    placed = sorted(zip(line.bars.lane[mine].tolist(), line.bars.begin[mine], strict=True))
    assert [(lane, round(begin, 6)) for lane, begin in placed] == [(1, 1.0), (2, 4.5)]
    assert line.lanes == [Lane(0, 0, 0), Lane(0, 0, 1), Lane(0, 0, 2)]


def test_runs_stand_below_each_other_from_their_own_beginnings() -> None:
    day = 86_400.0
    frames: Any = [
        Attempts((0, 0, 0), [T + 5], 10.0, ERROR),
        Attempts((1, 0, 0), [T + day + 2], 1.0),
    ]
    runs = [run_of(0, 1, [life(0, 0, T + 5)]), run_of(1, 1, [life(0, 0, T + day + 2)])]
    line = timeline(runs, frames, {0: T, 1: T + day}, at())
    assert [lane.run for lane in line.lanes] == [0, 1]
    assert np.allclose(line.bars.begin, 0.0)
    assert [wait.begin for wait in line.waits] == [-5.0, -2.0]
    labels = task_labels(gantt(line, most_lines=9, bins=99).lines, line.hosts)
    assert labels == [(0.0, "run 0, task 0 (node0)"), (1.0, "run 1, task 0 (node0)")]


# -- what is drawn of it -------------------------------------------------------------------------


def test_few_rows_are_drawn_each_by_itself_and_apart() -> None:
    frames: Any = [Attempts((0, 0, 0), [T, T + 5.0, T + 10.0], [5.0, 5.0, 1e-6], [OK, OK, ERROR])]
    chart = gantt(whole(frames), most_lines=9, bins=100)
    assert not chart.merged
    assert len(chart.pieces.code) == 3
    wide = chart.pieces.end - chart.pieces.begin
    assert (wide >= 0.08).all()  # the shortest is seen, too
    assert (chart.pieces.end[:2] < [5.0, 10.0]).all()


def test_of_a_million_rows_the_worst_is_seen_in_each_place() -> None:
    rows, workers = 250_000, 4
    frames: Any = []
    for worker in range(workers):
        codes = np.full(rows, OK, np.uint8)
        if worker == 2:
            codes[[10, 200_000]] = ERROR, CRASHED
            codes[199_999] = ERROR
        starts = T + np.arange(rows) * 1e-3
        frames.append(Attempts((0, 0, worker), starts, 1e-3, codes))
    line = whole(frames)
    assert len(line.bars.code) == 1_000_000
    chart = gantt(line, most_lines=9, bins=1000)
    assert chart.merged
    assert "a bar is as bad as the worst of its rows" in notes_on(chart)
    pieces = chart.pieces
    assert len(pieces.code) == 3 + 5
    bad = pieces.code != OK
    assert pieces.line[bad].tolist() == [2, 2, 2]
    assert pieces.code[bad].tolist() == [ERROR, ERROR, CRASHED]
    assert pieces.mixed[bad].all()
    assert np.allclose(pieces.begin[bad], [0.0, 199.75, 200.0])
    assert np.allclose((pieces.end - pieces.begin)[bad], 0.25)
    covered = np.bincount(pieces.line, pieces.end - pieces.begin)
    assert np.allclose(covered, 250.0)


def test_a_gap_and_a_long_row_stay_what_they_are_among_many() -> None:
    starts = T + np.concatenate([np.arange(3000) * 0.01, [60.0]])
    seconds = np.concatenate([np.full(3000, 0.01), [40.0]])
    chart = gantt(whole([Attempts((0, 0, 0), starts, seconds)]), most_lines=9, bins=100)
    assert np.allclose(chart.pieces.begin, [0.0, 60.0], atol=1.0)
    assert np.allclose(chart.pieces.end, [30.0, 100.0], atol=1.01)


def test_where_workers_are_many_a_line_is_a_task_and_its_height_the_busy_ones() -> None:
    frames: Any = [
        Attempts((0, task, worker), [T], 10.0 if worker == 0 else 5.0)
        for task in range(3)
        for worker in range(4)
    ]
    runs = [run_of(0, 3, [life(task, 0, T) for task in range(3)])]
    chart = gantt(whole(frames, runs), most_lines=5, bins=100)
    assert [(line.first, line.worker, line.workers) for line in chart.lines] == [
        (0, None, 4), (1, None, 4), (2, None, 4),
    ]  # fmt: skip
    mine = chart.pieces.line == 0
    assert np.allclose(chart.pieces.begin[mine], [0, 5], atol=0.11)
    assert np.allclose(chart.pieces.share[mine], [1.0, 0.2 + 0.8 * 0.25])
    assert notes_on(chart)[0] == "a line is a task, as high as many of its workers are at work"


def test_where_tasks_are_many_a_line_is_several_of_them() -> None:
    frames: Any = [Attempts((0, task, 0), [T], 1.0) for task in range(10)]
    runs = [run_of(0, 10, [life(task, 0, T) for task in range(10)])]
    chart = gantt(whole(frames, runs), most_lines=4, bins=10)
    assert [(line.first, line.last) for line in chart.lines] == [(0, 2), (3, 5), (6, 8), (9, 9)]
    assert [text for _, text in task_labels(chart.lines, {})] == [
        "tasks 0-2", "tasks 3-5", "tasks 6-8", "task 9",
    ]  # fmt: skip


def test_of_more_runs_than_lines_the_last_ones_are_drawn() -> None:
    frames: Any = [Attempts((run, 0, 0), [T], 1.0) for run in range(9)]
    chart = gantt(whole(frames), most_lines=4, bins=10)
    assert [line.run for line in chart.lines] == [5, 6, 7, 8]
    assert len(chart.pieces.code) == 4
    assert "the first 5 runs are left out" in notes_on(chart)


def test_a_long_wait_does_not_hide_what_ran() -> None:
    frames: Any = [Attempts((0, 0, 0), [T + 36_000], 60.0)]
    line = timeline([run_of(0, 1, [life(0, 0, T + 36_000)])], frames, {0: T}, at())
    chart = gantt(line, most_lines=9, bins=100)
    assert (round(chart.left), round(chart.right)) == (-21, 60)
    assert chart.cut == 36_000
    assert "the longest wait, 10 h, is cut off on the left" in notes_on(chart)


@pytest.mark.parametrize(("seconds", "said"), [(3.0, True), (0.3, False)])
def test_a_gap_before_the_first_rows_is_explained(seconds: float, said: bool) -> None:  # noqa: FBT001
    begun = (T + 10, T + 20)
    frames: Any = [
        Attempts((0, task, worker), [begun[task] + seconds, begun[task] + 9], 1.0)
        for task in (0, 1)
        for worker in (0, 1, 2)
    ]
    lives = [life(task, 0, each) for task, each in enumerate(begun)]
    chart = gantt(timeline([run_of(0, 2, lives)], frames, {0: T}, at()), most_lines=9, bins=100)
    assert chart.loading == pytest.approx(seconds)
    assert ("before its first row a worker spent 3 s on loading" in notes_on(chart)) == said


def test_a_wait_no_longer_than_the_work_is_shown_whole() -> None:
    frames: Any = [Attempts((0, 0, 0), [T + 50], 60.0)]
    line = timeline([run_of(0, 1, [life(0, 0, T + 50)])], frames, {0: T}, at())
    chart = gantt(line, most_lines=9, bins=100)
    assert (chart.left, chart.right, chart.cut) == (-50.0, 60.0, 0.0)
    assert chart.since == "since the first task began"


def test_times_that_make_no_sense_cost_no_memory() -> None:
    frames: Any = [Attempts((0, 0, 0), [T] * 4000, [1e12] * 4000)]
    chart = gantt(whole(frames), most_lines=9, bins=100)
    assert len(chart.pieces.code) == 1


# -- axes ----------------------------------------------------------------------------------------


def words(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def fails_at_three(x: int) -> int:
    if x == 3:
        raise ValueError(x)
    return x


@pytest.fixture
def job() -> SlurmJob:
    return slurm_map(fails_at_three, range(8), job_name="few", backend="inline")


def test_axes_come_back_with_words_and_units(job: SlurmJob) -> None:
    ax = job.plot_timeline()
    assert ax.get_title(loc="left") == "few: 8 rows: 7 ok, 1 failed (ValueError)"
    assert ax.get_xlabel().startswith("time since the first task began (")
    assert ax.get_xlabel().endswith(")\na line is a worker; a bar is a row")
    assert [each.get_text().split(" ")[:2] for each in ax.get_yticklabels()] == [["task", "0"]]
    assert {"ok", "error"} <= set(words(ax))
    colours = {c.get_label(): to_hex(c.get_facecolor()[0]) for c in ax.collections[-2:]}
    assert colours == {word: COLOURS[word].lower() for word in ("ok", "error")}
    ax = job.plot_durations()
    assert ax.get_xlabel().startswith("time of a row (")
    assert ax.get_ylabel() == "rows"
    assert "ok: 7 rows" in words(ax)
    assert "error: 1 row" in words(ax)
    assert [text.partition(":")[0] for text in words(ax)[:2]] == ["median", "longest"]
    assert sum(patch.get_height() for patch in ax.patches) == 8


@pytest.mark.parametrize("method", ["plot_timeline", "plot_durations"])
def test_given_axes_are_used_and_nothing_else_is_touched(job: SlurmJob, method: str) -> None:
    figure, (one, other) = plt.subplots(1, 2)
    plt.sca(other)
    before = dict(mpl.rcParams)
    assert getattr(job, method)(one) is one
    assert getattr(job, method)(ax=one) is one
    assert plt.get_fignums() == [figure.number]
    assert plt.gca() is other
    assert not other.has_data()
    assert dict(mpl.rcParams) == before
    figure.canvas.draw()


@pytest.mark.parametrize("style", ["default", "dark_background", "ggplot"])
def test_the_styles_of_users_are_kept(job: SlurmJob, style: str) -> None:
    with plt.style.context(style):
        ax = job.plot_durations()
        ink = to_hex(ax.xaxis.label.get_color())
        assert {to_hex(line.get_color()) for line in ax.lines} == {ink}
        assert to_hex(ax.get_facecolor()) == to_hex(mpl.rcParams["axes.facecolor"])
        assert to_hex(job.plot_timeline().xaxis.label.get_color()) == ink


def test_the_axis_of_times_is_logarithmic_where_they_differ_much() -> None:
    def sleeps(item: float) -> None:
        time.sleep(item)

    wide = slurm_map(sleeps, [0.0, 0.0, 0.3], backend="inline")
    ax = wide.plot_durations()
    assert ax.get_xscale() == "log"
    assert re_match_longest(words(ax)) == 2
    ax.figure.canvas.draw()
    assert all(text.get_text().split(" ")[-1] in ("µs", "ms", "s") for text in ax.get_xticklabels())
    even = slurm_map(sleeps, [0.02, 0.03], backend="inline")
    assert even.plot_durations().get_xscale() == "linear"


def re_match_longest(texts: list[str]) -> int:
    """Give the row that the legend names as the longest."""
    text = next(text for text in texts if text.startswith("longest"))
    return int(text.partition("(row ")[2].rstrip(")"))


def test_jobs_in_which_nothing_ran_have_plots() -> None:
    for job in (
        slurm_map(abs, [], job_name="empty", backend="inline"),
        slurm_map(abs, [1], job_name="later", submit=False),
    ):
        for ax in (job.plot_timeline(), job.plot_durations()):
            assert [text.get_text() for text in ax.texts] == ["nothing has run yet"]
            ax.figure.canvas.draw()


def test_a_job_that_runs_can_be_plotted(tmp_path: Path) -> None:
    def waits(item: int, until: str) -> int:
        while item and not Path(until).exists():
            time.sleep(0.01)
        return item

    stop = tmp_path / "stop"
    job = slurm_map(waits, range(3), backend="local", more_args={"until": str(stop)})
    while not job.status().counts.get("running"):
        time.sleep(0.05)
    ax = job.plot_timeline()
    assert {"ok", "running"} <= set(words(ax))
    assert "ok: 1 row" in words(job.plot_durations())
    stop.touch()
    job.wait()
    assert "running" not in words(job.plot_timeline())


def test_a_retry_and_what_was_interrupted_are_told_apart() -> None:
    job = slurm_apply(fails_at_three, {"x": [2, 3]}, backend="inline")
    job.retry(f=abs_of).wait()
    ax = job.plot_timeline()
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert [label.split(" (")[0] for label in labels] == ["run 0, task 0", "run 1, task 0"]
    assert ax.get_xlabel().startswith("time since each run's first task began (")


def abs_of(x: int) -> int:
    return abs(x)


@pytest.mark.parametrize("method", ["plot_timeline", "plot_durations"])
def test_without_matplotlib_the_message_says_how_to_get_it(
    job: SlurmJob, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SlurmApplyError, match=r'pip install "slurmapply\[plots\]"'):
        getattr(job, method)()


def test_plots_unpickle_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.mkdir, (tmp_path / "unpickled",)

    job = slurm_map(lambda _: Trap(), [1], backend="inline")
    (job.folder / jobfolder.JOB).chmod(0o666)
    job = SlurmJob.open(job.folder)
    assert "ok" in words(job.plot_timeline())
    assert "ok: 1 row" in words(job.plot_durations())
    assert not (tmp_path / "unpickled").exists()


def test_a_chart_of_many_tasks_can_be_drawn() -> None:
    frames: Any = [
        Attempts((0, task, worker), T + np.arange(50.0), 0.9, [OK] * 49 + [ERROR])
        for task in range(40)
        for worker in range(8)
    ]
    runs = [run_of(0, 40, [life(task, 0, T + task) for task in range(40)])]
    line = timeline(runs, frames, {0: T - 30}, at())
    ax = plot_timeline(line, "many")
    ax.figure.canvas.draw()
    assert "waiting to begin" in words(ax)
    assert 20 <= len(ax.get_yticks()) <= 24
    assert ax.figure.get_size_inches()[1] < 11


# -- durations -----------------------------------------------------------------------------------


def test_durations_are_counted_by_status_with_nothing_lost() -> None:
    cells = np.array([0.0, 1.0, 2.0, 4.0, 9.0, 7.0])
    empty = np.array([False, False, False, False, False, True])
    found = durations(NumberColumn(cells, empty), bytes([OK, OK, ERROR, OK, 0, OK]), bins=4)
    assert {code: counts.sum() for code, counts in found.counts.items()} == {OK: 3, ERROR: 1}
    assert (found.median, found.longest, found.longest_row) == (1.5, 4.0, 3)
    assert found.logarithmic  # a row of no time at all counts as a microsecond
    assert found.edges[0] <= 1e-6
    even = durations(NumberColumn(cells[1:4], empty[1:4]), bytes([OK] * 3), bins=4)
    assert not even.logarithmic
    assert even.edges.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert even.counts[OK].tolist() == [0, 1, 1, 1]


def test_one_row_or_none_has_durations_too() -> None:
    one = durations(NumberColumn(np.array([2.5]), np.array([False])), bytes([OK]))
    assert (one.median, one.longest, int(one.counts[OK].sum())) == (2.5, 2.5, 1)
    assert durations([None, None], bytes(2)).counts == {}
    none = NumberColumn(np.array([2.5]), np.array([True]))
    assert durations(none, bytes(1)).counts == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (9.99e-4, "999 µs"), (0.25, "250 ms"), (119.0, "119 s"), (7200, "2 h")],
)
def test_measured_times_have_three_digits(seconds: float, text: str) -> None:
    assert exact(seconds) == text


def test_every_bar_has_its_colour_and_every_settled_status_is_shown() -> None:
    assert [*SHOWN.values()] == [*COLOURS]
    assert set(STATUS_CODES.values()) <= set(SHOWN)
