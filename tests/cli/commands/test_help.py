"""`--help` of every command, and the version."""

from importlib.metadata import version

import pytest
import typer

from infdehaze_cli.app import app

COMMANDS = [
    ["run"],
    ["plan"],
    ["demo"],
    ["models"],
    ["doctor"],
    ["synth"],
    ["eval"],
    ["attribute"],
    ["train"],
    ["finetune"],
    ["bench"],
]
COMMANDS += [
    ["bench", name]
    for name in ("choices", "compare", "context", "empty", "even", "memory", "quality", "report", "speed")
]


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_names_every_option(cli, command, flag):
    ended = cli(*command, flag)

    found = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]
    assert (ended.code, ended.err) == (0, "")
    assert f"Usage: {' '.join(['infdehaze', *command])}" in ended.out
    for parameter in found.params:
        for option in parameter.opts:
            assert option in ended.out


def test_the_version_is_that_of_the_package(cli):
    ended = cli("--version")

    assert (ended.code, ended.out, ended.err) == (0, f"infdehaze {version('infdehaze')}\n", "")


def test_the_list_of_commands_here_is_complete():
    group = typer.main.get_command(app)

    names = [[name] for name in group.commands]
    names += [[name, inner] for name, command in group.commands.items() for inner in getattr(command, "commands", {})]
    assert sorted(names) == sorted(COMMANDS)
