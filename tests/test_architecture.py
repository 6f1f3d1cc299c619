"""Imports point down only, files stay small, and nothing heavy is loaded by an import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "welltuned"
FLOORS = [
    {"__main__"},
    {"cli"},
    {"server"},
    {"report"},
    {"plots"},
    {"sklearn", "boosting", "networks", "keras_tuner", "hydra", "distributed", "trackers"},
    {"study"},
    {"stats"},
    {"samplers", "schedulers", "executors", "storage"},
    {"surrogate", "pareto", "hypergrad"},
    {"evaluation", "relay"},
    {"live"},
    {"history"},
    {"curves"},
    {"space", "trial", "streams"},
    {"settings", "later"},
    {"errors"},
]
LEVEL = {room: i for i, floor in enumerate(FLOORS) for room in floor}
WAISTS = FLOORS[8]
# a history counts non-dominated trials, statistics are made of samplers' draws: mathematics without state
MATHEMATICS = {("history", "pareto")}


def rooms():
    return sorted(p for p in SOURCE.rglob("*.py") if "testing" not in p.parts and p != SOURCE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("welltuned"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found - {"__version__"}


@pytest.mark.parametrize("path", rooms(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path):
    here = room_of(path)
    for there in imported(path) - {here}:
        assert LEVEL[here] < LEVEL[there] or (here, there) in MATHEMATICS, f"{here} imports {there}"


@pytest.mark.parametrize("path", rooms(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_the_waists_do_not_know_each_other(path):
    here = room_of(path)
    if here in WAISTS:
        assert not imported(path) & (WAISTS - {here})


@pytest.mark.parametrize("path", rooms(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_readable(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 640
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or (node.end_lineno or 0) - body[0].lineno < 60, node.name


@pytest.mark.parametrize("path", rooms(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_public_things_say_what_they_are(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(m.partition('.')[0] for m in sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_d23_importing_loads_nothing_heavy():
    """Importing the package is light: whatever is heavy is loaded when it is used."""
    assert not loaded_by("import welltuned") & {
        "numpy",
        "scipy",
        "sklearn",
        "rich",
        "click",
        "plotly",
        "pandas",
        "yaml",
    }
    assert not loaded_by("from welltuned import Study, Space") & {"sklearn", "rich", "click", "plotly", "pandas"}


def test_d23_dependencies_are_few_and_nothing_is_compiled():
    """There are few dependencies, each with a reason in the architecture, and no compiler is needed."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {d.partition(">")[0] for d in project["dependencies"]}
    reasons = (SOURCE.parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(names) <= 7
    assert all(name in reasons for name in names)
    assert not [p for p in SOURCE.rglob("*") if p.suffix in (".c", ".pyx", ".so", ".cpp", ".rs")]


def test_d23_every_public_name_can_be_imported():
    """Every name that the package lists is there."""
    import welltuned as wt

    assert set(wt.__all__) <= set(dir(wt))
    for name in wt.__all__:
        assert getattr(wt, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = wt.nonsense


def test_what_is_done_with_a_study_needs_no_import_of_its_own():
    loaded = loaded_by("import welltuned as wt; wt.report.write_report, wt.stats.importance, wt.plots.slices, dir(wt)")
    assert not loaded & {"plotly", "pandas", "sklearn"}
