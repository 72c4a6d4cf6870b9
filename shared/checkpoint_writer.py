"""Checkpoints written while the training goes on: the state is copied at its step, and a thread writes the copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.run_folder import write_checkpoint


class CheckpointWriter:
    """Writes the checkpoints of a run, one at a time.

    Args:
        run: its folder.
        method, config: stored with the weights.
        keep: how many checkpoints stay.
        behind: whether a thread writes them; else the training waits for each.
    """

    def __init__(self, run: Path, method: str, config: Mapping[str, Any], keep: int, behind: bool) -> None:
        self.run, self.method, self.config, self.keep, self.behind = run, method, config, keep, behind
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(self, step: int, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write the checkpoint of a step, once the one before is written.

        Args:
            step: optimizer steps done.
            weights: by name.
            state: what else the training goes on with: objects with `state_dict`, tensors, numbers, containers of them.

        Raises:
            OSError: this one, or with `behind` the one before, could not be written.
        """
        self.wait()
        state = {name: value.state_dict() if hasattr(value, "state_dict") else value for name, value in state.items()}
        if not self.behind:
            write_checkpoint(self.run, step, weights, self.method, self.config, state, self.keep)
            return
        copied, ready = snapshot({"weights": weights, "state": state})

        def work() -> None:
            try:
                ready()
                write_checkpoint(
                    self.run, step, copied["weights"], self.method, self.config, copied["state"], self.keep
                )
            except BaseException as error:
                self._error = error

        # No daemon: Python does not end before a checkpoint that was begun is whole.
        self._thread = threading.Thread(target=work, name=f"checkpoint of step {step}")
        self._thread.start()

    def check(self) -> None:
        """Raise what befell the last checkpoint, if anything did so far; does not wait."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Until the last checkpoint is written.

        Raises:
            OSError: it could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()


def snapshot(content: Any) -> tuple[Any, Callable[[], None]]:
    """A copy in host memory of what a training will change in place, and what to call before it is read.

    From a GPU the copies are queued behind the work that is queued already, into pinned memory, and the caller does not
    wait for them: what later steps change comes after them in the same stream.

    Args:
        content: tensors, numbers and texts in dicts, lists and tuples.
    """
    on_gpu: set[torch.device] = set()

    def copy(value: Any) -> Any:
        if isinstance(value, Tensor):
            value = value.detach()
            if value.device.type != "cuda":
                return value.cpu().clone(memory_format=torch.contiguous_format)
            on_gpu.add(value.device)
            host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            return host.copy_(value, non_blocking=True)
        if isinstance(value, Mapping):
            return {key: copy(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(copy(item) for item in value)
        return value

    copied = copy(content)
    events = [torch.cuda.current_stream(device).record_event() for device in on_gpu]

    def ready() -> None:
        for event in events:
            event.synchronize()

    return copied, ready
