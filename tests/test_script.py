from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply.errors import InvalidArgumentError
from slurmapply.schedulers.options import Options, run_options
from slurmapply.schedulers.script import (
    check_syntax,
    default_template,
    render,
    script_fields,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
HOSTILE = 'it\'s "x" $(touch pwned) `touch pwned` \\ {{command}} %s é; exit 3 #'
THREADS = "OMP_NUM_THREADS"
FAKE_PYTHON = """#!/bin/bash
if [ "$1" = -S ]; then exit {status}; fi
printf 'here: %s\\n' "$PWD"
printf 'argument: %s\\n' "$@"
env
"""


def fake_python(path: Path, *, status: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE_PYTHON.format(status=status))
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a job folder with a name that needs quoting."""
    job = tmp_path / "it's a $job"
    job.mkdir()
    (job / "job.json").write_text("{}")
    fake_python(job / "bin" / "the python")
    return job


def script(
    folder: Path, setup: Sequence[str] | str = (), template: str | None = None, **changed: Any
) -> str:
    fields: dict[str, Any] = {
        "options": run_options(
            slurm_name="a_01", tasks=2, console="run_0/slurm_%a.out", cpus_per_node=4
        ),
        "script": "submit.sh",
        "setup": setup,
        "cpus_per_node": 4,
        "processes_per_node": 2,
        "python": str(folder / "bin" / "the python"),
        "version": sys.version_info[:2],
        "command": ["worker.pyz", "--tag", HOSTILE],
    }
    return render(template or default_template(), script_fields(**(fields | changed)))


def environment(**changed: str) -> dict[str, str]:
    plain = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return plain | changed


def execute(text: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = folder / "submit.sh"
    path.write_text(text)
    return subprocess.run(
        ["bash", path.name],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def test_it_ends_as_the_python_with_the_arguments(folder: Path) -> None:
    done = execute(script(folder), folder)
    assert done.returncode == 0, done.stderr
    assert f"here: {folder}\n" in done.stdout
    assert f"argument: worker.pyz\nargument: --tag\nargument: {HOSTILE}\n" in done.stdout


def test_the_python_takes_the_place_of_the_shell(folder: Path) -> None:
    (folder / "bin" / "the python").write_text("#!/bin/bash\n[ $1 = -S ] || echo pid $$\n")
    (folder / "submit.sh").write_text(script(folder))
    process = subprocess.Popen(["bash", "submit.sh"], cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.communicate(timeout=20)[0] == f"pid {process.pid}\n"


def test_it_is_small_and_of_constant_size(folder: Path) -> None:
    small = script(folder, setup=["module load x", "conda activate y"])
    assert len(small.encode()) < 4096
    assert len(
        script(
            folder,
            options=run_options(
                slurm_name="a_01", tasks=9, console="run_0/slurm_%a.out", cpus_per_node=4
            ),
        )
    ) == len(script(folder))


def test_the_directives_come_before_any_command(folder: Path) -> None:
    lines = script(folder).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert lines[1] == "#SBATCH --job-name=a_01"
    commands = [number for number, line in enumerate(lines) if line and line[0] != "#"]
    directive = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert max(directive) < min(commands)


def test_it_needs_the_job_folder(folder: Path, tmp_path: Path) -> None:
    done = execute(script(folder), tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"slurmapply: no job.json in {tmp_path}: ")
    assert len(done.stderr.splitlines()) == 1


def test_setup_lines_run_in_order_in_one_shell(folder: Path) -> None:
    done = execute(script(folder, ["export A=1", "B=$A\nexport B=${B}2"]), folder)
    assert "\nB=12\n" in done.stdout


def test_one_setup_line_may_be_a_plain_string(folder: Path) -> None:
    assert "\nA=1\n" in execute(script(folder, "export A=1"), folder).stdout


@pytest.mark.parametrize("line", ["(exit 7)", "true\n(exit 7)", "(exit 7)\r\n", "(exit 7) \\"])
def test_a_setup_line_that_fails_ends_it(folder: Path, line: str) -> None:
    done = execute(script(folder, ["true", line, "export A=1"]), folder)
    assert done.returncode == 1
    assert done.stderr.startswith("slurmapply: setup line failed with status 7: ")
    assert "(exit 7)" in done.stderr
    assert done.stdout == ""


def test_the_line_that_failed_is_quoted_and_not_run_again(folder: Path) -> None:
    line = "echo ran >> log; false \"$(touch pwned)\" 'it''s' `true`"
    done = execute(script(folder, [line]), folder)
    assert line in done.stderr
    assert (folder / "log").read_text() == "ran\n"


@pytest.mark.parametrize(("line", "status"), [("exit 0", 0), ("set -e; false", 1), ("exit 5", 5)])
def test_a_setup_line_that_leaves_is_no_success(folder: Path, line: str, status: int) -> None:
    done = execute(script(folder, [line]), folder)
    assert done.returncode == 1
    assert f"a setup line ended the script (status {status})" in done.stderr


@pytest.mark.parametrize("line", ["set -eu -o pipefail", "set -f; IFS=,", "set -o noclobber"])
def test_strict_shells_in_setup_do_no_harm(folder: Path, line: str) -> None:
    done = execute(script(folder, [line]), folder)
    assert done.returncode == 0, done.stderr
    assert "argument: worker.pyz\n" in done.stdout


def test_a_setup_line_may_go_elsewhere(folder: Path) -> None:
    assert f"here: {folder}\n" in execute(script(folder, ["cd /"]), folder).stdout


def test_a_setup_line_is_not_a_template(folder: Path) -> None:
    done = execute(script(folder, ["export A='{{command}} {{python}}'"]), folder)
    assert "\nA={{command}} {{python}}\n" in done.stdout


@pytest.mark.parametrize("value", ["x\0y", 3])
def test_setup_is_text(folder: Path, value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        script(folder, [value])
    assert caught.value.argument == "setup"


@pytest.mark.parametrize("name", ["module", "ml"])
def test_module_is_made_available(folder: Path, tmp_path: Path, name: str) -> None:
    init = tmp_path / "lmod" / "init" / "bash"
    init.parent.mkdir(parents=True)
    init.write_text(f'{name}() {{ export LOADED="$*"; }}\n')
    done = execute(script(folder, [f"{name} load R"]), folder, LMOD_PKG=str(tmp_path / "lmod"))
    assert "load R\n" in done.stdout.partition("\nLOADED=")[2], done.stderr


def test_a_module_function_that_is_there_is_kept(folder: Path, tmp_path: Path) -> None:
    init = tmp_path / "init" / "bash"
    init.parent.mkdir()
    init.write_text("export SOURCED=1\n")
    done = execute(
        script(folder, ["module load R"]),
        folder,
        MODULESHOME=str(tmp_path),
        **{"BASH_FUNC_module%%": "() { export LOADED=exported; }"},
    )
    assert "\nLOADED=exported\n" in done.stdout, done.stderr
    assert "SOURCED" not in done.stdout


@pytest.mark.parametrize("line", ["source env/bin/activate", "echo html", "./module x"])
def test_nothing_is_sourced_without_need(folder: Path, line: str) -> None:
    assert "profile.d" not in script(folder, [line])
    assert "conda" not in script(folder, [line])


def test_conda_activate_is_made_available(folder: Path, tmp_path: Path) -> None:
    conda = tmp_path / "conda"
    conda.write_text("#!/bin/bash\necho 'conda() { export CONDA=\"$*\"; }'\n")
    conda.chmod(0o755)
    done = execute(script(folder, ["conda activate me"]), folder, CONDA_EXE=str(conda))
    assert "\nCONDA=activate me\n" in done.stdout, done.stderr


def test_threads_are_shared_out_unless_the_user_said_so(folder: Path) -> None:
    text = script(folder, cpus_per_node=9, processes_per_node=2)
    plain = execute(text, folder).stdout
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON"):
        assert f"\n{name}_NUM_THREADS=4\n" in plain
    assert "\nPOLARS_MAX_THREADS=4\n" in plain
    assert "\nLOKY_MAX_CPU_COUNT=4\n" in plain
    assert f"\n{THREADS}=7\n" in execute(text, folder, OMP_NUM_THREADS="7").stdout
    more = script(folder, cpus_per_node=2, processes_per_node=8)
    assert f"\n{THREADS}=1\n" in execute(more, folder).stdout


def test_the_users_python_comes_first(folder: Path) -> None:
    other = fake_python(folder / "other" / "python")
    other.write_text(other.read_text().replace("here:", "other:"))
    done = execute(script(folder), folder, SLURMAPPLY_PYTHON=str(other))
    assert done.stdout.startswith("other: ")


def test_a_python_of_another_version_is_passed_over(folder: Path) -> None:
    fake_python(folder / "bin" / "the python", status=1)
    fake_python(folder / "path" / f"python{VERSION}")
    done = execute(script(folder), folder, PATH=f"{folder / 'path'}:{os.environ['PATH']}")
    assert "argument: worker.pyz\n" in done.stdout, done.stderr


def test_a_python_that_vanishes_is_not_blamed_on_setup(folder: Path) -> None:
    (folder / "bin" / "the python").write_text('#!/bin/bash\nrm "$0"\n')
    done = execute(script(folder), folder)
    assert done.returncode == 127
    assert "the python" in done.stderr
    assert "setup" not in done.stderr


def test_a_real_python_is_asked_for_its_version(folder: Path) -> None:
    (folder / "worker.pyz").write_text("import sys; print(sys.version_info[:2])")
    command = ["worker.pyz"]
    right = script(folder, python=sys.executable, command=command)
    assert execute(right, folder).stdout == f"{tuple(sys.version_info[:2])}\n"
    wrong = script(folder, python=sys.executable, command=command, version=(3, 99))
    done = execute(wrong, folder, SLURMAPPLY_PYTHON="/nowhere/python")
    assert done.returncode == 1
    assert done.stdout == ""
    for tried in ("no Python 3.99", "/nowhere/python", sys.executable, "python3.99, python3."):
        assert tried in done.stderr


@pytest.mark.parametrize(
    ("sent", "remembered"),
    [
        ([signal.SIGUSR1], "USR1"),
        ([signal.SIGTERM], "TERM"),
        ([signal.SIGUSR1, signal.SIGTERM], "TERM"),
        ([signal.SIGTERM, signal.SIGUSR1], "TERM"),
    ],
)
def test_a_stop_during_setup_is_remembered(
    folder: Path, sent: list[signal.Signals], remembered: str
) -> None:
    line = "touch started; while [ ! -e goes_on ]; do sleep 0.01; done"
    (folder / "submit.sh").write_text(script(folder, [line]))
    process = subprocess.Popen(
        ["bash", "submit.sh"], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    )
    wait_for(folder / "started")
    for number in sent:
        process.send_signal(number)
        time.sleep(0.1)  # two signals at once may arrive in any order
    (folder / "goes_on").touch()
    assert f"\nSLURMAPPLY_STOP={remembered}\n" in process.communicate(timeout=20)[0]


def test_no_stop_is_inherited(folder: Path) -> None:
    assert "STOP" not in execute(script(folder), folder, SLURMAPPLY_STOP="TERM").stdout


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_python_path_is_quoted(folder: Path) -> None:
    path = fake_python(folder / f"{HOSTILE} python".replace("/", ""))
    done = execute(script(folder, python=str(path)), folder)
    assert "argument: worker.pyz\n" in done.stdout, done.stderr
    assert not (folder / "pwned").exists()


def test_hostile_options_stay_comments(folder: Path) -> None:
    options = Options((("comment", HOSTILE),))
    done = execute(script(folder, options=options), folder)
    assert "argument: worker.pyz\n" in done.stdout, done.stderr
    assert not (folder / "pwned").exists()


def test_a_template_of_ones_own(folder: Path) -> None:
    template = '#!/bin/bash\n{{directives}}\necho "${X:-{{ threads }}}"\nexec echo {{command}}\n'
    done = execute(script(folder, template=template), folder)
    assert done.stdout == f"2\nworker.pyz --tag {HOSTILE}\n"


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"\{\{comand\}\}.*Known are \{\{command\}\}"):
        render("{{comand}}", {"command": "x"})


def test_a_template_without_the_command_runs_nothing() -> None:
    with pytest.raises(InvalidArgumentError, match=r"lacks \{\{command\}\}") as caught:
        render("true", {"command": "x"})
    assert caught.value.argument == "template"


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert render("{{a}} {{command}}", {"a": "{{command}}", "command": "{{a}}"}) == (
        "{{command}} {{a}}"
    )


@pytest.mark.parametrize("line", ["if true", "echo 'x", "cat <<END", "fi", "f() {"])
def test_bash_is_asked_whether_it_understands(folder: Path, line: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"bash says: .*bash") as caught:
        check_syntax(script(folder, [line]))
    assert caught.value.argument == "setup"


def test_bash_understands_the_default(folder: Path) -> None:
    check_syntax(script(folder, ["module load x", "conda activate y", "cat <<E\nx\nE"]))
