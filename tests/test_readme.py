"""The README says what the program says.

``python tests/test_readme.py`` writes the parts of it that are generated: help, errors and tree.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from error_table import markdown

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
COMMANDS = ("train", "generate", "evaluate", "score", "info", "plot", "report", "completion")


def help_of(command: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "chargen", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "80", "PATH": "/usr/bin:/bin"},
    )
    return f"```text\n{found.stdout.rstrip()}\n```"


def first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(re.split(r"(?<=\.)\s|\n\n", docstring, maxsplit=1)[0].split()).rstrip(".")


def tree() -> str:
    """The modules, a line each: the first sentence of its docstring."""
    lines = []
    for folder in (REPOSITORY / "chargen", *sorted((REPOSITORY / "chargen").glob("*/"))):
        files = sorted(folder.glob("*.py"))
        if files:
            lines.append(f"{folder.relative_to(REPOSITORY)}/")
            lines += [f"  {path.name:<15} {first_sentence(path)}" for path in files]
    return "```text\n" + "\n".join(lines) + "\n```"


def generated() -> dict[str, str]:
    helps = {f"help: {command}": help_of(command) for command in COMMANDS}
    return {"tree": tree(), "errors": markdown(), **helps}


def with_parts(readme: str, parts: dict[str, str]) -> str:
    for name, text in parts.items():
        pattern = rf"(<!-- {name} -->\n)(?:```text\n.*?\n```\n|<details>\n.*?\n</details>\n)?"
        readme, count = re.subn(pattern, lambda match: match[1] + text + "\n", readme, flags=re.S)  # noqa: B023
        assert count == 1, f"the README has no place for {name!r}"
    return readme


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_holds_the_help_of(command: str) -> None:
    assert help_of(command) in README.read_text()


def test_the_readme_holds_the_tree() -> None:
    assert tree() in README.read_text()


def test_the_readme_holds_the_table_of_errors() -> None:
    assert markdown() in README.read_text()


def test_the_readme_names_every_status() -> None:
    from chargen import errors

    statuses = {getattr(errors, name).status for name in errors.__all__}
    rows = set(re.findall(r"^\| (\d+)(?:, \d+)? \|", README.read_text(), flags=re.M))
    assert {str(status) for status in statuses} <= rows


if __name__ == "__main__":
    README.write_text(with_parts(README.read_text(), generated()))
