"""The epoch that is kept: the one with the highest validation score."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from shared.run import Run


class Best:
    """The weights with the highest validation score so far.

    Attributes:
        score: their score; -1 before the first offer.
        epoch: the epoch they come from, counted from 1; 0 before the first offer.
        weights: on the CPU.

    Args:
        last: keep the last epoch instead, whatever its score.
    """

    def __init__(self, last: bool = False) -> None:
        self.last, self.score, self.epoch = last, -1.0, 0
        self.weights: dict[str, Tensor] | None = None

    def offer(self, score: float, epoch: int, model: nn.Module) -> None:
        """Keep the model's weights where they score higher; of equals the first."""
        if self.last or score > self.score:
            self.score, self.epoch = score, epoch
            self.weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}

    def stale(self, epochs_done: int, patience: int | None) -> bool:
        """Whether the last `patience` epochs brought nothing better; never for None."""
        return patience is not None and self.epoch > 0 and epochs_done - self.epoch >= patience

    def restore(self, run: Run, model: nn.Module) -> None:
        """Put the chosen weights into the model and make them the run's last checkpoint."""
        assert self.weights is not None
        model.load_state_dict(self.weights)
        run.checkpoint()
        if run.is_main:
            kept = "kept, the last one" if self.last else "chosen on validation"
            print(f"{kept}: epoch {self.epoch}, AUROC {self.score:.4f}")

    def state_dict(self) -> dict[str, Any]:
        """For a resumed run."""
        return {"score": self.score, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.score, self.epoch, self.weights = state["score"], state["epoch"], state["weights"]
