"""The repository keeps its own promises: files that must agree do, and commands that are named exist."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
import yaml

import t2v_mini
from t2v_mini.world import judge
from tools import stored_outputs
from tools.address import current_slug, disagreements
from tools.project import MACHINE_PATH, ROOT, project_files, pyproject, read_text, requirements

EXTRAS = ("notebooks", "book", "dev")
CONDA_NAMES = {"torch": "pytorch", "open_clip_torch": "open-clip-torch", "playwright": "playwright-python"}
IMPORT_NAMES = {"open_clip_torch": "open_clip", "pillow": "PIL"}
# Escaped dots, so that this file does not hold what it looks for.
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org|npmjs\.(?:com|org)|\bdeb\.debian\.org|\banaconda\.org")
MAX_LINES = 350
DOCUMENTS = ("README.md", "CONTRIBUTING.md")


def name_and_bounds(requirement: str) -> tuple[str, str]:
    """("torch", ">=2.6") of "torch>=2.6"; what follows a semicolon is left out."""
    name, bounds = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*([^;]*?)\s*(?:;.*)?", requirement).groups()
    return name.lower(), bounds.replace(" ", "")


def test_environment_yml_is_in_step_with_pyproject():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (by_pip,) = (part["pip"] for part in listed if isinstance(part, dict))
    conda = dict(name_and_bounds(line) for line in listed + by_pip if isinstance(line, str))
    assert conda.pop("python") == pyproject()["project"]["requires-python"]
    assert conda.pop("pip") == ""
    pip = dict(name_and_bounds(line) for line in requirements(EXTRAS))
    assert conda == {CONDA_NAMES.get(name, name): bounds for name, bounds in pip.items()}
    assert set(pyproject()["project"]["optional-dependencies"]) == set(EXTRAS)


@pytest.mark.parametrize("requirement", requirements(EXTRAS))
def test_requirements_have_a_lower_bound_and_no_pin(requirement):
    _, bounds = name_and_bounds(requirement)
    assert re.fullmatch(r">=[\d.]+(,<\d+)?", bounds)


def test_core_requirements_are_what_the_package_imports():
    imported = set()
    for path in (ROOT / "t2v_mini").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            imported |= {name.split(".")[0] for name in names}
    imported -= set(sys.stdlib_module_names) | {"t2v_mini"}
    # Only notebooks use these, and the `notebooks` extra brings them.
    imported -= {"IPython", "ipywidgets"}
    core = {IMPORT_NAMES.get(name, name) for name, _ in map(name_and_bounds, requirements())}
    assert imported == core


def test_versions_agree():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == t2v_mini.__version__
    assert pyproject()["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "t2v_mini.__version__"}


def test_every_link_leads_to_the_address_in_pyproject():
    assert disagreements() == []
    readme = (ROOT / "README.md").read_text()
    assert f"colab.research.google.com/github/{current_slug()}/" in readme


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_documents_exist(document):
    text = (ROOT / document).read_text()
    code = "\n".join(map("".join, re.findall(r"```bash\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)))
    targets = set(re.findall(r"(?<![\w-])make ([a-z]+(?:-[a-z]+)*)", code))
    assert targets and targets <= make_targets()
    modules = set(re.findall(r"python -m ((?:tools|experiments)\.\w+)", code))
    assert modules and all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in modules)


def test_every_target_is_phony_and_explained():
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    assert phony == make_targets()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_in_documents_lead_to_files(document):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    colab = re.findall(r"/blob/main/(notebooks/[^)\s]+)", (ROOT / document).read_text())
    missing += [link for link in colab if not (ROOT / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_training_times_in_documents_are_those_of_the_cards(document):
    cards = (ROOT / "t2v_mini" / "pretrained").glob("*.md")
    # The first such row: weights that start from others name those first, which were trained from scratch.
    measured = {card.stem: re.search(r", (\d+) minutes \|$", card.read_text(), re.M)[1] for card in cards}
    said = dict(re.findall(r"`(\w+)` in (\d+) minutes", (ROOT / document).read_text()))
    assert said == measured


def test_a_target_and_the_command_beside_it_run_the_same_modules():
    makefile, readme = ((ROOT / name).read_text() for name in ("Makefile", "README.md"))
    module = re.compile(r"-m ((?:tools|experiments)\.\w+)")
    rows = re.findall(r"^\| `make ([a-z-]+)` \| ([^|]*) \|", readme, re.MULTILINE)
    assert len(rows) == 6
    for target, command in rows:
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
        assert module.findall(recipe) == module.findall(command), target


@pytest.mark.parametrize("command", ["generate", "judge", "world", "evaluate", "info"])
def test_the_command_line_of_the_readme_is_understood(command):
    (line,) = re.findall(rf"^t2v-mini {command} ?([^#\n]*)", (ROOT / "README.md").read_text(), re.MULTILINE)
    options = set(re.findall(r"--[a-z]+", line))
    shown = subprocess.run(
        [sys.executable, "-m", "t2v_mini.cli", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert options <= set(re.findall(r"--[a-z]+", shown))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "t2v_mini").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_module_fits_in_one_reading(path):
    assert len(path.read_text().splitlines()) < MAX_LINES


def test_no_file_holds_a_machine_path_or_the_host_of_a_registry():
    found = []
    for path in project_files():
        if "vendor" in path.parts:
            continue
        text = stored_outputs.BASE64.sub("", read_text(path) or "")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in REGISTRY.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("room", "imported", "kept"),
    [
        ("world", "files", True),
        ("world", "pipeline", False),
        ("layers", "diffusion", False),
        ("data", "viz", False),
    ],
)
def test_the_contract_refuses_imports_upwards_and_sideways(room, imported, kept, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "t2v_mini",
        tmp_path / "t2v_mini",
        ignore=shutil.ignore_patterns("pretrained", "results", "__pycache__"),
    )
    with (tmp_path / "t2v_mini" / room / "__init__.py").open("a") as file:
        file.write(f"\nimport t2v_mini.{imported}\n")
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode == 0) is kept, done.stdout
    assert (f"t2v_mini.{room} -> t2v_mini.{imported}" in done.stdout) is not kept


def test_what_is_looked_for_is_found():
    assert MACHINE_PATH.search("see /" + "home/me/clip.gif")
    assert REGISTRY.search("from https://" + "pypi" + ".org/simple")
    assert ROOT / "README.md" in project_files() and ROOT / "tests" / "test_repository.py" in project_files()


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after the statement."""
    program = (
        f"{statement}\nimport sys, json; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["t2v_mini", "t2v_mini.cli"])
def test_importing_is_light(module):
    heavy = {"torch", "numpy", "matplotlib", "av", "PIL", "einops", "jaxtyping", "safetensors"}
    assert loaded_by(f"import {module}") & heavy == set()
    assert "torch" in loaded_by("import t2v_mini.pipeline")


def test_help_takes_less_than_a_second():
    def processor_seconds() -> float:
        # Processor time and not time on the clock: other tests run beside this one.
        before = os.times()
        subprocess.run([sys.executable, "-m", "t2v_mini.cli", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(processor_seconds() for _ in range(3)) < 1


def test_shapes_are_checked_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError, match="video"):
        judge(torch.zeros(1, 16, 32, 32), ["a red circle"])


@pytest.mark.wrong_shapes
def test_a_marked_test_sees_the_error_of_the_code():
    with pytest.raises(ValueError, match="video"):
        judge(torch.zeros(1, 16, 32, 32), ["a red circle"])


def test_package_data_is_declared():
    patterns = pyproject()["tool"]["setuptools"]["package-data"]["t2v_mini"]
    shipped = {
        path
        for path in (ROOT / "t2v_mini").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    declared = {path for pattern in patterns for path in (ROOT / "t2v_mini").glob(pattern)}
    assert shipped == declared


def test_the_ci_script_is_executable_and_well_formed():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert "make test" in script.read_text()


def test_root_is_the_repository():
    assert Path(t2v_mini.__file__).parent.parent == ROOT
