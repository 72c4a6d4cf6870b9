"""What no config looks like, and what ends a program from outside, is one short message, whatever made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import ConfigError, entry_point, load_config
from shared.evaluation.config import EvaluateConfig

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BROKEN = {
    "bomb": (BOMB, "holds more than 20000 values once its aliases are written out"),
    "deep": ("a: " + "[" * 3000 + "]" * 3000, "it nests too deeply"),
    "inside itself": ("a: &a [*a]", "an alias stands inside itself"),
    "tag": ("a: !!timestamp abc", "a value is not what its tag says"),
    "integer key": ("1: 2", "unknown key '1'"),
    "base": ('base: "a\\0b"', "is no path"),
    "long": ("base: " + "x" * 5000, "is no path: .* over 255 bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_yaml_has_one_short_message(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_config(EvaluateConfig, tmp_path / "a.yaml")
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("resamples=2001-13-45", r"resamples: .*integer.*\(given: '2001-13-45'\)"),
        ("store=a\0b", "'a.*' is no path|is no path: a name in it has a NUL"),
        ("store=" + "x" * 300, "over 255 bytes"),
        ("store=~nobody-lives-here/x", "is no path: Could not determine home"),
        ("resamples=" + "x" * 10**6, r"\(1000002 characters\)"),
        ("x" * 10**6 + "=1", r"unknown key 'x+… \(1000002 characters\)"),
        ("encoder={1: 2}", "unknown key 'encoder.1'"),
    ],
)
def test_broken_values_have_one_short_message(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_config(EvaluateConfig, None, ["store=x", override])
    assert len(str(error.value)) < 2000


def test_a_date_is_text() -> None:
    assert load_config(EvaluateConfig, None, ["store=x", "task=2001-12-14"]).task == "2001-12-14"


@pytest.mark.parametrize("path", ["a\0b.yaml", "x" * 300 + ".yaml", "~nobody-lives-here/x.yaml"])
def test_config_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(ConfigError, match="is no path"):
        load_config(EvaluateConfig, path)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped before the end; nothing half-written is left\n"),
        (
            OSError(28, "No space left on device", "/x/y"),
            2,
            "error: /x/y could not be written: No space left on device.",
        ),
    ],
)
def test_what_ends_a_program_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(_: object) -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["x"])
    with pytest.raises(SystemExit) as end:
        entry_point(main)
    found = capsys.readouterr().err
    assert end.value.code == code and found.startswith(said) and found.count("\n") == 1


def test_other_errors_of_the_system_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(_: object) -> None:
        raise FileNotFoundError(2, "No such file", "/x")

    monkeypatch.setattr("sys.argv", ["x"])
    with pytest.raises(FileNotFoundError):
        entry_point(main)
