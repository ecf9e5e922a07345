"""Hooks of MkDocs: the page of commands is written from the command line itself when the site is built.

With a folder of hazy pictures in the variable ``HAZY``, the page of real haze gets a sheet of what becomes of them:
their licences may not let them lie in the repository.

python tools/docs_site.py    prints the page of commands
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import typer

from infdehaze_cli.app import app

COMMANDS_PAGE = "commands.md"
"""Made when the site is built; no file of this name lies in docs/."""

HAZE_PAGE, SHEET = "real-haze.md", "images/real-haze.jpg"
SHEET_MARK = "<!-- the sheet of real haze -->"

_INTRODUCTION = """# Commands

Written from the program when this site was built, so it says what `--help` says. Sizes are `4G` or `512MiB`: one letter
is a power of 1024. Results go to stdout, everything else to stderr.

The exit code is 0 when all is done, 1 for a bug of ours, 2 for wrong usage, 3 for bad input, 4 when the budget cannot
hold it, 5 for disk and network, 6 for a damaged store, 129 when the terminal is closed, 130 when interrupted,
143 when terminated.
"""


def walk() -> Iterator[tuple[str, Any]]:
    """Yield every command by its words, without groups of commands."""

    def below(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, (*words, name))
            else:
                yield " ".join((*words, name)), command

    yield from below(typer.main.get_command(app), ())


def commands_page() -> str:
    """Return the page: a section a command with its help, its usage, and a table of arguments and options."""
    parts = [_INTRODUCTION]
    for name, command in walk():
        context = command.make_context(f"infdehaze {name}", [], resilient_parsing=True)
        usage = command.get_usage(context).removeprefix("Usage: ")
        records = [record for p in command.get_params(context) if (record := p.get_help_record(context))]
        rows = "\n".join(f"| <code>{_cell(words)}</code> | {_cell(text)} |" for words, text in records)
        # the paragraphs of a docstring, without its line ends
        about = "\n\n".join(" ".join(p.split()) for p in (command.help or "").split("\n\n"))
        parts.append(
            f"## infdehaze {name}\n\n{about}\n\n```text\n{usage}\n```\n\n| option | what it does |\n|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def _cell(text: str) -> str:
    """Return words for a cell of a table, where bars and angle brackets mean something."""
    plain = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"([`*_\[\]])", r"\\\1", escape(plain, quote=False)).replace("|", "&#124;")


def real_haze_sheet(hazy: str) -> bytes:
    """Clean the pictures of a folder, and return the sheet of them, a JPEG."""
    from mkdocs.exceptions import PluginError

    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / "sheet.jpg"
        command = ["bench", "quality", "--hazy", hazy, "--sheet", str(sheet), "--quiet"]
        try:
            subprocess.run([sys.executable, "-m", "infdehaze_cli", *command], check=True)
        except subprocess.CalledProcessError as error:
            raise PluginError(f"HAZY={hazy}: no sheet can be drawn of that folder.") from error
        return sheet.read_bytes()


def on_files(files: Any, config: Any) -> Any:
    """Add the page of commands, and the sheet of real haze where there is some."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, COMMANDS_PAGE, content=commands_page()))
    if hazy := os.environ.get("HAZY"):
        files.append(File.generated(config, SHEET, content=real_haze_sheet(hazy)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show the sheet on its page."""
    if page.file.src_uri == HAZE_PAGE and os.environ.get("HAZY"):
        columns = "The input, infdehaze, the dark channel prior, the colour attenuation prior"
        return markdown.replace(SHEET_MARK, f"![{columns}]({SHEET})")
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Show the roles of docstrings (``:func:`` and such) as the code that they mark."""
    return re.sub(r":(?:func|class|meth|mod|data|attr):(?=<code>)", "", html)


if __name__ == "__main__":
    print(commands_page())
