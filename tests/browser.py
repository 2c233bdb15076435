"""A real browser for the tests, headless: what a page measures, says and looks like in it.

A plugin that the conftest names in ``pytest_plugins``. ``python -m tests.browser install`` installs
one, as root on Debian. It is driven by its command line alone: a measuring script is put at the end
of a copy of the page, and what it found is read from the document that the browser prints.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.slurm_cluster import packages
from tests.slurm_fixtures import is_required, tests_that_did_not_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from _pytest.terminal import TerminalReporter

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: The font is what Chromium recommends and does not need: without any, text has no width.
PACKAGES = ("chromium", "fonts-dejavu-core")
NO_BROWSER = "There is no browser to test in"
_SECONDS = 90
#: The page's own policy forbids scripts, ours too.
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
_MEASURED = re.compile(r'<pre id="measured">(.*?)</pre>', re.DOTALL)

#: Runs in the page. Contrast is that of WCAG 2.1, section 1.4.3; large text may have less there,
#: which is not made use of here.
_MEASURE = """
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const part = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) =>
  0.2126 * part(r / 255) + 0.7152 * part(g / 255) + 0.0722 * part(b / 255);
const behind = element => {
  for (let each = element; each; each = each.parentElement) {
    const [r, g, b, alpha = 1] = numbers(getComputedStyle(each).backgroundColor);
    if (alpha > 0) return [r, g, b];
  }
  return [255, 255, 255];
};
for (const each of document.querySelectorAll("details")) each.open = true;
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let worst = {ratio: 21, text: ""}, count = 0;
while (texts.nextNode()) {
  const node = texts.currentNode, element = node.parentElement;
  if (!node.data.trim() || !element.getClientRects().length) continue;
  if (element.closest("script, style, title")) continue;
  const style = getComputedStyle(element);
  const colour = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
  const [one, other] = [light(numbers(colour)), light(behind(element))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  count += 1;
  if (ratio < worst.ratio) worst = {ratio, text: node.data.trim().slice(0, 80)};
}
const sizes = selector => [...document.querySelectorAll(selector)].map(each => {
  const box = each.getBoundingClientRect();
  return [each.getAttribute("class"), Math.round(box.width), Math.round(box.height)];
});
const outside = [...document.querySelectorAll("body *")].filter(each =>
  each.getBoundingClientRect().right > innerWidth + 1 && !each.closest(".wide, pre, svg"));
const crossing = [];
for (const picture of document.querySelectorAll("svg")) {
  const labels = [...picture.querySelectorAll("text")].map(
    each => [each.textContent, each.getBoundingClientRect()]);
  labels.forEach(([one, a], place) => labels.slice(place + 1).forEach(([other, b]) => {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    // Boxes are higher than letters.
    if (across > 1 && down > Math.min(a.height, b.height) / 2) crossing.push([one, other]);
  }));
}
const found = {
  crossing,
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  width: innerWidth,
  scroll: document.documentElement.scrollWidth,
  outside: outside.map(each => each.outerHTML.slice(0, 120)),
  worst, count,
  headings: [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(each => +each.tagName[1]),
  pictures: sizes("svg"),
  drawn: sizes("svg path[class^='s-']"),
  requests: performance.getEntriesByType("resource").map(each => each.name),
  scripts: document.scripts.length,
  text: document.body.innerText,
};
const place = document.createElement("pre");
place.id = "measured";
place.textContent = JSON.stringify(found);
parent.document.body.append(place);
"""
#: A window of Chromium has at least 500 pixels, a frame in it has as few as one likes.
_FRAME = """<!DOCTYPE html><html style="color-scheme: light dark"><body>
<iframe src="{page}" style="border: 0; width: {width}px; height: 900px"></iframe></body></html>
"""


def find() -> str | None:
    """Give the path of a browser, or None."""
    return next(filter(None, map(shutil.which, COMMANDS)), None)


@dataclass(frozen=True)
class Browser:
    """A browser, started anew for each question.

    Parameters
    ----------
    command
        Its path.
    folder
        For its profile and our copies.
    """

    command: str
    folder: Path

    def measure(self, page: Path, *, width: int, dark: bool = False) -> dict[str, Any]:
        """Give what `_MEASURE` finds in a page; its details are open then."""
        script = f"<script>{_MEASURE}</script></body>"
        copy = self.folder / "measured.html"
        copy.write_text(_POLICY.sub("", page.read_text()).replace("</body>", script))
        frame = self.folder / "frame.html"
        frame.write_text(_FRAME.format(page=copy.name, width=width))
        options = ["--dump-dom", "--allow-file-access-from-files"]
        said = self._run(frame, options, width + 100, dark=dark)
        found = _MEASURED.search(said.stdout)
        assert found, f"the browser measured nothing:\n{said.stderr[-2000:]}"
        measured: dict[str, Any] = json.loads(html.unescape(found[1]))
        return measured

    def complaints(self, page: Path) -> list[str]:
        """Give what a page has the browser say on its console; nothing, if all is well."""
        options = ["--dump-dom", "--enable-logging=stderr", "--log-level=0"]
        said = self._run(page, options, 1000, dark=False)
        return [line for line in said.stderr.splitlines() if "CONSOLE" in line]

    def picture(
        self, page: Path, target: Path, *, width: int, height: int, dark: bool = False
    ) -> Path:
        """Write a picture of the page's top."""
        self._run(page, [f"--screenshot={target}"], width, dark=dark, height=height)
        assert target.exists(), "the browser wrote no picture"
        return target

    def _run(
        self, page: Path, options: Sequence[str], width: int, *, dark: bool, height: int = 900
    ) -> subprocess.CompletedProcess[str]:
        # Chromium refuses its sandbox to root. 0 is dark (blink's mojom::PreferredColorScheme).
        root = ["--no-sandbox"] if os.getuid() == 0 else []
        return subprocess.run(
            [
                self.command, "--headless=new", *root, "--disable-gpu", "--hide-scrollbars",
                "--no-first-run", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
                "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                f"--user-data-dir={self.folder / 'profile'}", f"--window-size={width},{height}",
                *options, page.absolute().as_uri(),
            ],
            capture_output=True, text=True, timeout=_SECONDS, check=True,
        )  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """Give a browser; skips the test where there is none, or fails it as for a Slurm."""
    command = find()
    if command is None:
        _give_up()
    folder = tmp_path / ".browser"
    folder.mkdir()
    return Browser(command, folder)


def _give_up() -> NoReturn:
    message = f"{NO_BROWSER}. {advice()}"
    if is_required():
        raise pytest.fail.Exception(message, pytrace=False)
    raise pytest.skip.Exception(message)


# Outermost, so that it comes after pytest's own short summary.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter) -> Iterator[None]:
    """Say loudly, at the very end, that the tests in a browser did not run."""
    yield
    tests_that_did_not_run(terminalreporter, NO_BROWSER, "IN A BROWSER")


def advice() -> str:
    """Say how to install one."""
    return f"On Debian, as root: apt-get install --no-install-recommends {' '.join(PACKAGES)}"


def install() -> int:
    """Install a browser where there is none, as root; say what to run otherwise."""
    if find() is not None:
        return 0
    if os.getuid() != 0 or packages.which("apt-get") is None:
        print(f"\n*** {NO_BROWSER}. {advice()}\n", file=sys.stderr)
        return 1
    try:
        packages.apt_install(PACKAGES)
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit("usage: python -m tests.browser install")
    sys.exit(install())
