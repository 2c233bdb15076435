from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmapply.errors import InvalidArgumentError
from slurmapply.schedulers.amounts import parse_memory, parse_time, time_seconds
from slurmapply.schedulers.options import (
    Options,
    arguments,
    check_options,
    directives,
    run_options,
    warning_signal,
)


def options(**changed: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "slurm_name": "a_01",
        "tasks": 3,
        "console": "run_0/slurm_%a.out",
        "cpus_per_node": 2,
    }
    return run_options(**(plain | changed)).as_dict()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2h", "02:00:00"),
        ("90min", "01:30:00"),
        ("90 Minutes", "01:30:00"),
        ("1h 30min", "01:30:00"),
        ("1h30m", "01:30:00"),
        ("1.5h", "01:30:00"),
        ("45s", "00:00:45"),
        ("1:30:00", "01:30:00"),
        ("100:00:00", "4-04:00:00"),
        ("1-12:00:00", "1-12:00:00"),
        ("1-12", "1-12:00:00"),
        ("2 days", "2-00:00:00"),
        ("1 week, 1 day", "8-00:00:00"),
        (timedelta(hours=30), "1-06:00:00"),
        (timedelta(milliseconds=1), "00:00:01"),
        ("unlimited", "UNLIMITED"),
        (None, None),
    ],
)
def test_a_time_is_written_as_slurm_does(value: object, expected: str | None) -> None:
    assert parse_time(value) == expected


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (90, "'90min', '90h'"),
        (1.5, "no unit"),
        ("90", "'90min', '90h'"),
        ("1:30", "'1:30:00' or '0:1:30'"),
        ("0h", "above zero"),
        (timedelta(0), "above zero"),
        (timedelta(hours=-1), "above zero"),
        ("-2h", "not a time"),
        ("abc", "not a time"),
        ("", "not a time"),
        ("2 fortnights", "not a time"),
        ("2h 3", "not a time"),
        (True, "not a time"),
        ("1:2:3:4", "not a time"),
    ],
)
def test_what_is_no_time_or_two_is_refused(value: object, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said) as caught:
        parse_time(value)
    assert caught.value.argument == "time"


@given(st.integers(min_value=1, max_value=10**8))
def test_a_time_keeps_its_seconds(seconds: int) -> None:
    assert time_seconds(parse_time(timedelta(seconds=seconds))) == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("1:30:00", 5400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-12:30:05", 131405),
        ("0", None),
        ("UNLIMITED", None),
        (None, None),
    ],
)
def test_seconds_of_each_of_sbatchs_spellings(text: str | None, expected: int | None) -> None:
    assert time_seconds(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("4G", "4G"),
        ("500M", "500M"),
        ("4 GB", "4G"),
        ("4gib", "4G"),
        ("1.5G", "1536M"),
        ("0.1G", "103M"),
        ("1T", "1024G"),
        ("100K", "1M"),
    ],
)
def test_memory_is_written_in_whole_megabytes(value: str, expected: str) -> None:
    assert parse_memory(value) == expected


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (4000, "'4000M' or '4000G'"),
        ("4000", "no unit"),
        ("5X", "not an amount"),
        ("-4G", "not an amount"),
        ("0G", "nothing"),
        (0, "'mem': 0"),
        (True, "not an amount"),
        ("4G 5", "not an amount"),
    ],
)
def test_what_is_no_memory_is_refused(value: object, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said) as caught:
        parse_memory(value)
    assert caught.value.argument == "mem"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, None),
        (60, None),
        (300, None),
        (301, "B:USR1@30"),
        (600, "B:USR1@60"),
        (86400, "B:USR1@90"),
    ],
)
def test_the_warning_is_scaled_to_the_limit(limit: int | None, expected: str | None) -> None:
    assert warning_signal(limit) == expected


@given(st.integers(min_value=1, max_value=10**6))
def test_a_warning_a_minute_early_leaves_two_thirds_of_the_time(limit: int) -> None:
    signal = warning_signal(limit)
    if signal is not None:
        assert int(signal.removeprefix("B:USR1@")) + 60 <= limit / 3


def test_the_whole_list_of_a_run() -> None:
    assert options(
        console="run_2/slurm_%a.out",
        gpus_per_node=1,
        time="2h",
        mem="4G",
        partition="main",
        account="x",
        task_limit=5,
        after=["1", "2"],
        slurm_options={"mail_type": "END", "exclusive": True, "qos": None},
    ) == {
        "job-name": "a_01",
        "array": "0-2%5",
        "cpus-per-task": "2",
        "gpus-per-node": "1",
        "time": "02:00:00",
        "mem": "4G",
        "partition": "main",
        "account": "x",
        "output": "run_2/slurm_%a.out",
        "open-mode": "append",
        "requeue": True,
        "propagate": "NONE",
        "signal": "B:USR1@90",
        "dependency": "afterany:1:2",
        "mail-type": "END",
        "exclusive": True,
    }


def test_what_nobody_asked_for_is_left_to_the_cluster() -> None:
    assert set(options()) == {
        "job-name",
        "array",
        "cpus-per-task",
        "output",
        "open-mode",
        "requeue",
        "propagate",
    }


def test_a_user_may_refuse_to_be_requeued() -> None:
    chosen = options(slurm_options={"no_requeue": True})
    assert "requeue" not in chosen
    assert chosen["no-requeue"] is True


def test_a_time_among_the_options_counts_for_the_warning() -> None:
    assert options(slurm_options={"time": "10"})["signal"] == "B:USR1@60"
    assert "signal" not in options(slurm_options={"time": "0"})


def test_the_shortest_time_counts_for_the_warning() -> None:
    assert "signal" not in options(time="10h", slurm_options={"time-min": "1"})


def test_after_and_a_dependency_both_hold() -> None:
    chosen = options(after=["7"], slurm_options={"dependency": "afterok:8"})
    assert chosen["dependency"] == "afterany:7,afterok:8"


def test_a_dependency_alone_is_the_users() -> None:
    assert options(slurm_options={"dependency": "singleton"})["dependency"] == "singleton"


@pytest.mark.parametrize("value", ["afterok:8?afterok:9", True])
def test_a_dependency_that_cannot_be_joined_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match="dependency"):
        options(after=["7"], slurm_options={"dependency": value})


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"mail_type": "END"}, {"mail-type": "END"}),
        ({"exclusive": True}, {"exclusive": True}),
        ({"qos": None, "hold": False}, {}),
        ({"nice": 5, "licenses": 1.5}, {"nice": "5", "licenses": "1.5"}),
        ({"bbf": Path("/a b/c")}, {"bbf": "/a b/c"}),
        ({"gpus": 2}, {"gpus": "2"}),
        ({"mem": 0}, {"mem": "0"}),
        ({"comment": ""}, {"comment": ""}),
    ],
)
def test_options_are_taken_as_sbatch_spells_them(
    user: dict[str, object], expected: dict[str, object]
) -> None:
    assert check_options(user) == expected


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"array": "0-3"}, "nodes="),
        ({"job_name": "x"}, "job_name="),
        ({"cpus-per-task": 3}, "cpus_per_node="),
        ({"nodes": 2}, "nodes="),
        ({"ntasks": 2}, "processes_per_node="),
        ({"output": "x"}, r"job\.logs\(\)"),
        ({"wait": True}, r"job\.wait\(\)"),
        ({"test_only": True}, "submit=False"),
        ({"signal": "USR1"}, "itself"),
        ({"out": "x"}, "beginning of 'output'"),
        ({"chd": "/"}, "beginning of 'chdir'"),
        ({"depend": "x"}, "beginning of 'dependency'"),
        ({"--qos": "x"}, "without the dashes"),
        ({"p": "main"}, "short option"),
        ({"QOS": "x"}, "not the name"),
        ({"a b": "x"}, "not the name"),
        ({"a\nb": "x"}, "not the name"),
        ({" qos": "x"}, "not the name"),
        ({"": "x"}, "not the name"),
        ({3: "x"}, "must be a string"),
        ({"comment": "x\n#SBATCH --uid=0"}, "control character"),
        ({"comment": "x\0"}, "control character"),
        ({"comment": "x\r"}, "control character"),
        ({"comment": "x\u2028y"}, "control character"),
        ({"mail_type": ["END", "FAIL"]}, "one string, 'a,b'"),
        ({"nice": float("nan")}, "not a number"),
        ({"mail_type": "END", "mail-type": "FAIL"}, "twice"),
        ({"mem": "1G", "mem-per-cpu": "1G"}, "exclude each other"),
        ({"requeue": True, "no-requeue": True}, "exclude each other"),
    ],
)
def test_options_that_cannot_be_are_refused(user: Any, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said) as caught:
        check_options(user)
    assert caught.value.argument == "slurm_options"


@pytest.mark.parametrize(
    ("keyword", "name", "value"),
    [
        ("time", "time", "2h"),
        ("mem", "mem", "4G"),
        ("partition", "partition", "main"),
        ("account", "account", "x"),
        ("gpus_per_node", "gpus-per-node", 1),
    ],
)
def test_the_same_thing_twice_is_refused(keyword: str, name: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{keyword}= and slurm_options"):
        options(**{keyword: value}, slurm_options={name: "1"})


def test_memory_of_a_node_and_of_a_cpu_exclude_each_other() -> None:
    with pytest.raises(InvalidArgumentError, match="mem and mem-per-cpu"):
        options(mem="4G", slurm_options={"mem_per_cpu": "1G"})


@pytest.mark.parametrize("value", ["a\nb", "", 3])
@pytest.mark.parametrize("keyword", ["partition", "account"])
def test_a_partition_is_one_line_of_text(keyword: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        options(**{keyword: value})
    assert caught.value.argument == keyword


def test_the_two_renderings_say_the_same() -> None:
    chosen = Options((("time", "02:00:00"), ("requeue", True), ("output", "run_0/slurm_%a.out")))
    assert arguments(chosen) == ["--time=02:00:00", "--requeue", "--output=run_0/slurm_%a.out"]
    assert directives(chosen) == [f"#SBATCH {argument}" for argument in arguments(chosen)]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a b", '"a b"'),
        ('say "x"', '"say \\"x\\""'),
        ("a\\b", '"a\\\\b"'),
        ("a#b", '"a#b"'),
        ("it's", '"it\'s"'),
        ("50%", "50%"),
        ("", '""'),
    ],
)
def test_a_directive_quotes_what_sbatch_would_split(value: str, written: str) -> None:
    assert directives(Options((("comment", value),))) == [f"#SBATCH --comment={written}"]
