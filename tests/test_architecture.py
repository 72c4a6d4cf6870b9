"""Imports go one way, entry points stay apart, and nothing is pickled: read from the sources, without running them."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from pathlib import Path

import pytest

from shared.config import REPO_ROOT

METHODS = tuple(sorted(path.parent.name for path in REPO_ROOT.glob("*_modified/programs.py")))
PACKAGES = ("shared", *METHODS)

TRAINING = {
    "checkpoints",
    "epochs",
    "files",
    "monitors",
    "optim",
    "ranks",
    "run",
    "run_folder",
    "run_record",
    "selection",
}
GROUND = {"config", "config_keys", "errors", "lead_rows", "leads", "signals"}
BELOW = GROUND | {"measurements", "data", "nn"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "nn": {"errors", "leads"},
    "signals": set(),
    "files": {"errors"},
    "checkpoint_writer": {"run_folder"},
    "sharded": {"errors", "nn", "run"},
    "run_folder": {"checkpoints", "config", "errors", "files", "run", "run_record", "sharded"},
    "runs": {"checkpoints", "config", "errors", "files", "run_folder", "run_record"},
    "run_record": {"config"},
    "epochs": {"errors", "run"},
    "monitors": BELOW | TRAINING | {"epochs", "statistics"},
    "encoders": BELOW | {"checkpoints", "outside"},
    "apply": BELOW | {"embeddings", "encoders", "files", "outside", "ranks"},
    "outside": {"config_keys", "data", "errors"},
    "benchmark": BELOW | {"checkpoints", "optim", "plots", "programs", "ranks", "run", "run_record"},
    "jobs": {"config", "errors", "programs"},
    "sweep": {
        "config",
        "errors",
        "files",
        "jobs",
        "programs",
        "optim",
        "data",
        "statistics",
        "plots",
        "evaluation",
        "finetune",
    },
    "help": {"config", "config_keys"},
    "programs": {"config", "errors"},
    "schemas": {"config", "errors", "programs"},
    "config_keys": {"errors"},
    "config": {"config_keys", "errors"},
    "leads": {"errors"},
    "lead_rows": {"leads"},
    "checkpoints": {"config", "errors", "files"},
    "optim": {"config", "errors"},
    "run": {
        "config",
        "errors",
        "checkpoint_writer",
        "checkpoints",
        "epochs",
        "files",
        "ranks",
        "run_folder",
        "run_record",
        "sharded",
        "speed",
    },
    "speed": {"checkpoints", "config", "run"},
    "ranks": {"errors"},
    "selection": {"run"},
    "measurements": GROUND,
    "features": {"measurements"},
    "data": GROUND | {"nn", "ranks", "files", "help", "measurements", "plots", "programs"},
    "statistics": {"errors", "nn"},
    "plots": {"leads", "statistics"},
    "embeddings": {"data", "errors", "ranks"},
    "finetune": BELOW | TRAINING | {"statistics", "plots", "embeddings", "evaluation.config", "evaluation.following"},
    "triplet": BELOW | TRAINING | {"statistics", "plots", "embeddings", "evaluation.config"},
    "evaluation": BELOW | TRAINING | {"statistics", "plots", "embeddings", "finetune", "jobs", "outside", "programs"},
}
"""Part of `shared` → the other parts it may import; `part.module` allows that module only. A new part is given its place here
first."""

IMPORTED_COMMANDS = {"shared.programs"}
"""Libraries that have a small command of their own: `python -m shared.programs` says what runs a YAML."""


def module_name(path: Path) -> str:
    parts = path.relative_to(REPO_ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPO_ROOT / folder).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file may import, anywhere in it, and the line; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; name the package"
            yield str(node.module), node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def is_entry_point(path: Path) -> bool:
    return any(
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.left, ast.Name)
        and node.test.left.id == "__name__"
        for node in tree_of(path).body
    )


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def where(path: Path, line: int, name: str) -> str:
    return f"{path.relative_to(REPO_ROOT)}:{line} imports {name}"


def test_there_is_something_to_read() -> None:
    names = {module_name(path) for path in sources(*PACKAGES)}
    assert {"shared.config", "shared.data.store", "shared.data", "st_mem_modified.model"} <= names
    assert ("shared.config", 8) not in list(imports(REPO_ROOT / "shared" / "config.py"))
    assert "shared.errors.UserError" in {name for name, _ in imports(REPO_ROOT / "shared" / "config.py")}


@pytest.mark.parametrize(("package", "sibling"), [*permutations(METHODS, 2)])
def test_siblings_never_import_each_other(package: str, sibling: str) -> None:
    wrong = [where(p, line, n) for p in sources(package) for n, line in imports(p) if below(n, sibling)]
    assert wrong == []


def test_shared_never_imports_upward() -> None:
    above = (*METHODS, "scripts", "tests")
    wrong = [where(p, line, n) for p in sources("shared") for n, line in imports(p) if any(below(n, a) for a in above)]
    assert wrong == []


def test_packages_import_neither_tests_nor_scripts() -> None:
    wrong = [
        where(p, line, n)
        for p in sources(*METHODS)
        for n, line in imports(p)
        if below(n, "tests") or below(n, "scripts")
    ]
    assert wrong == []


def test_a_script_serves_one_method() -> None:
    for path in sources("scripts"):
        methods = {method for name, _ in imports(path) for method in METHODS if below(name, method)}
        assert len(methods) <= 1, f"{path.relative_to(REPO_ROOT)} imports {methods}"


def test_inside_shared_imports_go_one_way() -> None:
    wrong = []
    for path in sources("shared"):
        own = module_name(path).split(".")
        if len(own) == 1:
            continue
        assert own[1] in ALLOWED, f"shared.{own[1]} has no place in ALLOWED: say what it may import"
        for name, line in imports(path):
            allowed = (f"shared.{part}" for part in (*ALLOWED[own[1]], own[1]))
            if name.startswith("shared.") and not any(below(name, part) for part in allowed):
                wrong.append(where(path, line, name))
    assert wrong == []


def test_entry_points_never_import_one_another() -> None:
    paths = sources(*PACKAGES, "scripts")
    commands = {module_name(path) for path in paths if is_entry_point(path)}
    assert {"shared.data.prepare", "st_mem_modified.pretrain", "st_mem_modified.evaluate"} <= commands
    commands -= IMPORTED_COMMANDS
    wrong = [
        where(path, line, name)
        for path in paths
        if module_name(path) in commands
        for name, line in imports(path)
        if name in commands
        # A script may call a library function of `prepare`, which is no run of a method.
        and not (module_name(path).startswith("scripts.") and below(name, "shared"))
    ]
    assert wrong == []


def test_every_entry_point_of_a_package_speaks_to_the_user() -> None:
    """`entry_point` turns a UserError into a message; without it the user sees a traceback."""
    for path in sources(*PACKAGES):
        if is_entry_point(path):
            block = path.read_text().split("if __name__ ==", 1)[1]
            assert "entry_point(" in block, path


FORBIDDEN_MODULES = ("cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal")
FORBIDDEN_CALLS = ("read_pickle", "to_pickle")
HARMLESS_OF_PICKLE = {"pickle", "pickle.UnpicklingError", "pickle.PicklingError"}
"""The errors may be caught: they are what `torch.load(weights_only=True)` raises."""


def called(node: ast.Call) -> str:
    """`torch.load` of `torch.load(…)`."""
    return ast.unparse(node.func)


def test_nothing_is_pickled() -> None:
    wrong = []
    for path in sources(*PACKAGES, "scripts"):
        wrong += [where(path, line, n) for n, line in imports(path) if n.split(".")[0] in FORBIDDEN_MODULES]
        used = {ast.unparse(node) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
        used |= {name for name, _ in imports(path)}
        wrong += [f"{path}: {name}" for name in used if below(name, "pickle") and name not in HARMLESS_OF_PICKLE]
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            bad = (
                (called(node) == "torch.load" and options.get("weights_only") != "True")
                or called(node) in ("joblib.dump", "joblib.load")
                or called(node).split(".")[-1] in FORBIDDEN_CALLS
                or options.get("allow_pickle", "False") != "False"
            )
            if bad:
                wrong.append(f"{path.relative_to(REPO_ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_modules_is_a_package(package: str) -> None:
    for path in sources(package):
        assert (path.parent / "__init__.py").is_file(), path


def test_sources_name_no_place_of_one_machine() -> None:
    for path in sources(*PACKAGES, "scripts"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(("/home/", "/Users/", "/root/", "/mnt/", "/work/")), (
                    f"{path.relative_to(REPO_ROOT)}:{node.lineno} {node.value!r}"
                )


# ---------------------------------------------------------------- what one run must be read with


def loaded_with(module: str) -> tuple[list[Path], set[str]]:
    """Files of the project that hold code, and names of all modules, that importing a module loads."""
    code = f"import sys, {module}; print(*(f'{{n}}={{getattr(m, \"__file__\", None)}}' for n, m in sys.modules.items()), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    own = {Path(file) for name, file in found.items() if name.split(".")[0] in PACKAGES and file != "None"}
    own.discard(REPO_ROOT / "shared" / "__init__.py")  # a door: Python passes it on the way to anything, no run uses it
    return sorted(path for path in own if path.read_text().strip()), set(found)


@pytest.mark.parametrize("method", METHODS)
def test_one_pretraining_is_read_in_one_sitting(method: str) -> None:
    """At most 20 files and 3 500 lines; nothing that evaluates or fine-tunes, and no library that it does not use."""
    files, modules = loaded_with(f"{method}.pretrain")
    lines = sum(len(path.read_text().splitlines()) for path in files)
    listed = "\n".join(path.relative_to(REPO_ROOT).as_posix() for path in files)
    assert len(files) <= 20 and lines <= 3500, f"{len(files)} files, {lines} lines:\n{listed}"
    parts = {"shared.evaluation", "shared.finetune", "shared.triplet", "shared.statistics", "shared.plots"}
    parts |= {"shared.measurements", f"{method}.vqvae", f"{method}.finetune", f"{method}.evaluate"}
    assert not parts & modules
    slow = {"pytorch_metric_learning", "vector_quantize_pytorch", "timm", "torchvision", "matplotlib", "sklearn"}
    assert not slow & {name.split(".")[0] for name in modules}


@pytest.mark.parametrize("module", ["shared.finetune.train", "shared.triplet.train", "st_mem_modified.vqvae.model"])
def test_what_trains_does_not_load_what_draws_and_scores(module: str) -> None:
    _, modules = loaded_with(module)
    assert not {"shared.evaluation.evaluate", "shared.evaluation.report", "pytorch_metric_learning"} & modules


@pytest.mark.parametrize(
    "name",
    [
        "shared.data.store.ECGStore",
        "shared.features.FEATURES",
        "shared.features.extract_features",
        "st_mem_modified.model.load_official",
        "st_mem_modified.triplet.TripletModel",
        "st_mem_modified.vqvae.VQVAE",
        "ecg_jepa_modified.cropa.cropa_attention",
        "ecg_jepa_modified.model.load_official",
    ],
)
def test_names_that_users_import_stay(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)
