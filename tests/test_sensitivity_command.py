"""The command `coordsim sensitivity`: formats, files, exit codes, mistakes, and the page that describes it."""

import csv
import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from coordsim.models import sensitivity as models
from coordsim.models.scenario import Scenario
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.sensitivity_global import SobolMeasures
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.engine.source import Document
from coordsim.sim.report.sensitivity_tables import interactions, statement

from .command import Call
from .pages import outside

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUIET = ("--workers", "1", "--quiet")
SUM = """
coordsim: 1
name: sum
seed: 1
runtime: ideal
workload: {arrivals: {deterministic: 0.01 / s}, tasks: 3, warmup: 0 s}
replications: 2
tools: {search: {latency: 350 ms}, fetch: {latency: 1 s, concurrency: 3}}
workflow: {start: one, steps: {one: {tool: search, next: two}, two: {tool: fetch}}}
"""


@pytest.fixture
def sum_of(tmp_path: Path) -> Path:
    """Return a scenario of two tools with constant times."""
    path = tmp_path / "sum.yaml"
    path.write_text(SUM, encoding="utf-8")
    return path


def test_the_answer_comes_first_in_words(call: Call, sum_of: Path) -> None:
    """What 1 % of the most valuable part saves; then real values, swings with bars, marginal values, and what was left out."""
    done = call("sensitivity", sum_of, "--factor", "search=±20%", "--factor", "fetch", *QUIET)
    assert (done.code, done.err) == (0, "")
    words = " ".join(done.out.split())
    assert "1 % faster fetch saves 0.741 % of p95 (and 0.741 % of mean T_total), more than any other part" in words
    assert re.search(r"search 350 -> 280 \.\. 420 ms -70 ms ± 0 \+70 ms ± 0 -█+\|█+\+", words)
    assert re.search(r"fetch 1 s -> 950 ms \.\. 1\.05 s", words)
    assert "1 % faster search 0.259 %" in words


def test_without_factors_all_levers_vary(call: Call, sum_of: Path) -> None:
    """Whole numbers move by one; what changes nothing is said, and so is what is no lever."""
    done = call("sensitivity", sum_of, *QUIET)
    assert done.code == 0
    words = " ".join(done.out.split())
    assert re.search(r"No task was any different with other .*tools\.fetch\.concurrency", words)
    assert "`network.loopback` is not stated" in words


@pytest.mark.parametrize("method", ["tornado", "morris", "sobol"])
def test_formats_and_files(call: Call, sum_of: Path, tmp_path: Path, method: str) -> None:
    """JSON and CSV hold the numbers; -o writes them, a report and a page without a network; a second call is refused, or resumes."""
    if method == "morris":
        pytest.importorskip("SALib", reason="the extra `sensitivity` is not installed")
    size = {"tornado": [], "morris": ["--trajectories", "3"], "sobol": ["--points", "2"]}[method]
    given = ["sensitivity", sum_of, "--method", method, "--factor", "search", "--factor", "fetch", *size, *QUIET]
    out = tmp_path / "found"
    data = json.loads(call(*given, "--format", "json", "-o", out).out)
    assert (data["coordsim_sensitivity"], data["method"], data["metrics"]) == (
        1, method, ["response_time_mean", "response_time_p95"],
    )  # fmt: skip
    assert sorted(one.name for one in out.iterdir()) == [
        "asked.json", "journal.jsonl", "report.html", "report.md", "result.json", "scenario.resolved.yaml", "sensitivity.csv",
        "sensitivity.json",
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(call(*given, "--format", "csv").out)))
    measures = {"tornado": "elasticity", "morris": "mu_star", "sobol": "total_order"}
    assert {row["factor"] for row in rows if row["measure"] == measures[method]} == {"search", "fetch"}
    before = {one.name: one.read_bytes() for one in out.iterdir()}
    refused = call(*given, "-o", out)
    assert refused.code == 2
    assert "already" in refused.err
    assert call(*given, "-o", out, "--resume").code == 0
    assert {one.name: one.read_bytes() for one in out.iterdir()} == before
    assert outside(out / "report.html") == []


def test_a_journal_without_an_answer_is_resumed_or_written_anew(call: Call, sum_of: Path, tmp_path: Path) -> None:
    """What an interrupted call left is not overwritten unless asked, and gone on with by --resume."""
    given = ["sensitivity", sum_of, "--factor", "search", *QUIET, "-o", tmp_path / "found"]
    assert call(*given).code == 0
    for one in (tmp_path / "found").iterdir():
        if one.name not in ("asked.json", "journal.jsonl"):
            one.unlink()
    journal = tmp_path / "found" / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 3
    journal.write_text("".join(lines[:2]), encoding="utf-8")
    refused = call(*given)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert call(*given, "--resume").code == 0
    assert journal.read_text(encoding="utf-8") == "".join(lines)


def test_an_interrupted_call_says_the_command_that_goes_on(
    call: Call, sum_of: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second cell leaves the first; the command that is told gives the bytes of a call that was not stopped."""
    given = ["sensitivity", sum_of, "--factor", "search", *QUIET, "-o"]
    seen: dict[str, None] = {}

    def stopped(key: str, seed: int, replication: int, spans: str = "none") -> Result:
        seen[key] = None
        if len(seen) == 2:
            raise KeyboardInterrupt
        return simulate_text(key, seed, replication, spans)

    with monkeypatch.context() as patch:
        patch.setattr(models, "simulate_text", stopped)
        done = call(*given, tmp_path / "found")
    assert (done.code, done.out) == (130, "")
    assert "interrupted; 1 of 3 cells are complete; go on with" in done.err
    told = shlex.split(done.err.partition("go on with: coordsim ")[2])
    assert told[-1] == "--resume"
    assert "`replications` was" in call(*told, "--replications", "3").err
    assert call(*told).code == call(*given, tmp_path / "whole").code == 0
    names = [one.name for one in (tmp_path / "whole").iterdir()]
    assert {name: (tmp_path / "found" / name).read_bytes() for name in names} == {
        name: (tmp_path / "whole" / name).read_bytes() for name in names
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--factor", "serch"], "did you mean `search`"),
        (["--factor", "search=5"], "--factor search=5 must be a range"),
        (["--factor", "search", "--factor", "search"], "given twice"),
        (["--metric", "p955"], "did you mean `p95`"),
        (["--by", "120 %"], "--by"),
        (["--points", "8"], "goes with"),
        (["--method", "sobol", "--points", "7"], "power of two"),
        (["--resume"], "goes with"),
        (["--set", "sensitivity={factors: {serch: ''}}"], "sensitivity.factors.serch"),
        (["--set", "sensitivity={method: guess}"], "sensitivity.method"),
    ],
)
def test_mistakes_are_told_where_they_were_made(call: Call, sum_of: Path, options: list[str], told: str) -> None:
    """Exit code 2, and the option or the place in the section."""
    done = call("sensitivity", sum_of, *options, *QUIET)
    assert (done.code, done.out) == (2, "")
    assert told in " ".join(done.err.replace("│", " ").split())


def test_a_mistake_in_the_section_has_its_line(call: Call, tmp_path: Path) -> None:
    """A factor that the scenario does not have is told with file and line."""
    path = tmp_path / "bad.yaml"
    path.write_text(f"{SUM}sensitivity:\n  factors:\n    search: ±20 %\n    serch: ''\n", encoding="utf-8")
    line = path.read_text(encoding="utf-8").splitlines().index("    serch: ''") + 1
    assert f"  {line}:12  sensitivity.factors.serch: no lever" in call("sensitivity", path, *QUIET).err


def test_all_mistakes_are_told_at_once(call: Call, sum_of: Path, tmp_path: Path) -> None:
    """Of the section each at its line of the file, by this command and by `check`; of options each by its option."""
    path = tmp_path / "bad.yaml"
    section = [
        "factors:",
        "  foo: ±20 %",
        "  tools.search.latency: 1 kB..2 kB",
        "  fetch: ±300 %",
        "metric: [mean, p9x]",
    ]
    path.write_text(f"{SUM}sensitivity:\n  " + "\n  ".join(section) + "\n", encoding="utf-8")
    first = path.read_text(encoding="utf-8").splitlines().index("  factors:") + 1
    for command in ("sensitivity", "check"):
        done = call(command, path, *(QUIET if command == "sensitivity" else ()))
        assert done.code == 2
        assert "bad.yaml has 4 mistakes" in done.err
        for line, name in (
            (1, "factors.foo"),
            (2, "factors.tools.search.latency"),
            (3, "factors.fetch"),
            (4, "metric.1"),
        ):
            assert re.search(rf"^  {first + line}:\d+ +sensitivity\.{re.escape(name)}: ", done.err, re.MULTILINE), (
                done.err
            )
        assert "--metric" not in done.err
    done = call("sensitivity", sum_of, "--factor", "foo", "--factor", "search=5", "--metric", "p9x", *QUIET)
    assert "coordsim sensitivity has 3 mistakes" in done.err
    for option in ("--factor foo ", "--factor search=5 ", "--metric p9x "):
        assert f"  {option}" in done.err


def test_a_run_ends_by_time_where_it_is_asked_to(call: Call, sum_of: Path) -> None:
    """`--horizon` is in place of the scenario's number of tasks; one replication is told as one."""
    done = call("sensitivity", sum_of, "--factor", "search", "--horizon", "20 min", "--replications", "1", *QUIET)
    assert done.code == 0, done.err
    assert "1 replication of each of 3 cells" in " ".join(done.out.split())


def test_rounding_is_told_as_no_change(call: Call, sum_of: Path) -> None:
    """Constant times whatever the load: it changes nothing, and intervals of nothing but rounding are 0."""
    done = call("sensitivity", sum_of, *QUIET, "--tasks", "20")
    words = " ".join(done.out.split())
    assert re.search(r"No task was any different with other .*\bload\b", words)
    assert "e-" not in words
    assert "~0" not in words
    assert "<0." not in words
    assert "1 % less load" not in words


def test_a_first_order_above_the_total_is_not_told_as_a_result() -> None:
    """A part is no more than the whole: where few points have it so, more of them are asked for."""
    found = models.sensitivity(Scenario.from_text(SUM), ["search", "fetch"], metric="p95", method="sobol", size=4)
    (name,) = found.metrics
    one = found.sobol[name].factors[0]
    less = replace(one.total, value=one.first.value / 2)
    few = replace(found.sobol[name], factors=(replace(one, total=less), *found.sobol[name].factors[1:]))
    assert "4 points do not tell" in statement(replace(found, sobol={name: few}))
    enough = replace(few, factors=(replace(one, total=one.first), *found.sobol[name].factors[1:]))
    assert "with its interactions. First orders" in statement(replace(found, sobol={name: enough}))


def test_the_section_says_what_the_options_would(call: Call, sum_of: Path) -> None:
    """By the section or by options, the same answer."""
    section = "sensitivity={factors: {search: ±10 %}, metric: p95, by: 7 %}"
    by_section = call("sensitivity", sum_of, "--set", section, *QUIET)
    options = ("--factor", "search=±10 %", "--metric", "p95", "--by", "7 %")
    assert by_section.out == call("sensitivity", sum_of, *options, *QUIET).out


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (0.2, 1.6, "too wide to tell of interactions; more `--points` would."),
        (0.9, 1.1, "no interaction is seen."),
        (0.6, 0.8, "the rest, 30 %, is interactions."),
        (1.1, 2.3, "too few points; more `--points` would tell."),
    ],
)
def test_the_sum_of_first_orders_tells_of_interactions(low: float, high: float, told: str) -> None:
    """They are seen, not seen, or cannot be told: few points say nothing of them."""
    middle = round((low + high) / 2, 2)
    total = Estimate(middle, low, high, 0.95, 8, "bootstrap")
    assert interactions(SobolMeasures((), 8, 1.0, 0.0, total)).endswith(told)


def test_without_salib_the_remedy_is_told(call: Call, sum_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = call("sensitivity", sum_of, "--method", "morris", *QUIET)
    assert done.code == 2
    assert "pip install 'coordsim[sensitivity]'" in done.err


@pytest.mark.slow
def test_the_commands_of_the_page_run(root: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of docs/sensitivity.md exits with 0; few tasks and replications do here. The YAML loads, and plans."""
    pytest.importorskip("SALib", reason="the extra `sensitivity` is not installed")
    page = (root / "docs" / "sensitivity.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(page)
    lines = [line for language, text in blocks if language == "sh" for line in text.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("coordsim ")]
    assert len(commands) >= 3
    for _, *arguments in commands:
        done = call(*arguments, "--tasks", "20", "--replications", "2", *QUIET)
        assert done.code == 0, (arguments, done.err)
    (code,) = [text for language, text in blocks if language == "python"]
    (tmp_path / "scenarios").symlink_to(root / "scenarios")
    exec(compile(code.replace("replications=2", "replications=1"), "docs/sensitivity.md", "exec"), {})
    (text,) = [text for language, text in blocks if language == "yaml"]
    section = json.dumps(Document.from_text(text, "page").data["sensitivity"])
    done = call(
        "sensitivity", "quickstart", "--set", f"sensitivity={section}", "--tasks", "20", "--replications", "2", *QUIET
    )
    assert done.code == 0, done.err
