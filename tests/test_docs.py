"""What the documentation shows is what happens: its examples run, its tables are complete.

Each page is run as a notebook would be: its ``python`` blocks one after another in one namespace,
the value of a last expression printed, an exception shown by its last line. Where a ``text`` block
follows directly, it is what must have been printed; ids, paths and times may differ, numbers with
a fraction by a little, ``...`` stands for anything. Two comments change this, directly above a
block: ``<!-- not run: reason -->`` and, above an output, ``<!-- varies: reason -->``.

``SLURMAPPLY_WRITE_DOCS=1`` writes what was printed into the pages where it differs.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import linecache
import math
import os
import pkgutil
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import slurmapply
from slurmapply import SlurmJob, current_row, jobfolder, settings, slurm_apply, slurm_map
from slurmapply.schedulers.options import run_options

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
)
#: Pages that show a Slurm at work; all others run on this machine.
ON_SLURM = {"README.md", "docs/tutorial.md", "docs/how-to/check-a-cluster.md"}
WRITE = "SLURMAPPLY_WRITE_DOCS"

_FENCE = re.compile(r"```([\w{}-]*)\s*$")
_COMMENT = re.compile(r"<!-- (not run|varies): .+ -->")
#: What differs from one run to the next, in the words of our messages.
_DIFFERS = (
    (re.compile(r"\bprocess \d+"), "process N"),
    (re.compile(r"\b(Slurm|local) job [\w-]+"), r"\1 job N"),
    (re.compile(r"\d+ at a time, on this machine"), "N at a time, on this machine"),
    (re.compile(r"about [\d.]+ (s|min|h) left"), "about N left"),
    (re.compile(r"\b[0-9a-f]{32}\b|\blocal-[0-9a-f]{8}\b"), "N"),
)
_TOLERANCE = 0.05


# -- pages ---------------------------------------------------------------------------------------


@dataclass
class Block:
    """A fenced block of a page: its place, and the comment above it."""

    language: str
    first: int
    lines: list[str]
    comment: str

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def read_blocks(page: str) -> Iterator[Block]:
    """Give the fenced blocks of a page, and its lines of text as blocks without a language."""
    comment, block = "", None
    for number, line in enumerate(page.splitlines()):
        fence = _FENCE.match(line)
        if block is not None:
            if line.strip() == "```":
                yield block
                block = None
            else:
                block.lines.append(line)
        elif fence:
            block = Block(fence[1], number + 1, [], comment)
            comment = ""
        elif line.strip():
            found = _COMMENT.match(line)
            comment = found[1] if found else ""
            if not found:
                yield Block("", number, [line], "")


def examples(page: str) -> Iterator[tuple[Block, Block | None]]:
    """Give each block of Python with its output, if one directly follows."""
    blocks = list(read_blocks(page))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language == "python" and block.comment != "not run":
            shown = following is not None and following.language == "text"
            yield block, following if shown else None


class Notebook:
    """Runs blocks one after another, as a person would type them."""

    def __init__(self, folder: Path) -> None:
        self._script = folder / "analysis.py"
        self._source = ""
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, code: str) -> str:
        """Run a block and give what it printed."""
        before = self._source.count("\n")
        self._source += code + "\n"
        # A real file, so that tracebacks show the lines.
        self._script.write_text(self._source)
        linecache.checkcache(str(self._script))
        tree = ast.parse("\n" * before + code)
        last = tree.body[-1] if isinstance(tree.body[-1], ast.Expr) else None
        if last is not None:
            tree.body.pop()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(tree, self._script, "exec"), self._names)  # noqa: S102
                if last is not None:
                    shown = eval(  # noqa: S307
                        compile(ast.Expression(last.value), self._script, "eval"), self._names
                    )
                    if shown is not None:
                        print(repr(shown))
            except Exception as error:  # noqa: BLE001  # pages show errors, too
                print(f"{type(error).__name__}: {error}")
        return printed.getvalue().rstrip("\n")


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """Give a notebook in ``~/project`` of a home of its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(folder)
    settings.session.cache_clear()
    yield Notebook(folder)
    settings.session.cache_clear()


@pytest.mark.parametrize(
    "name",
    [pytest.param(page, marks=[pytest.mark.slurm] * (page in ON_SLURM)) for page in PAGES],
)
def test_examples_print_what_the_page_shows(name: str, notebook: Notebook, tmp_path: Path) -> None:
    if name not in ON_SLURM:
        Path("slurmapply.toml").write_text('backend = "local"\n')
    page = (ROOT / name).read_text()
    wrong: list[str] = []
    written = page.splitlines()
    for block, output in reversed([*run_examples(page, notebook, tmp_path, wrong)]):
        written[block.first : block.first + len(block.lines)] = output.splitlines()
    if wrong and os.environ.get(WRITE):
        (ROOT / name).write_text("\n".join(written) + "\n")
    assert not wrong, "\n\n".join(wrong)


def run_examples(
    page: str, notebook: Notebook, home: Path, wrong: list[str]
) -> Iterator[tuple[Block, str]]:
    """Run a page's examples; gives the outputs that differ, and says in `wrong` how."""
    for block, output in examples(page):
        printed = notebook.run(block.text).replace(str(home), "~")
        if output is None:
            # What is not shown may be a message, but no error.
            if re.match(r"\w*(Error|Exception|Warning): ", printed.rpartition("\n")[2]):
                wrong.append(f"line {block.first + 1}:\n{block.text}\nraises\n{printed}")
        elif not (is_alike if output.comment == "varies" else is_same)(output.text, printed):
            wrong.append(
                f"line {output.first + 1}:\n{block.text}\nis shown as\n{output.text}\n"
                f"and prints\n{printed}"
            )
            yield output, printed


def is_alike(shown: str, printed: str) -> bool:
    """Compare what is different each time: by the first word alone."""
    return shown.split()[:1] == printed.split()[:1]


def is_same(shown: str, printed: str) -> bool:
    """Compare word by word; lines may be wrapped differently."""
    pieces = [piece.split() for piece in re.split(r"(?<!\S)\.\.\.(?!\S)", _settled(shown))]
    words = _settled(printed).split()
    if len(pieces) == 1:
        return _are_words(pieces[0], words)
    first, *middle, last = pieces
    if len(words) < len(first) + len(last) or not _are_words(first, words[: len(first)]):
        return False
    if not _are_words(last, words[len(words) - len(last) :]):
        return False
    words = words[len(first) : len(words) - len(last)]
    for piece in middle:
        places = range(len(words) - len(piece) + 1)
        found = next((p for p in places if _are_words(piece, words[p : p + len(piece)])), None)
        if found is None:
            return False
        words = words[found + len(piece) :]
    return True


def _settled(text: str) -> str:
    for pattern, word in _DIFFERS:
        text = pattern.sub(word, text)
    return text


def _are_words(shown: list[str], printed: list[str]) -> bool:
    return len(shown) == len(printed) and all(map(_is_word, shown, printed))


def _is_word(shown: str, printed: str) -> bool:
    if shown == printed:
        return True
    if "..." in shown:
        return re.fullmatch(re.escape(shown).replace(r"\.\.\.", ".*"), printed) is not None
    fractions = [re.fullmatch(r"(\D*?)(-?\d+\.\d+)(\D*)", word) for word in (shown, printed)]
    if None in fractions:
        return False
    (a, x, b), (c, y, d) = (match.groups() for match in fractions if match)
    return (a, b) == (c, d) and math.isclose(float(x), float(y), rel_tol=_TOLERANCE)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a b", "a  b\n", True),
        ("a b", "a c", False),
        ("a ... d", "a b c d", True),
        ("a ... d", "a b c", False),
        ("a ... c ... e", "a b c d e", True),
        ("a ... x ... e", "a b c d e", False),
        ("rmse 56.96", "rmse 56.95", True),
        ("rmse 56.96", "rmse 66.96", False),
        ("9 rows", "8 rows", False),
        ("(process 12; x)", "(process 345; x)", True),
        ("path/to_...", "path/to_0a1b", True),
    ],
)
def test_outputs_are_compared_word_by_word(shown: str, printed: str, *, same: bool) -> None:
    assert is_same(shown, printed) is same


def test_the_readme_shows_a_run_and_its_table_within_thirty_lines() -> None:
    blocks = [block for block in read_blocks((ROOT / "README.md").read_text()) if block.language]
    code = next(place for place, block in enumerate(blocks) if block.language == "python")
    output = blocks[code + 1]
    assert output.language == "text"
    assert "slurm_apply(" in blocks[code].text
    assert output.first + len(output.lines) <= 30


@pytest.mark.parametrize("name", [*PAGES, "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


# -- the site ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    recipe = (ROOT / "Makefile").read_text().partition("\ndocs: ")[2].splitlines()[1]
    argv = recipe.strip().replace("$(BIN)/python", sys.executable).split()
    argv[argv.index("build/doctrees")], argv[argv.index("build/docs")] = (
        str(folder / "doctrees"), str(folder / "html"),
    )  # fmt: skip
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder / "html"


def test_the_site_has_a_page_for_each_of_ours(site: Path) -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {page.relative_to(ROOT).with_suffix(".html").as_posix() for page in pages} <= built
    assert "url=docs/index.html" in (site / "index.html").read_text()


def test_every_public_name_has_its_place_on_the_site(site: Path) -> None:
    page = (site / "docs/api.html").read_text()
    missing = [name for name in slurmapply.__all__ if f'id="slurmapply.{name}"' not in page]
    assert missing == []


def test_the_pictures_are_those_that_the_script_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = runpy.run_path(str(ROOT / "tools/draw_docs.py"))
    monkeypatch.setitem(names["main"].__globals__, "IMAGES", tmp_path)
    names["main"]()
    drawn = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.svg")}
    assert drawn
    assert drawn == {path: (ROOT / "docs/images" / path).read_text() for path in drawn}


def test_messages_that_a_page_quotes_are_ours() -> None:
    """What no example on a page can show is quoted there, in the words of the code."""
    page = (ROOT / "docs/how-to/when-something-goes-wrong.md").read_text()
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    for words in (
        "waits its turn behind jobs of higher priority: nothing to do.",
        "Slurm could not start the script or write its console: is the job folder on a disk",
        "was left when its task reached its",
        "was left when outcomes could not be written: ",
        "make room on that disk, then job.retry()",
        ", also when it was tried alone",
        "Tried: ",
    ):
        assert words in page
        assert words in source


# -- docstrings ----------------------------------------------------------------------------------


def modules() -> Iterator[str]:
    """Give the names of all modules of the package."""
    yield "slurmapply"
    for module in pkgutil.walk_packages(slurmapply.__path__, "slurmapply."):
        yield module.name


@pytest.mark.parametrize("name", [*modules()])
def test_docstring_examples_of(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failures, _ = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert failures == 0


# -- tables --------------------------------------------------------------------------------------


def table_column(page: str, heading: str) -> list[str]:
    """Give the first column of the table under a heading, the names in backticks."""
    section = (ROOT / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def spelled_names() -> set[str]:
    """Give the names of the job folder's files, made by the code that makes them."""
    constants = {
        value
        for name, value in vars(jobfolder).items()
        if name.isupper() and not name.startswith("_")
        if isinstance(value, str) and name not in {"PREFIX", "RUN", "CLAIMS"}
    }
    arguments = {"run": 7, "chunk": 11, "generation": 13, "attempt": 17}
    made: list[str] = []
    for _, function in inspect.getmembers(jobfolder, inspect.isfunction):
        wanted = inspect.signature(function).parameters
        if "run" in wanted and set(wanted) <= set(arguments):
            found = function(**{name: arguments[name] for name in wanted})
            made += [found] if isinstance(found, str) else found
    life = jobfolder.Life("SUBMISSION", 3, 5)
    outcomes = life.outcomes(7, "WORKER")
    made += [life.token(7), life.record(7), life.mark(7), outcomes]
    made += [jobfolder.console_of(outcomes), jobfolder.beside_outcomes(outcomes)]
    made.append(jobfolder.next_outcomes(outcomes, 17))
    options = run_options(slurm_name="x", tasks=1, console="run_7/slurm_%a.out", cpus_per_node=1)
    made.append(str(options.as_dict()["output"]).replace("%a", "<task>"))
    made.append(jobfolder.run_script(0))
    folders = {jobfolder.run_folder(7), jobfolder.claims(7), jobfolder.stopping(7)}
    return constants | {_as_pattern(name) for name in made if name not in folders}


def _as_pattern(name: str) -> str:
    name = re.sub(r"(?<=_WORKER_)[0-9a-f]{8}|(?<=_3_5_)[0-9a-f]{8}$", "<random>", name)
    name = re.sub("_3_5(?=_|[.]|$)", "_<task>_<life>", name)
    name = name.replace("11.13", "<chunk>.<generation>").replace("run_7", "run_<k>")
    name = name.replace(".17", ".<n>")
    return name.replace("SUBMISSION", "<submission>").replace("WORKER", "<worker>")


def test_the_table_of_files_is_complete() -> None:
    documented = table_column("docs/job-folder.md", "Every file")
    assert sorted(documented) == sorted({*spelled_names(), "rows_/<n>/"})


def test_every_file_of_a_job_is_in_the_table() -> None:
    def halve(x: int) -> float:
        print("halving", x)
        current_row().folder.joinpath("half.txt").write_text("half")
        return 1 / x

    job = slurm_map(halve, [0, 1], job_name="files", backend="local").wait()
    job.retry().wait()
    job.retry(f=abs).wait()
    patterns = [
        re.sub(r"<\w+>", "[^/]+", re.escape(name).replace(r"\<", "<").replace(r"\>", ">"))
        for name in table_column("docs/job-folder.md", "Every file")
    ]
    files = [p.relative_to(job.folder).as_posix() for p in job.folder.rglob("*") if p.is_file()]
    unknown = [f for f in files if not any(re.match(f"{p}$|rows_/", f) for p in patterns)]
    assert not unknown


def test_every_public_name_is_documented() -> None:
    docs = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    assert not [name for name in slurmapply.__all__ if not re.search(rf"`{name}\b", docs)]


def test_every_keyword_is_in_the_reference() -> None:
    documented = table_column("docs/reference.md", "Keywords of a call")
    keywords = [
        name
        for name, parameter in inspect.signature(slurm_apply).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert sorted(documented) == sorted(keywords)


def test_every_method_of_a_job_is_in_the_reference() -> None:
    documented = table_column("docs/reference.md", "A job")
    members = [name for name in vars(SlurmJob) if not name.startswith("_")]
    assert sorted(re.sub(r"^\w+\.|\(.*", "", name) for name in documented) == sorted(members)


def test_every_feature_of_rslurm_is_in_the_table() -> None:
    page = (ROOT / "docs/coming-from-rslurm.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*\| (\S+) \|$", page, re.MULTILINE)
    assert rows == [(str(n), f"`test_row_{n:02}`") for n in range(1, 54)]
    tests = (ROOT / "tests" / "test_rslurm_parity.py").read_text()
    assert not [test for _, test in rows if f"def {test.strip('`')}_" not in tests]


# -- layers --------------------------------------------------------------------------------------


def read_layers() -> dict[str, tuple[set[str], set[str]]]:
    """Give the layers of ARCHITECTURE.md: which others each may import, and its modules."""
    blocks = read_blocks((ROOT / "ARCHITECTURE.md").read_text())
    table = next(block for block in blocks if block.text.startswith("layer "))
    rows = [re.split(r"\s{2,}", line) for line in table.lines[1:]]
    return {
        name: (set(others.split()) - {"-"} | {name}, set(modules.split()))
        for name, others, modules in rows
    }


def imported_modules(path: Path) -> Iterator[str]:
    """Give this package's modules that are imported when a module runs."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slurmapply"):
            inside = (node.module or "").split(".")[1:]
            yield from inside[:1] or (alias.name for alias in node.names)


def test_every_module_has_its_layer() -> None:
    listed = [module for _, modules in read_layers().values() for module in modules]
    assert sorted(listed) == sorted(
        module.name for module in pkgutil.iter_modules(slurmapply.__path__)
    )


def test_imports_keep_to_the_layers() -> None:
    layers = read_layers()
    home = {module: layer for layer, (_, modules) in layers.items() for module in modules}
    package = ROOT / "src" / "slurmapply"
    wrong = []
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).parts[0].removesuffix(".py")
        if module != "__init__":
            allowed = layers[home[module]][0]
            used = imported_modules(path)
            wrong += [f"{path.name}: {name}" for name in used if home[name] not in allowed]
    assert not wrong


def test_what_can_fail_is_shown_by_tests() -> None:
    page = (ROOT / "docs/what-can-fail.md").read_text()
    named = re.findall(r"(?m)\| ([A-Z]_\d\d(?:, [A-Z]_\d\d)*) \|$", page)
    shown = {code for row in named for code in row.split(", ")}
    tests = "\n".join(path.read_text() for path in (ROOT / "tests/faults").glob("test_*.py"))
    assert shown
    assert sorted(shown - set(re.findall(r"def test_([A-Z]_\d\d)_", tests))) == []
