"""The tables of programs: what they name exists, what is unknown is answered with what there is, and each takes --help."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from shared.config import REPO_ROOT, Choice, ConfigError, Section, load_config, read_program, to_yaml
from shared.data.sources import SOURCES
from shared.errors import UserError
from shared.help import describe
from shared.programs import Program, all_programs, find_program, main, program_of, programs_of
from shared.schemas import main as write_schemas


class Training(Section):
    flag: bool = False
    kind: Literal["a", "b"] = "a"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_programs_there_are() -> None:
    methods = {
        f"{method}_modified.{stage}"
        for method in ("st_mem", "ecg_jepa")
        for stage in ("pretrain", "finetune", "evaluate")
    }
    assert methods | {"st_mem_modified.triplet", "st_mem_modified.vqvae", "shared.data.prepare"} <= set(all_programs())


def run_by(program: Program) -> Any:
    """The module that `python -m` runs: of a package its `__main__`."""
    module = importlib.import_module(program.module)
    return importlib.import_module(f"{program.module}.__main__") if hasattr(module, "__path__") else module


@pytest.mark.parametrize("name", all_programs())
def test_what_a_table_names_is_there(name: str) -> None:
    """Also that the program reads for the name, and with the class, that its table gives it."""
    program = find_program(name)
    assert program is programs_of(name.rpartition(".")[0])[name]
    config_class = program.config_class()
    assert isinstance(config_class, Choice) or issubclass(config_class, Section)
    module = run_by(program)
    source = Path(str(module.__file__)).read_text()
    class_name = program.config.partition(":")[2]
    assert f'config_from_cli({class_name}, argv, "{name}")' in source
    assert getattr(module, class_name) is config_class


@pytest.mark.parametrize("name", all_programs())
def test_help_of_every_program_lists_its_own_keys(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = find_program(name)
    with pytest.raises(SystemExit) as end:
        run_by(program).main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert f"program: {name}" in text
    config_class = program.config_class()
    for one in config_class.classes.values() if isinstance(config_class, Choice) else [config_class]:
        for key in one.model_fields:
            assert f"\n{key} " in text or f"\n{key}." in text, f"{name} --help does not list {key}"


def test_help_of_prepare_lists_each_source() -> None:
    lines = describe(find_program("shared.data.prepare").config_class())
    assert lines.count("out (required)  (path)  folder of the store to write") == 1
    ptbxl, ludb = lines.index("source=ptbxl:"), lines.index("source=ludb:")
    assert any(line.startswith("min_likelihood = null") for line in lines[ptbxl:ludb])


def test_listing_programs_imports_none_of_them() -> None:
    code = "import sys; from shared.programs import all_programs; all_programs(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas"} & set(found.stdout.split())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("st_mem_modified.pretrian", "st_mem_modified.pretrain"),
        ("st_mem_modified.vqvae.train", "st_mem_modified.vqvae"),
        ("st_mem.triplet", "st_mem_modified.triplet"),
        ("pretrain", None),
        ("", None),
        ("os.path", None),
        (".a.b", None),
        ("a..b", None),
    ],
)
def test_an_unknown_program_is_answered_with_what_there_is(name: str, nearest: str | None) -> None:
    with pytest.raises(UserError) as error:
        find_program(name)
    text = str(error.value)
    assert f"unknown program {name!r}" in text and ", ".join(all_programs()) in text
    assert (f"did you mean {nearest!r}?" in text) == (nearest is not None)


def test_a_table_that_cannot_be_imported_is_no_empty_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_method").mkdir()
    (tmp_path / "broken_method" / "programs.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        programs_of("broken_method")


def test_a_package_of_somebody_else_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_method").mkdir()
    (tmp_path / "their_method" / "programs.py").write_text(
        "from shared.programs import Program\nPROGRAMS = {'their_method.pretrain': Program('a:B', 'their_method.go')}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert find_program("their_method.pretrain").module == "their_method.go"


# ---------------------------------------------------------------- what a YAML says


def test_program_is_no_key_and_is_checked_where_it_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "x.yaml", "program: st_mem_modified.vqvae\nflag: true\n")
    assert load_config(Training, path).flag
    assert load_config(Training, path, program="st_mem_modified.vqvae").flag
    assert load_config(Training, write(tmp_path / "old.yaml", "flag: true\n"), program="st_mem_modified.vqvae").flag
    with pytest.raises(
        ConfigError,
        match=r"x\.yaml is for st_mem_modified\.vqvae, not for st_mem_modified\.pretrain.*bash scripts/run\.sh .*x\.yaml",
    ):
        load_config(Training, path, program="st_mem_modified.pretrain")
    with pytest.raises(UserError, match="unknown program 'st_mem_modified.vqva'; did you mean 'st_mem_modified.vqvae'"):
        load_config(Training, path, ["program=st_mem_modified.vqva"], "st_mem_modified.pretrain")


def test_program_is_inherited_and_overridden_as_any_key(tmp_path: Path) -> None:
    base = write(tmp_path / "base.yaml", "program: a.b\n")
    child = write(tmp_path / "child.yaml", f"base: {base}\n")
    assert read_program(child) == "a.b"
    assert read_program(child, ["program=c.d"]) == "c.d"
    assert read_program(write(tmp_path / "own.yaml", f"base: {base}\nprogram: e.f\n")) == "e.f"
    assert read_program(write(tmp_path / "none.yaml", "flag: true\n")) is None


def test_bases_of_several_programs_need_a_word(tmp_path: Path) -> None:
    bases = [write(tmp_path / f"{name}.yaml", f"program: {name}.b\n") for name in "ac"]
    plain = write(tmp_path / "plain.yaml", "flag: true\n")
    with pytest.raises(
        ConfigError, match="bases of several programs and does not say its own: add a line `program: …`"
    ):
        read_program(write(tmp_path / "x.yaml", f"base: [{bases[0]}, {plain}, {bases[1]}]\n"))
    assert read_program(write(tmp_path / "y.yaml", f"base: [{bases[0]}, {bases[1]}]\nprogram: c.b\n")) == "c.b"
    assert read_program(write(tmp_path / "z.yaml", f"base: [{plain}, {bases[0]}]\n")) == "a.b"
    with pytest.raises(ConfigError, match="`program:` is 3; expected a name"):
        read_program(plain, ["program=3"])


def test_saved_config_names_its_program_and_the_checkpoint_does_not(tmp_path: Path) -> None:
    config = load_config(Training, None, ["flag=true"], "st_mem_modified.vqvae")
    changed = config.model_copy(update={"kind": "b"})
    assert yaml.safe_load(to_yaml(changed)) == {"program": "st_mem_modified.vqvae", **changed.model_dump(mode="json")}
    path = write(tmp_path / "config.yaml", to_yaml(config))
    assert read_program(path) == "st_mem_modified.vqvae"
    assert load_config(Training, path, program="st_mem_modified.vqvae") == config
    assert "program" not in config.model_dump()
    assert "program" not in yaml.safe_load(to_yaml(Training()))


# ---------------------------------------------------------------- what the scripts ask


@pytest.mark.parametrize(
    ("argv", "answer"),
    [
        (["st_mem_modified.vqvae", "optim.lr=1"], "parallel st_mem_modified.vqvae.train"),
        (["configs/st_mem/vqvae_finetune.yaml"], "parallel st_mem_modified.vqvae.train"),
        (["configs/ablations/hybrid_add.yaml", "x=1"], "parallel ecg_jepa_modified.pretrain"),
        (["configs/st_mem/inference_clusters.yaml"], "parallel st_mem_modified.evaluate"),
        (["", "configs/data/ludb.yaml", "root=x"], "single shared.data.prepare"),
    ],
)
def test_module_of_a_program_or_yaml(argv: list[str], answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(argv)
    assert capsys.readouterr().out.strip() == answer


@pytest.mark.parametrize(("argv", "code"), [([], 2), ([""], 2), (["--help"], 0)])
def test_usage_lists_the_programs(argv: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == code
    assert "program: st_mem_modified.vqvae" in capsys.readouterr().out


def test_a_yaml_without_program_is_told_which_line_to_add(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("optim: {lr: 1e-3}\n")
    with pytest.raises(
        UserError, match=r"old\.yaml does not say .* Add the line `program: NAME`, one of: .*shared\.data\.prepare"
    ):
        main([str(path)])
    assert program_of(str(path), ["program=st_mem_modified.pretrain"]) == "st_mem_modified.pretrain"
    path.write_text("program: st_mem_modified.evalute\n")
    with pytest.raises(UserError, match=r"did you mean 'st_mem_modified\.evaluate'"):
        main([str(path)])


# ---------------------------------------------------------------- schemas


def test_schema_of_a_choice_holds_each_source_to_its_own_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_schemas([str(tmp_path)])
    assert f"wrote {tmp_path / 'shared.data.prepare.json'}" in capsys.readouterr().out
    schema = json.loads((tmp_path / "shared.data.prepare.json").read_text())
    by_source = {part["properties"]["source"]["const"]: part["properties"] for part in schema["$defs"].values()}
    assert "min_likelihood" in by_source["ptbxl"] and "min_likelihood" not in by_source["ludb"]
    assert len(schema["anyOf"]) == len(by_source)
    assert set(by_source) == set(SOURCES)


@pytest.mark.parametrize("argv", [[], ["a", "b"], ["--help"], ["out=x"]])
def test_schemas_say_how_they_are_called(argv: list[str]) -> None:
    with pytest.raises(UserError, match="usage: python -m shared.schemas FOLDER"):
        write_schemas(argv)
