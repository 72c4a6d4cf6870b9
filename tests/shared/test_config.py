"""Configs are what their YAML and `key=value` say, and nothing wrong passes unseen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import Field, ValidationError

from shared.config import (
    REPO_ROOT,
    Choice,
    ConfigError,
    RepoPath,
    Section,
    config_from_cli,
    entry_point,
    load_config,
    repo_path,
    to_yaml,
)
from shared.errors import UserError
from shared.optim import OptimConfig


class Training(Section):
    optim: OptimConfig = OptimConfig()
    folds: tuple[int, ...] | None = None
    tasks: tuple[str, ...] = ()
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    out: RepoPath = Field(Path("runs/default"), validate_default=True)


class Other(Section):
    kind: Literal["other"]
    width: int = 3


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# ---------------------------------------------------------------- order of precedence


def test_key_value_beats_yaml_beats_base_beats_default(tmp_path: Path) -> None:
    first = write(tmp_path / "first.yaml", "optim: {lr: 1, epochs: 1, batch_size: 1}\ntasks: [x]\n")
    second = write(tmp_path / "second.yaml", "optim: {lr: 2, epochs: 2}\n")
    top = write(tmp_path / "top.yaml", f"base: [{first}, {second}]\noptim:\n  epochs: 3\n")
    config = load_config(Training, top, ["optim.min_lr=4"])
    assert (config.optim.batch_size, config.optim.lr, config.optim.epochs, config.optim.min_lr) == (1, 2.0, 3, 4.0)
    assert config.optim.weight_decay == OptimConfig().weight_decay
    assert config.tasks == ("x",)


def test_base_chain_goes_through_every_link(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "optim: {lr: 1, epochs: 1, min_lr: 1}\n")
    write(tmp_path / "b.yaml", f"base: {tmp_path / 'a.yaml'}\noptim: {{epochs: 2, min_lr: 2}}\n")
    config = load_config(Training, write(tmp_path / "c.yaml", f"base: {tmp_path / 'b.yaml'}\noptim: {{min_lr: 3}}\n"))
    assert (config.optim.lr, config.optim.epochs, config.optim.min_lr) == (1, 2, 3)


def test_base_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", f"base: {tmp_path / 'b.yaml'}\n")
    write(tmp_path / "b.yaml", f"base: {tmp_path / 'a.yaml'}\n")
    with pytest.raises(ConfigError, match=r"circle: .*a\.yaml -> .*b\.yaml -> .*a\.yaml"):
        load_config(Training, tmp_path / "a.yaml")


def test_two_bases_may_share_an_ancestor(tmp_path: Path) -> None:
    root = write(tmp_path / "root.yaml", "optim: {lr: 7}\n")
    for name in "ab":
        write(tmp_path / f"{name}.yaml", f"base: {root}\n")
    top = write(tmp_path / "top.yaml", f"base: [{tmp_path / 'a.yaml'}, {tmp_path / 'b.yaml'}]\n")
    assert load_config(Training, top).optim.lr == 7


@pytest.mark.parametrize("base", ["", "3", "{a: 1}", "[1]"])
def test_base_that_is_no_path_is_refused(tmp_path: Path, base: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml: `base:` is .* expected the path"):
        load_config(Training, write(tmp_path / "x.yaml", f"base: {base}\n"))


def test_base_does_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the same name below the working folder must not slip in."""
    (tmp_path / "configs" / "data").mkdir(parents=True)
    write(tmp_path / "configs" / "data" / "synthetic.yaml", "optim: {lr: 99}\n")
    top = write(tmp_path / "top.yaml", "base: configs/data/synthetic.yaml\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="unknown key 'source'"):  # the repository's own file was read
        load_config(Training, top)


def test_base_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load_config(Training, write(tmp_path / "x.yaml", "base: configs/nowhere.yaml\n"))


# ---------------------------------------------------------------- unknown keys


EPOCS = "unknown key 'optim.epocs'; did you mean 'optim.epochs'?"


def test_unknown_key_message_is_exact() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Training, None, ["optim.epocs=3"])
    assert str(error.value) == EPOCS


@pytest.mark.parametrize("overrides", [[], ["optim.lr=1"]])
def test_unknown_key_in_a_file_names_the_file_too(tmp_path: Path, overrides: list[str]) -> None:
    path = write(tmp_path / "run.yaml", "optim: {epocs: 3}\n")
    with pytest.raises(ConfigError) as error:
        load_config(Training, path, overrides)
    assert str(error.value).startswith(EPOCS)
    assert "run.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("optm", "optim"),
        ("lr", "optim.lr"),
        ("optim.batchsize", "optim.batch_size"),
        ("warmup_epoch", "optim.warmup_epochs"),
    ],
)
def test_nearest_right_key_is_proposed(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'; did you mean '{nearest}'"):
        load_config(Training, None, [f"{key}=1"])


def test_key_far_from_all_lists_the_keys() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'zzqqxx'; the keys here are optim, optim\.optimizer"):
        load_config(Training, None, ["zzqqxx=1"])


def test_unknown_key_in_an_inherited_file_is_refused(tmp_path: Path) -> None:
    base = write(tmp_path / "base.yaml", "optim: {epocs: 3}\n")
    with pytest.raises(ConfigError, match="unknown key 'optim.epocs'"):
        load_config(Training, write(tmp_path / "x.yaml", f"base: {base}\n"))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("text", ["5e-4", "5E-4", "0.0005", "+5e-4", ".5e-3", "5.e-4"])
def test_exponents_are_numbers(tmp_path: Path, text: str) -> None:
    assert load_config(Training, None, [f"optim.lr={text}"]).optim.lr == 5e-4
    assert load_config(Training, write(tmp_path / "x.yaml", f"optim: {{lr: {text}}}\n")).optim.lr == 5e-4


@pytest.mark.parametrize("text", ["e4", "5e", "1e4x", "v5e-4"])
def test_what_only_looks_like_an_exponent_stays_text(text: str) -> None:
    assert load_config(Training, None, [f"tasks=[{text}]"]).tasks == (text,)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.lr=fast", r"optim\.lr: .*'fast'"),
        ("optim.lr=-1", r"optim\.lr: .*greater than 0.*-1"),
        ("optim.lr=.nan", r"optim\.lr"),
        ("optim.lr=.inf", r"optim\.lr: .*finite"),
        ("optim.lr=true", "truth value"),
        ("optim.epochs=true", "truth value"),
        ("optim.epochs=1.5", r"optim\.epochs: .*1\.5"),
        ("optim.epochs=0", r"optim\.epochs: .*greater than or equal to 1"),
        ("optim.betas=0.9", r"optim\.betas"),
        ("optim.betas=1,2,3", r"optim\.betas"),
        ("folds=true", "truth value"),
        ("folds=[1, true]", "truth value"),
        ("folds=1,x", r"folds\.1: .*'x'"),
        ("kind=c", "kind: .*'a' or 'b'.*'c'"),
        ("flag=maybe", "flag: .*'maybe'"),
        ("optim=3", "optim: .*3"),
        ("optim.lr.x=3", r"optim\.lr"),
    ],
)
def test_wrong_value_names_its_key(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(Training, None, [override])


def test_every_wrong_value_is_listed_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)optim\.epochs.*optim\.lr"):
        load_config(Training, None, ["optim.lr=x", "optim.epochs=y"])


@pytest.mark.parametrize(("text", "folds"), [("1,2,3", (1, 2, 3)), ("[1, 2]", (1, 2)), ("7", (7,)), ("null", None)])
def test_lists_on_the_command_line(text: str, folds: tuple[int, ...] | None) -> None:
    assert load_config(Training, None, [f"folds={text}"]).folds == folds


def test_value_may_contain_an_equals_sign() -> None:
    assert load_config(Training, None, ["tasks=a=b"]).tasks == ("a=b",)


def test_value_with_yaml_specials_stands_for_itself() -> None:
    assert load_config(Training, None, ["tasks=@x"]).tasks == ("@x",)


@pytest.mark.parametrize("override", ["optim.lr", "=3"])
def test_override_without_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"not of the form section\.key=value"):
        load_config(Training, None, [override])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a\n", "holds a list"),
        (b"a: [1\n", "not valid YAML"),
        (b"flag: true\nflag: false\n", "'flag' stands twice"),
        (b"flag: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"\xff\xfe\x00a", "not valid YAML"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"bad\.yaml(?s:.)*{said}"):
        load_config(Training, tmp_path / "bad.yaml")


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(Training, write(tmp_path / "x.yaml", "# nothing\n")) == Training()


def test_missing_file_lists_its_neighbours() -> None:
    with pytest.raises(ConfigError, match=r"ptbxl2\.yaml does not exist.*ptbxl\.yaml.*synthetic\.yaml"):
        load_config(Training, "configs/data/ptbxl2.yaml")


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Training().flag = True  # type: ignore[misc]


def test_class_may_depend_on_the_values() -> None:
    choice: Choice[Section] = Choice("kind", {"a": Training, "other": Other})
    assert load_config(choice, None, ["kind=other", "width=5"]) == Other(kind="other", width=5)
    with pytest.raises(ConfigError, match="unknown key 'width'"):
        load_config(choice, None, ["kind=a", "width=5"])
    for given in ([], ["kind=z"], ["kind=[a]"]):
        with pytest.raises(ConfigError, match="kind: .* is not one of a, other"):
            load_config(choice, None, given)


# ---------------------------------------------------------------- paths


def test_relative_paths_count_from_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(Training, None, ["out=runs/x"]).out == REPO_ROOT / "runs" / "x"
    assert Training().out == REPO_ROOT / "runs" / "default"
    assert repo_path("../beside") == REPO_ROOT.parent / "beside"
    assert repo_path(tmp_path) == tmp_path
    assert repo_path("~/x") == Path.home() / "x"


@pytest.mark.parametrize("text", ["", "12", "null"])
def test_a_path_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="out: "):
        load_config(Training, None, [f"out={text}"])


def test_config_file_is_found_here_and_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "here.yaml", "flag: true\n")
    assert load_config(Training, "here.yaml").flag
    with pytest.raises(ConfigError, match="unknown key 'source'"):  # read, though it is not below the working folder
        load_config(Training, "configs/data/synthetic.yaml")


# ---------------------------------------------------------------- command line and output


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "x.yaml", "flag: true\n"))
    assert config_from_cli(Training, ["optim.lr=2", path]) == Training(flag=True, optim=OptimConfig(lr=2))
    assert config_from_cli(Training, []) == Training()
    with pytest.raises(ConfigError, match="one config file"):
        config_from_cli(Training, [path, path])


def test_user_error_ends_with_code_2_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "optim.epocs=3"])
    with pytest.raises(SystemExit) as end:
        entry_point(lambda argv: config_from_cli(Training, argv))
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {EPOCS}\n"


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(ZeroDivisionError):
        entry_point(lambda _: 1 / 0)


def test_resolved_config_reads_back_the_same(tmp_path: Path) -> None:
    config = load_config(
        Training, None, ["optim.lr=3.3e-7", "folds=1,2", "tasks=['on', 'true', '12', 5e-4x]", "out=runs/é"]
    )
    assert load_config(Training, write(tmp_path / "config.yaml", to_yaml(config))) == config


def test_config_error_is_a_user_error_and_a_value_error() -> None:
    assert issubclass(ConfigError, UserError)
    assert issubclass(UserError, ValueError)


def test_plain_yaml_reads_what_to_yaml_writes() -> None:
    assert yaml.safe_load(to_yaml(Training()))["optim"]["batch_size"] == OptimConfig().batch_size
