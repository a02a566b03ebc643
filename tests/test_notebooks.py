"""The notebooks: each runs from top to bottom, is kept without outputs, asks a question first, and uses public names only.

In 03 the sliders are moved. tests/test_lab.py opens it in JupyterLab.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import coordsim as cs

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = (
    "01_first_run", "02_where_time_goes", "03_what_if", "04_scaling_laws", "05_capacity_plan", "06_calibrate", "07_faults",
)  # fmt: skip
LONGEST = 180  # s for a cell: a hang, not a limit of speed


def read(name: str) -> dict[str, Any]:
    """Return a notebook as it is kept."""
    kept: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return kept


def cells(name: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of the cells of a kind."""
    for cell in read(name)["cells"]:
        if cell["cell_type"] == kind:
            yield cell["id"], "".join(cell["source"])


def run(notebook: dict[str, Any]) -> dict[str, list[Any]]:
    """Execute a notebook in a kernel of its own, with no browser; return the outputs of its cells by name."""
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient")
    nbformat = pytest.importorskip("nbformat", reason="pip install nbformat")
    pytest.importorskip("ipywidgets", reason="widgets are an extra: pip install 'coordsim[notebook]'")
    node = nbformat.reads(json.dumps(notebook), as_version=4)
    nbclient.NotebookClient(
        node, timeout=LONGEST, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    return {cell.id: cell.get("outputs", []) for cell in node.cells}


def text(outputs: list[Any]) -> str:
    """Return what a cell printed."""
    return "".join(one["text"] for one in outputs if one["output_type"] == "stream" and one["name"] == "stdout")


def test_every_notebook_is_known() -> None:
    """A notebook that is not listed would go untested, and the table of the folder names each."""
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NOTEBOOKS)
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+)\]\(\1\.ipynb\)", table, re.MULTILINE) == list(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_without_outputs(name: str) -> None:
    """Neither outputs, counts nor the state of widgets are kept, and the file is written in one way."""
    kept = read(name)
    assert (kept["nbformat"], kept["nbformat_minor"]) == (4, 5)
    assert set(kept["metadata"]) == {"kernelspec", "language_info"}
    assert kept["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    assert all(cell["metadata"] == {} for cell in kept["cells"])
    written = json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8") == written


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_have_names_of_their_own(name: str) -> None:
    """Ids are words, each once, so that a change to one cell is a change to one cell."""
    ids = [cell["id"] for cell in read(name)["cells"]]
    assert len(set(ids)) == len(ids)
    assert [one for one in ids if not re.fullmatch(r"[a-z]+(-[a-z]+)*", one)] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_opens_with_its_question(name: str) -> None:
    """The first cell asks, the table of the folder asks the same, and text says after each cell of code what to see."""
    kinds = [cell["cell_type"] for cell in read(name)["cells"]]
    assert kinds == ["markdown", *["code", "markdown"] * (len(kinds) // 2)]
    _, first = next(cells(name, "markdown"))
    question = first.splitlines()[0].removeprefix("# ")
    assert question.endswith("?")
    assert question in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_uses_public_names_only(name: str) -> None:
    """The package is imported as `cs` and not from within, and each of its names is a public one."""
    code = [(cell, ast.parse(source)) for cell, source in cells(name, "code")]
    imported = [
        (getattr(node, "module", None), alias.name, alias.asname)
        for _, tree in code
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if "coordsim" in f"{getattr(node, 'module', '')}.{alias.name}"
    ]
    assert imported == [(None, "coordsim", "cs")]
    asked = {
        node.attr
        for _, tree in code
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cs"
    }
    assert asked
    assert asked <= set(cs._EXPORTS)
    hidden = [
        node.attr
        for _, tree in code
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr[0] == "_"
    ]
    assert hidden == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name != "03_what_if"])
def test_a_notebook_runs(name: str) -> None:
    """Every cell of code runs, and shows something, without a word on stderr."""
    found = run(read(name))
    code = [cell for cell, _ in cells(name, "code")]
    assert [cell for cell in code if not found[cell]] == []
    told = [one for cell in code for one in found[cell] if one["output_type"] == "stream" and one["name"] == "stderr"]
    assert [one["text"] for one in told] == []


# Beyond the last cell: every control back, then to and fro.
MOVES = """
def seen():
    return list(panel.figure.data[1].x), panel.exploration.runs, panel.status.value

speed = panel.controls["inference speed"]
panel.reset()
await panel.settled()
told = [seen()]
for label in ("4x", "1x", "4x"):
    speed.value = label
    await panel.settled()
    told.append(seen())
import json
print(json.dumps(told))
"""


@pytest.mark.slow
def test_the_sliders_of_what_if_move_the_chart() -> None:
    """A moved slider changes bars and status; coming back gives the same ones, with no further replication."""
    notebook = read("03_what_if")
    notebook["cells"].append(
        {"cell_type": "code", "id": "moves", "metadata": {}, "source": MOVES, "outputs": [], "execution_count": None}
    )
    found = run(notebook)
    (at_first, runs_first, _), moved, back, again = json.loads(text(found["moves"]))
    assert moved[0][0] < at_first[0]
    assert back[0] == at_first
    assert again[0] == moved[0]
    assert runs_first < moved[1] == back[1] == again[1]
    assert "8 of 8 replications" in moved[2]
    assert moved[2].count("±") >= 4  # T_total, p95, coordination, and the difference
    assert "T_total falls by" in moved[2]
    # What the text of the notebook says of its numbers.
    total, share = (
        [float(re.search(pattern, text(found[cell]))[1]) for cell in ("as-it-is", "faster")]  # type: ignore[index]
        for pattern in (r"T_total ([\d.]+) s", r"coordination ([\d.]+) %")
    )
    assert 4 < total[0] / total[1] < 5
    assert 20 < share[0] < 30
    assert share[1] > 50
