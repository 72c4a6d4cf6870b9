"""What the doctor says of the machine."""

from __future__ import annotations

import pytest

from shared.data import environment
from tests.shared.data.test_doctor import call, wrong


def test_environment(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, code = call(capsys)
    text = "\n".join(lines)
    assert code == 0 and all(
        word in text for word in ("Python 3", "torch ", "wfdb ", "core(s)", "GiB of memory", "GB free")
    )
    monkeypatch.setitem(environment.NEEDED, "no-such-package", "no_such_package")
    lines, code = call(capsys)
    expected = "no-such-package cannot be imported: ModuleNotFoundError: No module named 'no_such_package'  → bash scripts/setup.sh"
    assert code == 1 and wrong(lines)[0].startswith(expected)


def test_a_torch_that_does_not_see_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "driver_gpus", lambda: [("NVIDIA H100", "535.1")])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (found,) = environment.check_gpus()
    assert found.level == "WRONG" and "sees no GPU, but the driver 535.1 has NVIDIA H100" in found.text
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda number: (2**33, 2**34))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: "NVIDIA H100")
    assert [found.text for found in environment.check_gpus()][1] == "GPU 0: NVIDIA H100, 8.0 of 16.0 GiB free"


def test_memory_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = environment.memory_bytes()
    assert 2**28 < whole < 2**50
    monkeypatch.setattr(environment.Path, "read_text", lambda self: "1073741824\n")
    assert environment.memory_bytes() == 2**30
    monkeypatch.setattr(environment.Path, "read_text", lambda self: "max\n")
    assert environment.memory_bytes() >= whole
