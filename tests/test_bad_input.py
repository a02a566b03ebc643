"""Bad scenarios: each file of tests/data/bad beside the message it must give, and a good one mutated at random.

A new case is a new file, and its message in a `.txt` of the same name; `parts/` holds what cases refer to.
"""

import random
import re
from pathlib import Path

import pytest

from coordsim.cli import main
from coordsim.models.scenario import Scenario, load
from coordsim.sim.engine.errors import ScenarioError

FOLDER = Path(__file__).parent / "data" / "bad"
GOOD = FOLDER / "parts" / "base.yaml"
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
CASES = [path for path in FILES if path.suffix != ".txt"]

# What no report may say: words of the program, or of the libraries under it.
INTERNAL = re.compile(
    r"pydantic|ruamel|Traceback|Input should|Value error|function-|NoneType|\bdict\b|\btuple\b|not allowed"
)
# What is wrong with a whole file has no line.
WHOLE = re.compile(r"is (empty|a binary file|UTF-16|a directory)|required field is missing|must name a `node`")


@pytest.fixture(autouse=True)
def _inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in the folder of the cases, so that messages cite relative paths."""
    monkeypatch.chdir(FOLDER)


def expected(case: Path) -> str:
    """Return the message that belongs to a case."""
    return (FOLDER / f"{case.name.partition('.')[0]}.txt").read_text(encoding="utf-8").removesuffix("\n")


def test_every_case_has_its_message_and_every_message_its_case() -> None:
    """No file is forgotten, and there are enough."""
    cases = [path.name.partition(".")[0] for path in CASES]
    messages = [path.name.partition(".")[0] for path in FILES if path.suffix == ".txt"]
    assert sorted(cases) == sorted(messages)
    assert len(cases) == len(set(cases)) >= 150


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_bad_scenario_gives_its_message(case: Path) -> None:
    """Where, what, the rule, what was got and the remedy, to the letter; and each mistake has a place that is there."""
    with pytest.raises(ScenarioError) as caught:
        load(case.name)
    assert str(caught.value) == expected(case)
    for problem in caught.value.problems:
        assert not INTERNAL.search(problem.message)
        if problem.line == 0:
            assert WHOLE.search(problem.message) or problem.path == "runtime"
        elif problem.column:
            lines = Path(problem.file).read_text(encoding="utf-8").splitlines()
            assert 1 <= problem.column <= len(lines[problem.line - 1])


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_bad_scenario_ends_the_command(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`coordsim run` exits 2 with the message and nothing else, and leaves nothing behind."""
    out = tmp_path / "out"
    assert main(["run", case.name, "-o", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.rstrip("\n") == expected(case)
    assert list(tmp_path.iterdir()) == []


# --- mutations ------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"[A-Za-z_][A-Za-z_0-9-]*|[0-9.]+|\s+|.")
JUNK = [
    *(
        "0",
        "-1",
        "1e400",
        ".nan",
        "null",
        "[]",
        "{}",
        "",
        ":",
        "- ",
        "\t",
        "  ",
        "'",
        '"',
        "&a ",
        "*a",
        "1",
        "1e9",
        "3",
    ),
    *(
        "none",
        "end",
        "start",
        "done",
        "true",
        "1 s",
        "50 %",
        "9" * 50,
        "search",
        "plan",
        "{constant: 1 s}",
        "any",
        "0.5",
    ),
    *("trace", "ideal", "\u2603", "\x00", "? ", "<<", "!!str ", "|\n", "#", "extends", "file", "kind", "edge"),
]


def with_another_token(text: str, rng: random.Random) -> str:
    """Return `text` with a word or number deleted, repeated, swapped with another, or replaced."""
    tokens = TOKEN.findall(text)
    places = [place for place, token in enumerate(tokens) if token.strip()]
    one, two = rng.choice(places), rng.choice(places)
    change = rng.choice(("delete", "repeat", "junk", "copy", "swap"))
    if change == "delete":
        tokens[one] = ""
    elif change == "repeat":
        tokens[one] *= 2
    elif change == "junk":
        tokens[one] = rng.choice(JUNK)
    elif change == "copy":
        tokens[one] = tokens[two]
    else:
        tokens[one], tokens[two] = tokens[two], tokens[one]
    return "".join(tokens)


def with_another_line(text: str, rng: random.Random) -> str:
    """Return `text` with a line deleted, repeated, moved or indented otherwise."""
    lines = text.split("\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.choice(("delete", "repeat", "move", "indent"))
    if change == "indent":
        lines[one] = " " * rng.randrange(9) + lines[one].strip()
    elif change == "repeat":
        lines.insert(one, lines[one])
    else:
        taken = lines.pop(one)
        if change == "move":
            lines.insert(two, taken)
    return "\n".join(lines)


def with_another_value(text: str, rng: random.Random) -> str:
    """Return `text` with one value in the place of another, so that it is still YAML."""
    values = list(re.finditer(r"(?<=: )(\{[^{}]*\}|[^,{}\n]+)", text))
    into, of = rng.choice(values), rng.choice(values)
    return text[: into.start()] + of.group() + text[into.end() :]


def mutated(text: str, rng: random.Random) -> str:
    """Return `text` with one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = rng.choice((with_another_token, with_another_line, with_another_value))(text, rng)
    return text


def loaded_or_told(text: str) -> Scenario | str:
    """Return the scenario in `text`, or the report of its mistakes."""
    try:
        return Scenario.from_text(text, "s.yaml")
    except ScenarioError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(3))
def test_a_mutated_scenario_loads_or_is_refused(batch: int) -> None:
    """Of 300 scenarios gone wrong at random, none ends in another exception, in a word of the program's, or in a loss."""
    text = GOOD.read_text(encoding="utf-8")
    loaded = 0
    for number in range(100):
        changed = mutated(text, random.Random(f"{batch}/{number}"))
        found = loaded_or_told(changed)
        if isinstance(found, Scenario):
            loaded += 1
            assert Scenario.from_text(found.to_yaml()) == found, changed
        else:
            assert found.startswith("s.yaml has ")
            assert not INTERNAL.search(found), changed
    assert 0 < loaded < 100  # or the mutations would show nothing
