"""The README and the pages under docs say what the program does: their commands run, their examples load."""

import re
import shlex
from pathlib import Path

import pytest

from coordsim.calibration.imports import kernel_map
from coordsim.cli import main
from coordsim.models.scenario import Scenario

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> list[list[str]]:
    """Return the `coordsim` commands of a page, without comments."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("coordsim ")]


def test_every_block_of_the_readme_is_of_a_kind_that_is_tested(root: Path) -> None:
    """A block in a language that no test knows would go unchecked."""
    found = {name for name, _ in BLOCK.findall((root / "README.md").read_text(encoding="utf-8"))}
    assert found == {"sh", "python", "yaml", "text"}


@pytest.mark.slow
def test_the_commands_of_the_readme_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each exits with 0, in a folder with the scenarios; two replications of runs and a second of calibration do here."""
    (tmp_path / "scenarios").symlink_to(root / "scenarios")
    monkeypatch.chdir(tmp_path)
    found = commands(root / "README.md")
    assert len(found) > 8
    for name, *arguments in found:
        assert name == "coordsim"
        short = ["--replications", "2", "--workers", "1", "--quiet"] if arguments[0] == "run" else []
        if arguments[0] == "calibrate":
            short = ["--budget", "1 s", "--only", "cross[via=call]", "--quiet"]
        if "--precision" in arguments:
            short = ["--set", "workload.tasks=100", *short[2:]]
        assert main([*arguments, *short]) == 0, f"{arguments}\n{capsys.readouterr().err}"
        capsys.readouterr()


def test_the_commands_about_profiles_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of docs/calibration.md, those that need no file, package or minutes exit with 0."""
    monkeypatch.chdir(tmp_path)
    found = [one for one in commands(root / "docs" / "calibration.md") if one[1] == "profile"]
    here = [one for one in found if one[2] in ("list", "show", "diff", "export", "schema")]
    assert len(here) >= 6
    for _, *arguments in here:
        assert main(arguments) == 0, f"{arguments}\n{capsys.readouterr().err}"


def test_the_map_of_kernels_in_the_docs_is_read(root: Path, tmp_path: Path) -> None:
    """The YAML that docs/calibration.md shows names a kernel, as `profile import --map` takes it."""
    (text,) = [one for one in blocks(root / "docs" / "calibration.md", "yaml") if one.startswith("# kernels.yaml")]
    path = tmp_path / "kernels.yaml"
    path.write_text(text, encoding="utf-8")
    rule = kernel_map.read(path).rule("sm90_xmma_gemm_bf16bf16_128x128")
    assert rule is not None
    assert rule.op == "gemm"


@pytest.mark.slow
def test_the_readme_shows_what_the_quickstart_prints(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line of the output that the README quotes is in the real output."""
    monkeypatch.chdir(root)
    assert main(["run", "scenarios/quickstart.yaml", "--workers", "1", "--quiet"]) == 0
    real = capsys.readouterr().out.splitlines()
    quoted = [line for line in blocks(root / "README.md", "text")[0].splitlines() if line.strip() not in ("", "...")]
    assert len(quoted) > 12
    assert [line for line in quoted if line not in real] == []


@pytest.mark.slow
def test_the_python_of_the_readme_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints an answer."""
    monkeypatch.chdir(root)
    for code in blocks(root / "README.md", "python"):
        exec(compile(code, "README.md", "exec"), {})
    assert "the largest part of T_total is" in capsys.readouterr().out


def test_the_scenario_of_the_readme_loads(root: Path) -> None:
    """It has no mistakes."""
    for text in blocks(root / "README.md", "yaml"):
        assert Scenario.from_text(text).question


def test_the_mistakes_that_the_readme_shows_are_the_real_ones(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of an error is what the command prints for the README's scenario with two mistakes in it."""
    good = blocks(root / "README.md", "yaml")[0]
    bad = good.replace("concurrency: 4", "concurency: 4").replace("median: 80 ms", "median: 80")
    assert bad != good
    (tmp_path / "support.yaml").write_text(bad, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["check", "support.yaml"]) == 2
    assert capsys.readouterr().err == blocks(root / "README.md", "text")[1]


def test_the_reference_is_that_of_the_specs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/scenario.md is what `coordsim schema --markdown` prints; write it anew after a change of the specs."""
    assert main(["schema", "--markdown"]) == 0
    assert capsys.readouterr().out == (root / "docs" / "scenario.md").read_text(encoding="utf-8")
