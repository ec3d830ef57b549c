"""The documentation as a site: `sphinx-build -W -c docs . SITE`, then open SITE/index.html.

Its root is the repository and its first page the README, so that links from page to page are the
same here and there.
"""

from importlib import metadata

from sphinx.application import Sphinx

project = "semseg-cli"
author = "The semseg-cli developers"
release = metadata.version("semseg-cli")
extensions = ["myst_parser"]
myst_heading_anchors = 3
root_doc = "README"
html_theme = "furo"
html_title = "semseg-cli"
html_extra_path = ["index.html"]  # leads to README.html

PARTS = {  # title: pages
    "Begin": "docs/tutorial docs/concepts docs/cli docs/python docs/troubleshooting",
    "Bring your parts": "docs/families docs/formats docs/datasets docs/train docs/doctor",
    "Doubt a number": "docs/controls docs/compare docs/choosing docs/suite docs/evidence "
    "docs/metrics",
    "Keep and share": "docs/results docs/tracking",
    "Go faster": "docs/performance docs/scaling benchmarks/NOTES",
    "Change it": "CONTRIBUTING CHANGELOG semseg_cli/demo/MODEL_CARD",
}
include_patterns = [
    "README.md",
    *(f"{page}.md" for part in PARTS.values() for page in part.split()),
]


def add_contents(_: Sphinx, page: str, text: list[str]) -> None:
    """The list of pages, which the README itself has as a table of links."""
    if page == root_doc:
        for part, pages in PARTS.items():
            tree = "\n".join(pages.split())
            text[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n{tree}\n```\n"


def setup(app: Sphinx) -> None:
    """Called by sphinx."""
    app.connect("source-read", add_contents)
