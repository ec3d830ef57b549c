"""Text as Markdown and LaTeX show it, with no sign of it a command."""

import re


def markdown_text(text: str) -> str:
    """The text in Markdown."""
    return re.sub(r"([\\|`*_\[\]<])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def latex_text(text: str) -> str:
    """The text in LaTeX, a lone number in mathematics."""
    escaped = "".join(_LATEX.get(sign, sign) for sign in text)
    if re.fullmatch(r"[-+]\d+(\.\d+)?", text):
        return f"${text}$"
    return re.sub(r"(?<=[\[{,}])-(?=[.\d])", "$-$", escaped)
