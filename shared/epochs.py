"""The epochs of a training as an iterator: place after a resume, progress bar, stopping, saving. The step stays in the loop.

run.resume(model, optimizer=optimizer)
for epoch in run.epochs(optim.epochs, steps_per_epoch, batches):
    for signals, indices in epoch:
        ...                       # one step, which ends with run.update(…)
        epoch.add(loss=loss)
    ...                           # the end of the epoch, before its checkpoint: validate, log run.step and epoch.means()
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import Tensor
from tqdm import tqdm

from shared.errors import UserError

if TYPE_CHECKING:
    from shared.run import Run

T = TypeVar("T")

AGREE_EVERY = 8
"""Steps after which several ranks ask each other whether one of them is to stop or to save: asking waits for the device."""

TELL_SECONDS = 10.0
"""At most so often a line says how far a run is and how long it will take, on a terminal or not."""


class Epoch(Generic[T]):
    """One pass over the training batches, or what is left of it after a resume. Iterate over it once.

    Attributes:
        number: counted from 0.
        of: how many epochs there are.
        steps: optimizer steps in a whole one.
        sums: what `add` was given, summed over all steps of the epoch, those before a stop too.
    """

    def __init__(self, run: Run, number: int, of: int, steps: int, batches: Iterable[T]) -> None:
        self.run, self.number, self.of, self.steps = run, number, of, steps
        self.sums: dict[str, Any] = {}
        self.counted = 0
        self._batches = batches
        self._bar: Any = None

    @property
    def last(self) -> bool:
        """Whether the training ends with this one."""
        return self.number + 1 == self.of

    @property
    def position(self) -> int:
        """Steps of this epoch done so far."""
        return self.run.step - self.number * self.steps

    def __iter__(self) -> Iterator[T]:
        """The batches. A signal that comes within the last step waits for the end of the epoch, which belongs to it."""
        self._bar = tqdm(self._batches, f"epoch {self.number + 1}/{self.of}", unit="step", disable=self.run.quiet)
        for batch in self._bar:
            begun = self.run.step
            yield batch
            if self.run.step != begun + 1:
                raise AssertionError(f"a step must call run.update once; step {begun} became {self.run.step}")
            if self.position == self.steps or (self.run.world_size > 1 and self.run.step % AGREE_EVERY):
                continue
            stop = self.run.check_signal()
            if stop or self.run.late():
                self.run.checkpoint(epoch=self.state_dict())
            if stop:
                raise self.run.stop()

    def add(self, **values: Tensor | float) -> None:
        """Add this step's values to the sums of the epoch; call it once a step."""
        self.counted += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value)

    def means(self) -> dict[str, Any]:
        """The sums over the number of steps."""
        return {name: total / max(self.counted, 1) for name, total in self.sums.items()}

    def over_ranks(self) -> dict[str, float]:
        """The means over all ranks; of a sum that has a `count/…` beside it, its mean over what was counted."""
        values = self.run.mean_over_ranks(self.means())
        counts = {name.removeprefix("count/"): n for name, n in values.items() if name.startswith("count/")}
        kept = {name: value for name, value in values.items() if not name.startswith("count/")}
        return {
            name: value / counts[name] if counts.get(name) else value
            for name, value in kept.items()
            if counts.get(name) != 0
        }

    def show(self, **values: float) -> None:
        """Numbers behind the progress bar."""
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in values.items()})

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint within the epoch."""
        # Of several ranks one writes for all.
        sums = self.run.mean_over_ranks(self.sums) if self.run.world_size > 1 else dict(self.sums)
        return {"sums": sums, "counted": self.counted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From such a checkpoint."""
        self.sums, self.counted = dict(state["sums"]), state["counted"]


def iterate(
    run: Run, number: int, steps_per_epoch: int, batches: Callable[[int, int], Iterable[T]]
) -> Iterator[Epoch[T]]:
    """The epochs that are left, each with the batches that are left of it; see `Run.epochs`."""
    began, begun_at = run.step, time.monotonic()
    told = begun_at
    for current in range(run.step // steps_per_epoch, number):
        first = run.step % steps_per_epoch
        epoch = Epoch(run, current, number, steps_per_epoch, batches(current, first))
        begun = run.take_epoch()
        if first and begun is not None:
            epoch.load_state_dict(begun)
        yield epoch
        now = time.monotonic()
        if run.is_main and not epoch.last and now - told >= TELL_SECONDS:
            rate, told = (run.step - began) / (now - begun_at), now
            left = timedelta(seconds=round((number * steps_per_epoch - run.step) / rate))
            print(f"step {run.step}/{number * steps_per_epoch}, {rate:.1f} steps/s, {left} left", flush=True)
        if epoch.last or (current + 1) % run.config.checkpoint_every == 0 or run.check_signal():
            run.checkpoint()
        if run.check_signal():
            raise run.stop()


class Stop(Exception):
    """A signal asked the run to end; raised after the checkpoint was written."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


def exit_on_stop(main: Callable[[Sequence[str]], object]) -> Callable[[Sequence[str]], object]:
    """Turn a Stop into its exit code (130 after SIGINT), once everything is saved."""

    def wrapped(argv: Sequence[str]) -> None:
        try:
            main(argv)
        except Stop as stop:
            raise SystemExit(stop.exit_code) from None

    return wrapped


def require_finite(loss: float, step: int) -> None:
    """Stop a run whose loss is no number; the last good checkpoint stays.

    Raises:
        UserError: NaN or infinite.
    """
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} at step {step}. Lower optim.lr, set optim.clip_grad, or use run.precision=bf16 or fp32; "
            "the run continues from its last checkpoint."
        )
