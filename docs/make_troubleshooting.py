"""Prints docs/troubleshooting.md, made of the sentences in the code."""

# ruff: noqa: E501 (lines of a table)

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "semseg_cli"
ERRORS = {"UsageError", "SemsegError", "StoreError", "FileError", "VersionError", "LostWorkerError"}
GAP = "…"
HEAD = """\
# Troubleshooting

Made by `python docs/make_troubleshooting.py`.

What goes wrong is said in one sentence on stderr: what was wrong, what was expected, what to try. Wrong
options exit with 2, known failures with 1; a traceback is a bug of ours: please report it with the output
of `semseg-cli env`.

| you see | it is | do |
|---|---|---|
| other change near target change, both large | the wrong `--vit-layer`, or statistics of other data | `semseg-cli doctor` with the options of the run |
| a class "has no latent", or few classes have one | large objects: latents fire on 1% of the patches or more | a larger `--max-freq` |
| `2/3 img` in place of an interval | too few images have the class | more `--images`, or leave the class out |
| no p, or "not matched in length" | the runs are not alike; the caption says in what | `rand-feat`, or `rand-vec --match norm`, on the same images |
| pooled target and other change are equal | the label protocol counts so | read the rows per class, or `--protocol class` |
| another result after a change of `--dtype` | half precision flips near ties | `flip_rate` below the table says how many; float32 |
| a run that goes on and on | every class edits every image | `--dry-run` says how long; `--images`, `--other-images`, `--class` |
| KILLED, FAILED or RUNNING in `compare --unfinished` | the run did not end by itself | `run.json` says why; `--resume FOLDER`, or `semseg-cli upload FOLDER` |

## Every sentence
`…` stands for what the sentence is about.
"""
SUBJECTS = {
    "settings": "Options and settings files",
    "commands": "Commands",
    "api": "From Python",
    "data": "Images and masks",
    "models": "Transformer, SAE, head, statistics",
    "experiment": "Parts that do not fit each other",
    "engine": "Nothing to measure",
    "runs": "Run folders and lookups",
    "tracking": "Tracking stores",
    "ranks": "Several processes",
}
REST = "The rest"


def page() -> str:
    """The text of docs/troubleshooting.md."""
    found: dict[str, set[str]] = {title: set() for title in (*SUBJECTS.values(), REST)}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        found[SUBJECTS.get(room, REST)] |= set(sentences(path.read_text("utf-8")))
    lines = [HEAD]
    for title, said in found.items():
        lines += [f"### {title}", "", *(f"- {one}" for one in sorted(said)), ""]
    return "\n".join(lines)


def sentences(source: str) -> Iterator[str]:
    """What the errors of a module say, where it is said there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args and name_of(node.func) in ERRORS:
            text = " ".join(text_of(node.args[0]).split())
            if len(text.replace(GAP, "").split()) > 3:
                yield text.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")


def name_of(function: ast.expr) -> str:
    return str(getattr(function, "id", getattr(function, "attr", "")))


def text_of(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    if isinstance(value, ast.JoinedStr):
        return "".join(text_of(part) for part in value.values)
    if isinstance(value, ast.BinOp):
        return text_of(value.left) + text_of(value.right)
    return GAP


if __name__ == "__main__":
    print(page(), end="")
