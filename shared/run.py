"""One Run: seed, device, precision, ranks, run folder, logs, checkpoints, resume.

Everything random in a step is a function of (seed, step, place in the batch), so a resumed run continues exactly without
storing generator states: the weights, the optimizer, the scaler, the step number and the sums of a begun epoch are the whole state.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from shared.checkpoints import newest_checkpoint
from shared.config import RepoPath, Section
from shared.epochs import Epoch, Stop, iterate
from shared.errors import NO_ROOM, UserError

if TYPE_CHECKING:
    from shared.checkpoint_writer import CheckpointWriter
    from shared.run_folder import RunLog
    from shared.run_record import RunRecord
    from shared.sharded import Sharding

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class RunConfig(Section):
    """Where a run writes, and on what it runs. Nothing here changes what is computed, but the seed and the precision."""

    out: RepoPath = Field(description="run folder")
    seed: int = Field(0, ge=0)
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: as the run in the folder was begun; a new one bf16 on CUDA, fp32 on a CPU"
    )
    compile: bool | Literal["auto", "reduce-overhead"] = Field(
        "auto", description="auto: the pretraining models on CUDA; reduce-overhead: with CUDA graphs"
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="over several processes: whole models, or one whose parameters are spread (pretraining)"
    )
    num_workers: int | None = Field(
        None, ge=0, description="threads reading ahead; null: two for a GPU, none on a CPU, which has no time to spare"
    )
    checkpoint_every: int = Field(10, ge=1, description="epochs")
    checkpoint_minutes: float | None = Field(None, gt=0, description="also within an epoch, when so many have passed")
    checkpoint_async: bool = Field(
        True, description="write them, from a copy in host memory, while the training goes on"
    )
    keep_checkpoints: int = Field(2, ge=1, description="newest ones kept")
    overwrite: bool = Field(False, description="delete what the run folder holds and start anew")


class Run:
    """The setting of one training run. Use as a context manager.

    Args:
        config: the `run` section; resolved: the whole config, written to the folder and into every checkpoint.
        method: name stored beside the weights.

    Raises:
        UserError: the folder holds a run with other settings, or the device is not there.
    """

    def __init__(self, config: RunConfig, resolved: Section, method: str) -> None:
        from shared.ranks import join_ranks, pick_device
        from shared.speed import settled

        self._owns_ranks = not dist.is_initialized()  # a run within a run leaves the process group to the outer one
        self.rank, self.world_size, local_rank = join_ranks()
        self.device = pick_device(config.device, local_rank)
        self.config, self.resolved = config, resolved = settled(config, resolved, self.device)
        self.out, self.method = config.out, method
        self._sharded: Sharding | None = None
        self.step = 0  # optimizer steps done
        self._kept: tuple[nn.Module, dict[str, Any]] | None = None
        self._epoch: dict[str, Any] | None = None
        self._signal: int | None = None
        self._held = ExitStack()  # what is given back at the end
        self._log: RunLog | None = None
        self._record: RunRecord | None = None
        self._writer: CheckpointWriter | None = None
        self._saved_at = time.monotonic()
        self.amp_dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        if config.parallel == "fsdp":
            from shared.sharded import make_sharding

            self._sharded = make_sharding(config, method, self.device, self.rank, self.world_size)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def quiet(self) -> bool | None:
        """tqdm's `disable`: None shows bars on a terminal only, and only the main process shows any."""
        return None if self.is_main else True

    def __enter__(self) -> Run:
        with ExitStack() as held:  # gives all back where something here fails
            if self.is_main:
                from shared.checkpoint_writer import CheckpointWriter
                from shared.files import hold
                from shared.run_folder import RunLog, claim_folder
                from shared.run_record import RunRecord

                held.enter_context(hold(self.out))
                claim_folder(self.out, self.resolved, self.config.overwrite)
                self._log = RunLog(self.out)
                held.callback(self._log.close)
                self._record = RunRecord(self.out, self.resolved, self.device, self.world_size)
                config, kept = self.resolved.model_dump(mode="json"), self.config.keep_checkpoints
                self._writer = CheckpointWriter(self.out, self.method, config, kept, self.config.checkpoint_async)
            if self.world_size > 1:
                from shared.ranks import require_alike

                require_alike("the config", self.resolved.model_dump_json())
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                outer = signal.signal(signum, self._on_signal)
                held.callback(signal.signal, signum, outer)
                if isinstance(getattr(outer, "__self__", None), Run):  # what a run around this one has been told
                    self._signal = self._signal or outer.__self__._signal  # type: ignore[union-attr]
            self._held = held.pop_all()
        np.random.seed(self.config.seed)  # noqa: NPY002 (libraries that use the global one)
        torch.manual_seed(self.config.seed)
        self._saved_at = time.monotonic()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        late: BaseException | None = None  # what was held back could not be written
        try:
            self.wait_for_checkpoint()
        except Exception as unwritten:
            late = unwritten
        if self._record is not None:
            self._record.close(self.step, error or late)
        try:
            self._held.close()
        except OSError as unwritten:
            late = late or unwritten
        error = error or late
        if self.world_size > 1 and self._owns_ranks:
            if error is None or isinstance(error, Stop):
                dist.barrier()  # else a thread of gloo may still hold the last tensor when Python ends, which aborts
            dist.destroy_process_group()
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            room = "Make room; the same command continues from the last checkpoint, which is whole."
            raise UserError(f"{self.out} could not be written ({error}). {room}") from error
        if late is not None and error is late:
            raise late
        if error is None and self._signal is not None:
            raise self.stop()  # it came after the last step

    # ------------------------------------------------------------ model and step

    @property
    def loading(self) -> dict[str, Any]:
        """What reading the training batches depends on, for `shared.data.loader.TrainingBatches`."""
        ranks = {"seed": self.config.seed, "rank": self.rank, "world_size": self.world_size}
        return {**ranks, "num_workers": self.config.num_workers, "pin_memory": self.device.type == "cuda"}

    def wrap(self, model: M) -> M | DistributedDataParallel:
        """The model on its device, compiled and distributed as the config says."""
        if self._sharded is not None:
            return self._sharded.shard(model)
        model = model.to(self.device)
        if self.config.compile:
            from shared.speed import compile_model

            compile_model(model, self.config.compile, self.device)
        if self.world_size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            return DistributedDataParallel(model, device_ids=ids)
        return model

    def autocast(self) -> torch.autocast:
        """Mixed precision as configured; a no-op for fp32."""
        return torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None)

    def epochs(
        self, number: int, steps_per_epoch: int, batches: Callable[[int, int], Iterable[T]]
    ) -> Iterator[Epoch[T]]:
        """The epochs of a training from where the run stands. After each a checkpoint is due, and after a signal.

        Args:
            number: of epochs.
            steps_per_epoch: optimizer steps in each.
            batches: `(epoch, first)` to the batches of that epoch from the given one on, both counted from 0.

        Raises:
            Stop: a signal came, and what was done is saved.
        """
        return iterate(self, number, steps_per_epoch, batches)

    def begin_step(self, device: torch.device | None = None) -> torch.Generator:
        """Seed everything random in this step, and return a generator on the given device or the run's, alike on all ranks.

        What is drawn with it for the whole effective batch, then cut to `own` rows, is the same for any number of ranks.
        """
        parts = ([self.config.seed, self.step, rank] for rank in (self.rank, 0))
        own, common = (int(np.random.SeedSequence(part).generate_state(1, np.uint64)[0] >> 1) for part in parts)
        torch.manual_seed(own)
        return torch.Generator(device or self.device).manual_seed(common)

    def own(self, batch_size: int) -> slice:
        """This rank's rows of an effective batch."""
        return slice(*(batch_size * rank // self.world_size for rank in (self.rank, self.rank + 1)))

    def whole(self, model: M) -> M:
        """The model, for what the main rank looks at: of a sharded one a copy that all ranks gather."""
        return model if self._sharded is None else self._sharded.whole(model)

    def accumulating(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Context of one micro-batch's backward: ranks exchange gradients in the last one only."""
        if self._sharded is not None:
            self._sharded.exchange(model, last)
        return nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync()

    def update(self, model: nn.Module, optimizer: torch.optim.Optimizer, clip_grad: float | None) -> Tensor:
        """Unscale, clip, step, count, clear the gradients; their norm before clipping, on the device until it is read."""
        self.scaler.unscale_(optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        if clip_grad is not None:
            nn.utils.clip_grads_with_norm_(model.parameters(), clip_grad, norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return norm if self._sharded is None else norm.full_tensor()  # type: ignore[attr-defined]

    def share_of(self, batch_size: int) -> int:
        """This rank's part of the effective batch; a UserError where it does not divide evenly."""
        if batch_size % self.world_size:
            told = f"optim.batch_size {batch_size} is the effective batch and must divide over {self.world_size} processes."
            raise UserError(told)
        return batch_size // self.world_size

    def mean_over_ranks(self, values: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Floats averaged over all ranks."""
        stacked = torch.stack([torch.as_tensor(v, dtype=torch.float32, device=self.device) for v in values.values()])
        if self.world_size > 1:
            dist.all_reduce(stacked)
            stacked /= self.world_size
        return dict(zip(values, stacked.tolist(), strict=True))

    # ------------------------------------------------------------ logs and checkpoints

    def log(self, step: int, **values: float) -> None:
        """One line in `log.jsonl` and one point per value in TensorBoard; main rank only."""
        if self._log is not None:
            self._log.write(step, **values)

    def save(self, model: nn.Module, step: int, **state: Any) -> None:
        """Write `checkpoints/step-N/` (weights and training state); it appears under its name only when whole.

        Args:
            model: unwrapped.
            step: steps done.
            state: what else a resumed run needs; objects with `state_dict`, tensors, numbers.
        """
        self._saved_at = time.monotonic()
        content = model.state_dict(), {**state, "step": step, "scaler": self.scaler}
        if self._sharded is not None:
            content = self._sharded.gather(content)
        if self._writer is not None:
            self._writer.write(step, *content)

    def wait_for_checkpoint(self) -> None:
        """Until what `save` was given last is on the disk; an OSError where it could not be written."""
        if self._writer is not None:
            self._writer.wait()

    def checkpoint(self, **more: Any) -> None:
        """`save` what `resume` was given, after the steps done so far."""
        assert self._kept is not None, "resume() says what a checkpoint holds"
        self.save(self._kept[0], self.step, **self._kept[1], **more)

    def resume(self, model: nn.Module, **state: Any) -> int:
        """Load the newest checkpoint into the model and the objects given (names as in `save`), which `checkpoint` then saves.

        Returns:
            The number of steps done; 0 where there is no checkpoint.
        """
        self._kept = model, state
        self.wait_for_checkpoint()
        if (folder := newest_checkpoint(self.out)) is not None:
            from shared.run_folder import load_checkpoint

            saved = load_checkpoint(folder, model, self.method, {**state, "scaler": self.scaler}, self.device)
            self.step, self._epoch = int(saved["step"]), saved.get("epoch")
        if self._log is not None and self._record is not None:
            self._log.keep_until(self.step)
            self._record.describe(model, self.step)
            if folder is not None:
                print(f"resuming {self.out} after step {self.step}")
        return self.step

    def take_epoch(self) -> dict[str, Any] | None:
        """The sums of the epoch in which the run was stopped; once."""
        found, self._epoch = self._epoch, None
        return found

    def check_signal(self) -> bool:
        """Whether a signal asked to stop, agreed between all ranks. What befell the last checkpoint is raised here."""
        if self._writer is not None:
            self._writer.check()
        wanted = self._agree(self._signal or 0)
        if wanted:  # never cleared: a signal may have come in while the ranks agreed
            self._signal = wanted
        return wanted > 0

    def late(self) -> bool:
        """Whether `checkpoint_minutes` have passed since the last checkpoint, on any rank's clock."""
        most = self.config.checkpoint_minutes
        return most is not None and self._agree(int(time.monotonic() - self._saved_at > 60 * most)) > 0

    def _agree(self, value: int) -> int:
        """The largest of all ranks' numbers."""
        if self.world_size == 1:
            return value
        agreed = torch.tensor(value, device=self.device)
        dist.all_reduce(agreed, op=dist.ReduceOp.MAX)
        return int(agreed)

    def stop(self) -> Stop:
        """The exception to raise, once the checkpoint is written."""
        self.wait_for_checkpoint()
        if self.is_main:
            print(f"\nstopped at step {self.step}: saved in {self.out}. The same command continues.")
        return Stop(self._signal or signal.SIGTERM)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._signal is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self._signal = signum
