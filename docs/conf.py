"""How the site is made: `make docs`. The pages are plain Markdown, and read well without it.

The folder of the sources is the repository's, so that links between pages and the files beside
``docs/`` are the same here and on a forge.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer

from slurmapply.version import VERSION

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "slurmapply"
author = "The slurmapply developers"
copyright = author  # noqa: A001  # the name that Sphinx reads
release = version = VERSION

root_doc = "docs/index"
include_patterns = ["docs/**", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
include_patterns += ["README.md"]
exclude_patterns = ["docs/site/**"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# GitHub's slugs; links into a page are checked like all others.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# Docstrings say the types in words, for people; a signature with all of them would hide the names.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "code"
# Types are words for people, as "dict of str to int"; what links is the names of ours.
nitpick_ignore_regex = [("py:class", r"(?!slurmapply\.).*")]

html_theme = "furo"
html_title = "slurmapply"
html_extra_path = ["site"]
html_copy_source = False
html_show_sourcelink = False


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Make the first page's lists of links the contents of the site, under their headings."""
    if name != app.config.root_doc:
        return
    for section in source[0].split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        pages = re.findall(r"(?m)^- \[[^]]*\]\(([^)#:]+)\.md\)", text)
        entries = "\n".join(f"/docs/{page}" for page in pages)
        entries = re.sub(r"(?m)^/docs/\.\./", "/", entries)
        source[0] += f"\n\n:::{{toctree}}\n:hidden:\n:caption: {heading}\n\n{entries}\n:::\n"


def setup(app: Sphinx) -> None:
    """Tell Sphinx of the above."""
    app.connect("source-read", add_contents)
    app.add_lexer("csv", TextLexer)  # it has no colours of its own
