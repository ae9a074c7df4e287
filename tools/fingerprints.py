"""What a notebook's outputs depend on, as hashes: its code, the library's modules, weights and results.

The hashes mean the same under every Python version and in every fork: layout, comments, docstrings
and the project's public address do not enter them.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from t2v_mini.training.checkpoint import read_record
from tools.address import Addresses
from tools.project import ROOT

PACKAGE = "t2v_mini"
EXERCISES = f"{PACKAGE}.exercises"
# What loads weights by name, and the name that it takes when none is given.
ANY = "*"
LOADERS = {
    "from_pretrained": "mini",
    "get_config": ANY,
    "load_classifier": "classifier",
    "load_clip": "clip",
    "load_codec": "codec",
    "shipped_weights": ANY,
    "weights_path": ANY,
}
WEIGHTS_OF_CONFIG = ("codec", "text_weights")
RUN_AS_PYTHON = ("capture", "prun", "time", "timeit")  # cell magics whose body runs in the kernel


def sha256(text: str) -> str:
    """Hexadecimal SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def code_hash(sources: list[str], root: Path = ROOT) -> str:
    """One hash for a notebook's code cells, in their order."""
    return sha256(Addresses(root).neutral("\n# next cell\n".join(sources)))


def module_hashes(sources: list[str], root: Path = ROOT) -> dict[str, str]:
    """Every module of the package that the code imports, directly or not, with its hash."""
    addresses, hashes = Addresses(root), {}
    cells = [parse_cell(source) for source in sources]
    waiting = {name for tree in cells for name in _imports(tree, "", root) | _checks(tree, root)}
    while waiting:
        name = waiting.pop()
        path = _file(name, root)
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        hashes[name] = sha256(addresses.neutral(repr(_plain(tree))))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting |= _imports(tree, package, root) - hashes.keys()
    return dict(sorted(hashes.items()))


def weight_hashes(sources: list[str], root: Path = ROOT) -> dict[str, str]:
    """The shipped weights that cells load, and those that these need, with the hash of each file.

    A cell loads them by name, by a loader's default, or by what only a run can tell: then all of them count.
    """
    folder = root / PACKAGE / "pretrained"
    files = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    waiting, found = {name for source in sources for name in _named_weights(parse_cell(source))}, {}
    if ANY in waiting:
        waiting = set(files)
    while waiting:
        name = waiting.pop()
        if name in files and name not in found:
            found[name] = hashlib.sha256(files[name].read_bytes()).hexdigest()
            waiting |= _needed_weights(files[name])
    return {files[name].name: found[name] for name in sorted(found)}


def result_hashes(sources: list[str], root: Path = ROOT) -> dict[str, str]:
    """The results that cells load by name, `load_result("judge")`, with the hash of each file."""
    names = {name for source in sources for name in _first_strings(parse_cell(source), {"load_result"})}
    files = [root / PACKAGE / "results" / f"{name}.json" for name in sorted(names)]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


def parse_cell(source: str) -> ast.Module:
    """The syntax tree of a cell as IPython runs it: magics and shell lines become calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    head, _, body = source.lstrip().partition("\n")
    if head.startswith("%%"):
        source = body if head[2:].split(" ")[0] in RUN_AS_PYTHON else ""
    return ast.parse(TransformerManager().transform_cell(source))


def _first_strings(tree: ast.AST, functions: set[str]) -> Iterator[str]:
    """The first argument of each call of these functions, where it is a plain string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", None) in functions:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _named_weights(tree: ast.AST) -> Iterator[str]:
    """The weights that a cell asks a loader for, or `ANY` where it does not say which."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            loader = getattr(node.func, "id", getattr(node.func, "attr", None))
            if loader in LOADERS:
                named = node.args[:1] + [keyword.value for keyword in node.keywords if keyword.arg == "name"]
                first = named[0] if named else ast.Constant(LOADERS[loader])
                yield first.value if isinstance(first, ast.Constant) else ANY
        elif isinstance(node, ast.keyword) and node.arg in WEIGHTS_OF_CONFIG:
            yield node.value.value if isinstance(node.value, ast.Constant) else ANY


def _needed_weights(path: Path) -> set[str]:
    """The text encoder and the codec that a shipped model is trained and used with."""
    try:
        config = read_record(path)["config"]
    except ValueError:  # damaged: its own hash is all that counts
        return set()
    return {str(config.get("codec")), str(config["train"]["text_weights"])}


def _checks(tree: ast.AST, root: Path) -> set[str]:
    """The modules behind `check("2.3", ...)` and `hint("2.3")`: they are found by number, not imported."""
    chapters = {number.split(".")[0] for number in _first_strings(tree, {"check", "hint"})}
    names = {f"{EXERCISES}.chapter_{chapter:0>2}" for chapter in chapters}
    return {name for name in names if _file(name, root)}


def _file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imports(tree: ast.AST, package: str, root: Path) -> set[str]:
    """Modules of the package that the tree imports anywhere, also inside functions."""
    found = set()
    for name in _imported_names(tree, package):
        parts = name.split(".")
        if parts[0] == PACKAGE:
            # Importing a.b.c runs a and a.b as well. The last part may be a function and no module.
            found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return {name for name in found if _file(name, root)}


def _imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _plain(value: object) -> object:
    """A syntax tree as nested tuples, without docstrings and without fields that are empty.

    `ast.dump` would do, but its text differs between Python versions, and so would the hashes.
    """
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = dict(ast.iter_fields(value))
    if isinstance(value, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = [node for node in value.body if not _is_text(node)]
    if isinstance(value, ast.JoinedStr):
        # Some Python versions end an f-string with an empty piece.
        fields["values"] = [part for part in value.values if getattr(part, "value", None) != ""]
    return type(value).__name__, [
        (name, _plain(field)) for name, field in fields.items() if field is not None and field != []
    ]


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
