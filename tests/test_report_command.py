"""`coordsim report`: answers of any kinds on one page, as Markdown, from Python; what is missing has a command that works."""

import json
import re
import shlex
from pathlib import Path

import pytest

import coordsim as cs
from coordsim.cli import main
from coordsim.sim.report.numbers import show
from coordsim.sim.report.page.parts import Section
from coordsim.sim.report.sections import every
from coordsim.sim.report.stored import NAME, Stored, read

from .command import Call
from .pages import outside, page_data

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXT = """\
coordsim: 1
name: desk
question: How long?
seed: 3
runtime: stateless-api
workload: {arrivals: {poisson: 2 / s}, tasks: 80, warmup: 0 s}
agents: {clerk: {model: llm, prompt: 10 tokens, output: {exponential: {mean: 10 tokens}}}}
models: {llm: {kind: llm, replicas: 1, concurrency: 1, prefill: 0 s / token, decode: 20 ms / token}}
workflow: {start: work, steps: {work: {agent: clerk, next: done}}}
slo: {p95: 1 s}
replications: 3
"""
QUIET = ("--workers", "1", "--quiet")
RUNTIMES = ("--runtime", "stateless-api", "--runtime", "agent-native", "--no-ablate")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a scenario, in which commands run."""
    (tmp_path / "desk.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def answers(here: Path, call: Call) -> Path:
    """Return that folder, with a run and a comparison in it."""
    assert call("run", "desk.yaml", *QUIET, "-o", "run").code == 0
    assert call("compare", "desk.yaml", *RUNTIMES, *QUIET, "-o", "compare").code in (0, 4)
    return here


def test_a_run_writes_its_report(here: Path, call: Call) -> None:
    """A page and its answer, the same bytes whoever computes and however often; a run without -o writes nothing."""
    assert call("run", "desk.yaml", *QUIET).code == 0
    assert [one.name for one in here.iterdir()] == ["desk.yaml"]
    assert call("run", "desk.yaml", *QUIET, "-o", "one").code == 0
    assert call("run", "desk.yaml", "--workers", "2", "-q", "--format", "json", "--out=two").code == 0
    for name in ("report.html", NAME):
        assert (here / "one" / name).read_bytes() == (here / "two" / name).read_bytes()
    stored = read(here / "one")
    assert (stored.kind, stored.source.command) == ("run", "coordsim run desk.yaml")
    assert outside(here / "one" / "report.html") == []
    assert page_data(here / "one" / "report.html")["charts"]
    text = (here / "one" / "report.html").read_text(encoding="utf-8")
    for section in Section:
        assert section.question in text


def test_a_run_says_what_it_can(here: Path, call: Call) -> None:
    """T_total, the objective with its margin and verdict, the busiest resource and the load it takes; what it cannot say is linked."""
    assert call("run", "desk.yaml", *QUIET, "-o", "run").code == 0
    stored = read(here / "run")
    (part,) = (one for one in every.parts_of(stored) if one.section is Section.ANSWER)
    summary = stored.found.summary
    label, value, verdict = part.facts[0]
    assert value == show(summary.metrics["response_time_p95"], "s").text
    assert verdict == summary.verdict
    margin = 1 - summary.metrics["response_time_p95"].value
    assert label == f"p95 ≤ 1 s ({100 * margin:.2g} % within)"
    assert "The busiest resource is models.llm" in part.answer
    load = 1 / max(one.metrics["utilization"].value for one in summary.resources)
    told = re.search(r"full at ([\d.]+)", part.answer)
    assert told is not None
    assert float(told[1]) == pytest.approx(load, rel=0.1)
    assert len(part.facts) <= 8
    assert [row[::3] for row in part.opened[0].rows] == [("p95 ≤ 1 s", verdict)]
    assert not [label for label, _, _ in part.facts[1:] if "p95" in label]
    asked = [one.unasked for _, one in every.everything([stored]) if one.unasked]
    assert asked == [(Section.REPLICAS, Section.RUNTIME, Section.MATTERS)]
    (part,) = (part for _, part in every.everything([stored]) if part.section is Section.SCALING)
    assert (part.missing, part.answer[:31]) == ((), "The scenario repeats no step, h")


def test_answers_of_any_kinds_are_on_one_page(answers: Path, call: Call) -> None:
    """Each speaks where it can; a section that none speaks to has the command that adds it; what is here is not asked for."""
    done = call("report", "run", "compare", "-o", "both.html", "--title", "Desk & co")
    assert (done.code, done.out) == (0, "")
    assert "written to both.html" in done.err
    text = (answers / "both.html").read_text(encoding="utf-8")
    assert "<title>Desk &amp; co</title>" in text
    assert "coordsim run desk.yaml" in text
    assert "coordsim plan desk.yaml --decide models.llm.replicas=1..8 -o runs/desk-plan" in text
    assert "What another runtime would save" not in text
    assert call("report", "run", "compare", "-o", "again.html", "--title", "Desk & co", "-q").err == ""
    assert (answers / "again.html").read_bytes() == (answers / "both.html").read_bytes()
    refused = call("report", "run", "-o", "both.html")
    assert refused.code == 2
    assert "both.html exists already, and is left as it is; choose another place, or pass --overwrite" in refused.err
    assert call("report", "run", "-o", "both.html", "--overwrite").code == 0


def test_a_folder_gets_its_page_anew(answers: Path, call: Call) -> None:
    """Without -o the page goes where its command had it; for several it must be said where, and it is not guessed."""
    before = (answers / "run" / "report.html").read_bytes()
    (answers / "run" / "report.html").unlink()
    assert call("report", "run").code == 0
    assert (answers / "run" / "report.html").read_bytes() == before
    assert call("report", "run").code == 0
    refused = call("report", "run", "compare")
    assert refused.code == 2
    assert "-o report.html" in refused.err
    missing = call("report", "nowhere")
    assert missing.code == 2
    assert "name a folder that a command wrote with `-o`" in missing.err


def test_a_page_of_somebody_else_stays(answers: Path, call: Call) -> None:
    """Beside a file, or in a folder that has only a copy of it, `report.html` may be anybody's: it is replaced when that is asked for."""
    (answers / "mine").mkdir()
    (answers / "mine" / NAME).write_bytes((answers / "run" / NAME).read_bytes())
    page = answers / "mine" / "report.html"
    page.write_text("precious")
    for asked in (f"mine/{NAME}", "mine"):
        refused = call("report", asked)
        assert refused.code == 2
        assert "report.html exists already, and is left as it is" in refused.err
        assert page.read_text() == "precious"
    assert call("report", f"mine/{NAME}", "-o", "elsewhere.html").code == 0
    assert page.read_text() == "precious"
    assert call("report", f"mine/{NAME}", "--overwrite").code == 0
    assert page.read_bytes() == (answers / "run" / "report.html").read_bytes()
    assert call("report", "compare").code == 0  # its command's own page


def test_markdown_goes_to_stdout_or_to_a_file(answers: Path, call: Call) -> None:
    """`--format md` prints; a file that ends in .md needs no option."""
    done = call("report", "run", "--format", "md")
    assert done.code == 0
    assert done.out.startswith("## desk\n\n### What is the answer?\n\n**A task takes ")
    assert "| p95 ≤ 1 s (" in done.out
    assert len(done.out) < 60_000
    assert call("report", "run", "-o", "run.md", "-q").code == 0
    assert (answers / "run.md").read_text(encoding="utf-8") == done.out


def test_what_is_missing_has_a_command_that_runs(here: Path, call: Call) -> None:
    """Each command that a page suggests is one: with the least that can be simulated it answers, or says what it is not sure of."""
    assert call("run", "desk.yaml", "--replications", "2", *QUIET, "-o", "run").code == 0
    stored = read(here / "run")
    said = {one.command for _, part in every.everything([stored]) for one in part.missing}
    assert {one.split()[1] for one in said} >= {"plan", "compare", "sensitivity"}
    for command in sorted(said):
        words = shlex.split(command)[1:]
        short = ["--replications", "2"] if words[0] != "plan" and "--replications" not in words else []
        if words[0] == "plan":
            short = ["--max-replications", "5", "--no-frontier", "--no-headroom"]
        done = call(*words, *short, *QUIET, "--overwrite")
        assert done.code in (0, 3, 4), f"{command}: {done.err}"


def test_python_writes_the_same_report(here: Path, call: Call) -> None:
    """`save` and `report`, as a page and as Markdown; a command's page but for the call that repeats it."""
    run = cs.simulate(cs.load("desk.yaml"), spans="sampled")  # as the command does for a folder
    compared = cs.compare(cs.load("desk.yaml"), "stateless-api", "agent-native")
    assert run.save("run.html") == Path("run.html")
    assert outside(here / "run.html") == []
    cs.report([run, compared], here / "both.md", title="Both")
    text = (here / "both.md").read_text(encoding="utf-8")
    assert text.startswith("## Both\n")
    assert "coordsim.simulate(coordsim.load('desk.yaml'))" in text
    assert "coordsim.compare(coordsim.load('desk.yaml'), b='stateless-api', variant='agent-native')" in text
    assert call("run", "desk.yaml", *QUIET, "-o", "run").code == 0
    source = read(here / "run").source
    assert every.to_html([Stored("run", run._found(), source)]) == (here / "run" / "report.html").read_text(
        encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"must end in \.html or \.md, but got 'run\.pdf'"):
        run.save("run.pdf")
    upper = run.save("RUN.HTML")
    assert cs.report(run, "one.html").read_bytes() == upper.read_bytes()  # an answer alone, too
    for wrong, kind in (([3], "int"), (["run"], "str"), ("run", "str"), (run.result, "Run")):
        with pytest.raises(TypeError, match=rf"must be an answer, as `coordsim.simulate\(scenario\)`.*; got {kind}"):
            cs.report(wrong, "x.html")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no answer"):
        cs.report([], "none.html")
    with pytest.raises(ValueError, match="does not know its scenario"):
        cs.Comparison(compared.result).save("x.html")


def test_a_comparison_of_two_files_names_both(here: Path, call: Call) -> None:
    """The page of the command and that of Python have both names in the title, and both hashes."""
    (here / "counter.yaml").write_text(TEXT.replace("name: desk", "name: counter").replace("20 ms", "30 ms"))
    assert call("compare", "desk.yaml", "counter.yaml", *QUIET, "-o", "both").code in (0, 4)
    one, other = cs.load("desk.yaml"), cs.load("counter.yaml")
    cs.compare(one, other).save("python.html")
    source = read(here / "both").source
    assert (source.sha256, source.beside) == (one.hash, (("counter", other.hash),))
    for page in ("both/report.html", "python.html"):
        text = (here / page).read_text(encoding="utf-8")
        assert "<title>desk and counter</title>" in text
        assert one.hash in text
        assert other.hash in text


def test_an_interrupted_run_has_its_report(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the replications that were complete."""
    from coordsim.models import simulate as module

    simulate = module.simulate

    def stopped(*given: object) -> object:
        if given[2] == 2:
            raise KeyboardInterrupt
        return simulate(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "simulate", stopped)
    assert call("run", "desk.yaml", *QUIET, "-o", "run").code == 130
    assert read(here / "run").found.summary.replications == 2
    assert (here / "run" / "report.html").is_file()
    assert json.loads((here / "run" / "manifest.json").read_text())["interrupted"]


def test_the_commands_of_the_page_about_reports_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of docs/report.md exit with 0, one after the other."""
    monkeypatch.chdir(tmp_path)
    text = (root / "docs" / "report.md").read_text(encoding="utf-8")
    found = [line for block in BLOCK.findall(text) for line in block.splitlines() if line.startswith("coordsim ")]
    assert len(found) >= 4
    for line in found:
        _, *words = shlex.split(line, comments=True)
        assert main(words) == 0, f"{line}\n{capsys.readouterr().err}"
