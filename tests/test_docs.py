"""The documentation and the command line agree, and nothing that users rely on goes away by accident."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from infdehaze_cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("C*.md"))]

MADE_BY_THE_SITE = {"commands.md"}
"""Pages that `make docs` writes; tests/test_site.py follows links to them."""

NETWORK = "--weights --device --overlap"
BUDGET = "--gpu-mem --ram --scratch --residuals --residual-dtype --codec --batch --precision"
TRAINING = (
    "-o --output --preset --set --from --dataset --loss --crops --precision --steps --time-limit --checkpoint-every "
    "--lr --statistics-rate --colours --seed --workers --device -q --quiet --debug"
)
FROZEN = {
    "run": f"src -o --output --out-dir {BUDGET} {NETWORK} --strength --bands --other-bands --wavelengths "
    "--vrt --haze-map --preview --report --reference --scale-range --format "
    "--profile --co --stac --overwrite --no-resume --dry-run --json -q --quiet --debug",
    "plan": f"src {BUDGET} {NETWORK} --bands --json --debug",
    "demo": "-o --output --size --seed --style --gpu-mem --device --weights --json -q --quiet --debug",
    "models": "--json --debug",
    "doctor": "--scratch --json --debug",
    "synth": "src -o --output --style --seed --feature --transmission --bands --scale-range --format --overwrite -q "
    "--quiet --debug",
    "attribute": "src --window -o --output --preview --reference --objective --steps --gpu-mem --ram --scratch --batch "
    f"{NETWORK} --bands --scale-range --overwrite --json -q --quiet --debug",
    "eval": "result reference --hazy --peak --bands --tile --overlap --json --debug",
    "train": f"data {TRAINING}",
    "finetune": f"data {TRAINING} --all",
    "bench": "",
    "bench memory": "--sizes --max --weights --residuals --baselines --limit --ablation --gpu-mem --ram --scratch "
    "--batch --device --plot --overwrite --json -q --quiet --debug",
    "bench quality": f"--clear --pairs --hazy --bits --seed --per-picture --sheet --keep {NETWORK} --residual-dtype "
    "--json -q --quiet --debug",
    "bench choices": "option --size --style --seed --weights --scratch --device --json -q --quiet --debug",
    "bench context": "--size --part --style --seed --weights --scratch --device --json -q --quiet --debug",
    "bench even": "--size --depths --repeats --seed --weights --device --overlap --json -q --quiet --debug",
    "bench report": "-o --output --json-file --quick --clear --pairs --seed --weights --gpu-mem --ram --scratch "
    "--device --overwrite --json -q --quiet --debug",
    "bench compare": "first second --json --debug",
    "bench empty": "--size --share --co --weights --scratch --device --json -q --quiet --debug",
    "bench speed": f"--size --gpu-mem --residuals {NETWORK} --json -q --quiet --debug",
}
"""Commands, their arguments and options. Taking one away breaks somebody's script: it needs a new major version."""

VARIABLES = {"INFDEHAZE_GPU_MEM", "INFDEHAZE_RAM", "INFDEHAZE_SCRATCH", "INFDEHAZE_DEVICE", "INFDEHAZE_WEIGHTS"}


def commands():
    """Return every command by its words."""
    found = {}

    def collect(group, words):
        for name, command in group.commands.items():
            found[" ".join([*words, name])] = command
            if hasattr(command, "commands"):
                collect(command, [*words, name])

    collect(typer.main.get_command(app), [])
    return found


COMMANDS = commands()


def names_of(command):
    """Return what a user can write: argument names and all spellings of options."""
    names = set()
    for parameter in command.params:
        options = parameter.param_type_name == "option"
        names |= {*parameter.opts, *parameter.secondary_opts} if options else {parameter.name}
    return names - {"-h", "--help"}


def code_of(page):
    """Return what a page shows as code: ``(line, whole)``; a whole line is a call, a span may be a part of one."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    text = re.sub(r"\\\n\s*", " ", text)
    blocks = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks.findall(text) for line in block.splitlines()]
    text = blocks.sub("", text)
    lines += [line for line in text.splitlines() if line.startswith("    ")]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^    .*$", "", text, flags=re.MULTILINE))
    return [(line, True) for line in lines] + [(span, False) for span in spans]


def calls_of(page):
    """Return the calls of ``infdehaze`` that a page shows, as words, each with whether it is complete."""
    calls = []
    for code, whole in code_of(page):
        for part in re.split(r"[|;]|&&|\$\(", re.sub(r"(^|\s)#.*", "", code)):
            part = re.sub(r"^\s*[$>]?\s*(\w+=\S*\s+)*", "", part)
            if re.match(r"infdehaze(\s|$)", part):
                words = shlex.split(re.sub(r"\s\d?>.*", "", part).rstrip(")"))
                calls.append((words[1:], whole))
    return calls


CALLS = [pytest.param(*call, id=f"{page.name}: {' '.join(call[0])}") for page in PAGES for call in calls_of(page)]


def split_call(words):
    """Return the command that words name, by its own words, and what follows."""
    name = ""
    rest = list(words)
    while rest and f"{name} {rest[0]}".strip() in COMMANDS:
        name = f"{name} {rest.pop(0)}".strip()
    return name, rest


@pytest.mark.parametrize("name", FROZEN)
def test_no_command_loses_or_gains_an_option_by_accident(name):
    assert name in COMMANDS, f"the command `infdehaze {name}` is gone"
    assert names_of(COMMANDS[name]) == set(FROZEN[name].split()), "if this is meant, change the table above too"


def test_no_command_is_added_by_accident():
    assert set(COMMANDS) == set(FROZEN), "if this is meant, change the table above too"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name):
    command = COMMANDS[name]

    assert command.help
    assert command.help[0].isupper()
    assert command.help.rstrip().endswith(".")
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{parameter.name} of `{name}` has no help"


def test_every_variable_of_the_environment_is_read_and_documented():
    read = {variable for c in COMMANDS.values() for p in c.params for variable in [p.envvar] if variable}

    assert read | {"INFDEHAZE_SCRATCH"} == VARIABLES
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in VARIABLES if name not in text} == set()


@pytest.mark.parametrize("name", [name for name in COMMANDS if not hasattr(COMMANDS[name], "commands")])
def test_every_command_is_documented(name):
    shown = {split_call(words)[0] for words, _ in calls_of(ROOT / "README.md")}

    assert name in shown, f"README.md does not show `infdehaze {name}`"


def test_every_option_of_run_is_documented():
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    missing = [name for name in names_of(COMMANDS["run"]) if name.startswith("--") and f"{name}" not in text]
    # -q stands for --quiet, -o for --output; --debug is named by the message of a bug
    assert set(missing) <= {"--quiet", "--output", "--debug"}


@pytest.mark.parametrize(("words", "whole"), CALLS)
def test_every_call_in_the_documentation_is_possible(words, whole):
    if words in ([], ["--help"], ["-h"], ["--version"], ["--install-completion"], ["--show-completion"]):
        return
    name, rest = split_call(words)
    assert name in COMMANDS, f"there is no command {words[0]!r}"
    known = names_of(COMMANDS[name]) | {"-h", "--help"}
    for word in rest:
        if re.match(r"--?[a-zA-Z]", word):
            assert word.split("=")[0] in known, f"`infdehaze {name}` has no option {word}"
    if whole and not {"-h", "--help"} & set(rest):
        # parses values too, and misses what is required; runs nothing
        COMMANDS[name].make_context(name, rest)


def test_the_calls_of_the_documentation_are_found():
    assert len(CALLS) >= len(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(page):
    text = page.read_text(encoding="utf-8") if page.exists() else ""

    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:") and target not in MADE_BY_THE_SITE:
            assert (page.parent / target).exists(), f"{page.name} points to {target}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_python_in_the_documentation_compiles_and_imports_what_exists(page):
    text = page.read_text(encoding="utf-8") if page.exists() else ""

    for source in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        compile(source, page.name, "exec")
        for line in source.splitlines():
            if line.startswith(("from infdehaze", "import infdehaze")):
                exec(line, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_page_has_a_gap_to_be_filled(page):
    text = page.read_text(encoding="utf-8") if page.exists() else ""

    assert re.findall(r"@@|\bTODO\b|\bTBD\b|\bFIXME\b", text) == []
