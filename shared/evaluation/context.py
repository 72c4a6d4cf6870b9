"""What a protocol gets and gives, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from shared.config import Section
from shared.data.splits import Labelled, open_labelled
from shared.data.store import ECGStore
from shared.embeddings import Options, embed_cached
from shared.errors import UserError
from shared.evaluation.together import call_others
from shared.leads import subset_leads
from shared.statistics.bootstrap import Resamples
from shared.statistics.interval import Scores

if TYPE_CHECKING:  # the config is put together from the protocols, which stand on this module
    from shared.evaluation.config import CommonSettings, EvaluateConfig

RANDOM = "random encoder"
UNTUNED = "untuned encoder"


def open_records(config: CommonSettings) -> Labelled:
    """Store, task and splits as an evaluation's config says.

    Raises:
        UserError: no store, no labels, or what `make_split` refuses.
    """
    folds = {"train": config.train_folds, "val": config.val_folds, "test": config.test_folds}
    return open_labelled(config.store, config.task, config.single_label, folds, config.keep_unlabelled)


def open_once(config: CommonSettings, opened: dict[Any, Labelled]) -> Labelled:
    """The records of an evaluation; `opened` keeps what was read before."""
    folds = (config.train_folds, config.val_folds, config.test_folds)
    key = (config.store, config.task, config.single_label, config.keep_unlabelled, *folds)
    if key not in opened:
        opened[key] = open_records(config)
    return opened[key]


@dataclass(frozen=True)
class Context(Labelled):
    """What a protocol gets.

    Attributes:
        config: the evaluation's config.
        rows: encoder name to embeddings `[n, D]`; the first is the one evaluated, `random encoder` is always there.
        resamples: of the test split, the same for all rows.
        out: the report folder.
        device: where to compute.
        encoders: encoder name to the encoder (a module that satisfies `embed.Encoder`), for protocols that embed anew.
        baselines: rows that the others are compared with: the random encoder, then, for a tuned model, the untuned one.
    """

    config: EvaluateConfig
    rows: dict[str, np.ndarray]
    resamples: Resamples
    out: Path
    device: torch.device
    encoders: dict[str, Any] = field(default_factory=dict)
    baselines: tuple[str, ...] = (RANDOM,)

    @cached_property
    def val_resamples(self) -> Resamples:
        """Of the validation split, the same for all rows.

        Raises:
            UserError: fewer than two validation patients.
        """
        return Resamples(self.patients[self.split.val], self.config.resamples, self.config.seed)

    def embed(
        self,
        row: str,
        leads: Sequence[str] | None = None,
        store: ECGStore | None = None,
        indices: np.ndarray | None = None,
    ) -> np.ndarray:
        """Embeddings `[n, D]` of a row under other circumstances, cached; rows of one model are embedded in one pass.

        Args:
            row: a name in `encoders`.
            leads: which leads it sees; None takes the config's.
            store: other signals of the same records; None takes the context's store.
            indices: store rows; None takes all of the context.

        Raises:
            UserError: the context has no such encoder, or what `embed_store` refuses.
        """
        if row not in self.encoders:
            raise UserError(f"encoder {row!r} is not at hand, only its embeddings are; this protocol must embed anew.")
        if leads is None and self.config.encoder.leads is not None:
            leads = subset_leads(self.config.encoder.leads, self.encoders[row].input_spec.leads)
        indices = self.indices if indices is None else indices
        names = {name.replace(" ", "-"): name for name in self.encoders}

        def call(rows: Sequence[str], options: Options) -> bool:
            # The other ranks have opened the context's own store alone.
            own = store is None or store is self.store
            return own and call_others([names[name] for name in rows], indices, replace(options, ranks=True))

        return embed_cached(
            self.out / "cache",
            self.encoders[row],
            self.store if store is None else store,
            indices,
            leads=leads,
            num_crops=self.config.num_crops,
            batch_size=self.config.batch_size,
            device=self.device,
            dtype=torch.bfloat16 if self.config.precision == "bf16" else None,
            name=row.replace(" ", "-"),
            others={kept: self.encoders[name] for kept, name in names.items() if name != row},
            call=call,
        )


@dataclass(frozen=True)
class Picture:
    """A picture of the report."""

    path: Path
    caption: str


@dataclass
class Result:
    """Scores of every row, and of rows minus baselines.

    Attributes:
        scores: row to metric to interval.
        validation: the same on the validation records, for choices between runs; empty where a protocol gives none.
        headline: the metric that stands for it, where a preset names one; None: the protocol's own.
        differences: baseline to row to metric to interval of `row − baseline`, same resamples.
        predictions: row to test scores `[n_test, C]`, where the protocol predicts.
        notes: what a reader must know.
        figures: pictures already written below the report folder.
    """

    scores: dict[str, Scores]
    differences: dict[str, dict[str, Scores]] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)
    validation: dict[str, Scores] = field(default_factory=dict)
    headline: str | None = None


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol: what it does, its settings, and how its metrics are called.

    Attributes:
        run: scores every row of a context; a UserError says why it cannot.
        settings: the class of its settings; None: it has none of its own. A protocol asks for them by this class:
            `context.config.settings(KNNSettings)`.
        section: the key that its settings stand below in the config; None: they are top-level keys.
        titles: metric to its name on the page. A metric is looked up by its whole name before any `@condition`, then by
            what follows its last `/`. A ↓ says that lower is better; without it higher is.
        main: the metrics that the page shows of this kind, in order; none: all of them. `metrics.json` has everything.
        headlines: the few of them that are printed at the end, and as the gain over a baseline.
        curve: where there is one score per condition: the title of its curve and what the conditions are.
        validates: whether it scores the validation records too (`Result.validation`), so that a sweep can rank by it.
        unranked: titled metrics of which neither higher nor lower is better.
    """

    run: Callable[[Context], Result]
    settings: type[Section] | None = None
    section: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    main: tuple[str, ...] = ()
    headlines: tuple[str, ...] = ()
    curve: tuple[str, str] | None = None
    validates: bool = False
    unranked: tuple[str, ...] = ()
