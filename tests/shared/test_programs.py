"""The tables of programs: what they name exists, what is unknown is answered with what there is, and each takes --help."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.config import REPO_ROOT, Choice, Section
from shared.errors import UserError
from shared.help import describe
from shared.programs import all_programs, find_program, main, program_of, programs_of
from shared.schemas import main as write_schemas


def test_the_programs_there_are() -> None:
    methods = {
        f"{method}_modified.{stage}"
        for method in ("st_mem", "ecg_jepa")
        for stage in ("pretrain", "finetune", "evaluate")
    }
    assert methods | {"st_mem_modified.triplet", "st_mem_modified.vqvae", "shared.data.prepare"} <= set(all_programs())


@pytest.mark.parametrize("name", all_programs())
def test_what_a_table_names_is_there(name: str) -> None:
    """Also that the program reads for the name, and with the class, that its table gives it."""
    program = find_program(name)
    assert program is programs_of(name.rpartition(".")[0])[name]
    config_class = program.config_class()
    assert isinstance(config_class, Choice) or issubclass(config_class, Section)
    module = importlib.import_module(program.module)
    source = Path(str(module.__file__)).read_text()
    class_name = program.config.partition(":")[2]
    assert f'config_from_cli({class_name}, argv, "{name}")' in source
    assert getattr(module, class_name) is config_class


@pytest.mark.parametrize("name", all_programs())
def test_help_of_every_program_lists_its_own_keys(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = find_program(name)
    with pytest.raises(SystemExit) as end:
        importlib.import_module(program.module).main(["--help"])
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
    assert any(line.startswith("min_likelihood = 0.0") for line in lines[ptbxl:ludb])


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


# ---------------------------------------------------------------- what the scripts ask


@pytest.mark.parametrize(
    ("argv", "answer"),
    [
        (["st_mem_modified.vqvae", "optim.lr=1"], "parallel st_mem_modified.vqvae.train"),
        (["configs/st_mem/vqvae_finetune.yaml"], "parallel st_mem_modified.vqvae.train"),
        (["configs/ablations/hybrid_add.yaml", "x=1"], "parallel ecg_jepa_modified.pretrain"),
        (["configs/st_mem/inference_clusters.yaml"], "single st_mem_modified.evaluate"),
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
    assert len(schema["anyOf"]) == len(by_source) == 4


@pytest.mark.parametrize("argv", [[], ["a", "b"], ["--help"], ["out=x"]])
def test_schemas_say_how_they_are_called(argv: list[str]) -> None:
    with pytest.raises(UserError, match="usage: python -m shared.schemas FOLDER"):
        write_schemas(argv)
