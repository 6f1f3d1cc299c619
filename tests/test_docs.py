"""The documentation is run: Python blocks of a page share one namespace, console blocks run in the same folder."""

import doctest
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import welltuned
from welltuned import EXECUTORS, SAMPLERS, SCHEDULERS, STORAGES, hypergrad
from welltuned.cli.app import app
from welltuned.hypergrad import METHODS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
# the packages that the line above a block says it needs, its language, and its text
BLOCK = re.compile(r"^(?:<!-- needs ([\w ]+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w-]+\.\w+)\n")


def run_console(block: str, folder: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for line in block.splitlines():
        if line.startswith("$ "):
            # braces are ours, not the shell's
            command = line[2:].replace("{", "'{").replace("}", "}'")
            done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.fixture
def usual_precision():
    """Pages may choose another for PyTorch; the next page starts with single precision again."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_default_dtype(sys.modules["torch"].float32)


@pytest.mark.timeout(600)
# the Chinese page has the same blocks as the English one, see below
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "README.zh-CN.md"], ids=lambda p: p.name)
@pytest.mark.usefixtures("usual_precision")
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, lacking = {"__name__": "__main__"}, []
    for needs, language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if absent := [name for name in needs.split() if importlib.util.find_spec(name) is None]:
            lacking += absent
        elif named := FILE.match(block):
            Path(named[1]).write_text(block, encoding="utf-8")
        elif language == "python":
            exec(compile(block, f"{page.name}", "exec"), namespace)
        elif language == "console":
            run_console(block, tmp_path)
    if lacking:
        pytest.skip(f"all ran but what needs {', '.join(sorted(set(lacking)))}")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def everything() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_names_of_hypergradients_exist():
    names = set(re.findall(r"\bhypergrad\.([A-Za-z]\w*)", everything()))
    assert {name for name in names - {"md"} if not hasattr(hypergrad, name)} == set()


@pytest.mark.parametrize("name", [*SAMPLERS, *SCHEDULERS, *STORAGES, *EXECUTORS, *METHODS])
def test_every_registered_name_is_documented(name):
    assert re.search(rf"\b{name}\b", everything())


@pytest.mark.parametrize("command", sorted(app.commands))
def test_every_command_is_documented(command):
    assert f"welltuned {command}" in everything()


@pytest.mark.parametrize(
    "option", sorted({o for c in app.commands.values() for p in c.params for o in p.opts if o.startswith("--")})
)
def test_every_option_is_documented(option):
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", everything())


def test_the_chinese_readme_has_the_same_code_as_the_english_one():
    english, chinese = (
        [
            (needs, language, re.sub(r"  # .*", "", block))
            for needs, language, block in BLOCK.findall(p.read_text(encoding="utf-8"))
            if language != "text"
        ]
        for p in PAGES[:2]
    )
    assert english == chinese


MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(welltuned.__path__, "welltuned.")
    if ">>>"
    in Path(m.module_finder.path, f"{m.name.split('.')[-1]}{'/__init__' * m.ispkg}.py").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_reference_is_made_without_a_warning(tmp_path):
    """``make reference`` lists the modules that people import; whatever pdoc cannot show is an error here."""
    pdoc = pytest.importorskip("pdoc")
    done = subprocess.run(["make", "-n", "reference"], cwd=ROOT, capture_output=True, text=True, check=True)
    parts = re.findall(r"(?<= )welltuned[\w.]*", done.stdout)
    assert {"welltuned", "welltuned.sklearn", "welltuned.hypergrad"} <= set(parts)
    pdoc.render.configure(docformat="numpy", show_source=False)
    pdoc.pdoc(*parts, output_directory=tmp_path)
    for part in parts:
        page = (tmp_path / f"{part.replace('.', '/')}.html").read_text(encoding="utf-8")
        names = getattr(importlib.import_module(part), "__all__", ())
        assert all(f'id="{name}"' in page for name in names if name != "__version__"), part
