"""Protocol presets: what published evaluations set, so that `protocol: NAME` sets it too (`shared.evaluation.following`).

A preset has a part for frozen embeddings (`evaluation`) and one for each mode of fine-tuning that its source has. What a part
cannot follow is said in words, and stands on the page beside the keys that deviate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EVALUATION = "evaluation"
"""The part of a preset that is about frozen embeddings; the others are called as the modes of fine-tuning."""
EVERY_CLASS = "auroc_all_macro"
FINETUNE = "finetune"
"""What the scores of a fine-tuned classifier are called, where those of an evaluation have their protocol's name."""


@dataclass(frozen=True)
class Part:
    """A preset for one kind of run.

    Attributes:
        settings: keys of the config, section by section.
        apart: what of the source is not followed, whatever the keys.
        published: score of ours, `protocol` or `protocol@condition`, to the protocol in `published.csv` that it stands beside.
    """

    settings: Mapping[str, Any]
    apart: tuple[str, ...] = ()
    published: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A protocol.

    Attributes:
        source: where it is from.
        tasks: label columns that it defines.
        parts: kind of run to its settings.
        headline: the macro AUROC that the source reports.
    """

    source: str
    tasks: tuple[str, ...]
    parts: Mapping[str, Part]
    headline: str = EVERY_CLASS


PTBXL = ("statements", "diagnostic", "subclass", "superclass", "form", "rhythm")
FOLDS = {"train_folds": [1, 2, 3, 4, 5, 6, 7, 8], "val_folds": [9], "test_folds": [10]}
TUNED_FOLDS = {"data": {"folds": FOLDS["train_folds"], "val_folds": [9]}, "test_folds": [10]}
MULTI = {"single_label": False, "keep_unlabelled": False}
PLAIN = {"drop_path": 0.0, "head_norm": "none", "fraction": 1.0}
ADAMW = {"optimizer": "adamw", "betas": [0.9, 0.999], "clip_grad": None, "layer_decay": 1.0, "min_lr": 0.0}
NO_AUGMENT = {"augment": {"num_operations": 0}}
RAND_AUGMENT = {"augment": {"num_operations": 2, "level": 10.0}}
OWN_INPUT = "rate, leads, filter and window are the encoder's own InputSpec"
LAST_EPOCH_THERE = "it trains on folds 1-9 and reports the last epoch on fold 10; here fold 9 is kept for validation"

_strodthoff = {
    **TUNED_FOLDS,
    **MULTI,
    **PLAIN,
    **NO_AUGMENT,
    "num_crops": 7,
    "pool": "max",
    "keep": "last",
    "patience": None,
}
_strodthoff_apart = (
    "100 Hz and windows of 2.5 s (7 of them, 1.25 s apart): the windows are of the encoder's own length, evenly spaced",
    "one mean and deviation over all training values: each encoder standardises as its InputSpec says",
    "90 % intervals of 100 resamples of records: here 95 %, of patients",
)
_strodthoff_optim = {"optimizer": "adamw", "batch_size": 128, "lr_reference_batch": None, "weight_decay": 0.01}

_st_mem = {
    **TUNED_FOLDS,
    **PLAIN,
    **RAND_AUGMENT,
    "single_label": True,
    "keep_unlabelled": False,
    "num_crops": 3,
    "pool": "mean_probabilities",
    "keep": "best",
    "patience": None,
    "optim": ADAMW
    | {
        "epochs": 10,
        "batch_size": 16,
        "lr": 1e-3,
        "lr_reference_batch": 256,
        "schedule": "cosine",
        "warmup_epochs": 3.0,
        "weight_decay": 0.05,
    },
}
_st_mem_apart = (
    "its split of PTB-XL was not published: the ten folds of the data set are used",
    "windows of 9 s at 250 Hz, 0.67-40 Hz, one mean and deviation per window: " + OWN_INPUT,
    "one-against-the-rest AUROC of the checkpoint with the lowest validation loss: here the one with the highest AUROC",
)

_ecg_jepa = {**TUNED_FOLDS, "keep_unlabelled": False, **PLAIN, "num_crops": 1, "patience": None}
_ecg_jepa_input = "500 Hz records resampled to 250 Hz, leads I, II, V1-V6, raw mV: " + OWN_INPUT

_reality = {
    **TUNED_FOLDS,
    **PLAIN,
    **NO_AUGMENT,
    "single_label": False,
    "keep_unlabelled": True,
    "num_crops": 1,
    "pool": "mean_probabilities",
    "keep": "best",
    "patience": None,
    "optim": {key: value for key, value in ADAMW.items() if key != "layer_decay"}
    | {
        "epochs": 100,
        "batch_size": 64,
        "lr": 1e-3,
        "lr_reference_batch": None,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "weight_decay": 1e-3,
    },
}
_reality_apart = (
    "a window of its own for each model, non-overlapping at test (ECG-JEPA 10 s, ST-MEM 2.4 s): " + OWN_INPUT,
    "a class that a resample leaves undefined counts 0.5 there; here it is skipped, and patients are drawn, not records",
)
_reality_rates = (
    "one tenth of the rate for the later blocks, one hundredth for the early ones: `optim.layer_decay` falls evenly"
)

PRESETS: dict[str, Preset] = {
    "strodthoff2021": Preset(
        "Strodthoff et al. 2021, arXiv 2004.13701; code helme/ecg_ptbxl_benchmarking at cdbf4e6",
        PTBXL,
        {
            EVALUATION: Part(
                {**FOLDS, **MULTI, "protocols": ["linear_probe"], "num_crops": 7},
                (
                    "the whole network is trained there; a probe of frozen embeddings is none of its rows",
                    "windows are pooled by their largest score there; here their embeddings are averaged",
                    *_strodthoff_apart,
                ),
            ),
            "scratch": Part(
                {
                    **_strodthoff,
                    "optim": _strodthoff_optim
                    | {"epochs": 50, "lr": 0.01, "schedule": "cosine", "warmup_epochs": 15.0, "min_lr": 0.0},
                },
                (
                    *_strodthoff_apart,
                    "fastai's one-cycle, which moves the momentum too: warm-up of 30 %, then a cosine",
                ),
                {FINETUNE: "Strodthoff 2021 supervised"},
            ),
            "finetune": Part(
                {**_strodthoff, "optim": _strodthoff_optim | {"epochs": 30, "lr": 1e-3}},
                (
                    *_strodthoff_apart,
                    "30 epochs of the new head alone at 1e-2 come first, and layers go from 1e-5 to 1e-3: "
                    "all is trained at once, `optim.layer_decay` falls evenly",
                ),
                {FINETUNE: "Strodthoff 2021 fine-tune"},
            ),
        },
    ),
    "st_mem": Preset(
        "Na et al. 2024 (ST-MEM), arXiv 2402.09450; code bakqui/ST-MEM at 69ec702",
        ("superclass",),
        {
            EVALUATION: Part(
                {
                    **FOLDS,
                    "single_label": True,
                    "keep_unlabelled": False,
                    "protocols": ["linear_probe"],
                    "num_crops": 3,
                },
                (
                    *_st_mem_apart[:2],
                    "its linear head is trained for 10 epochs with augmentation (fine-tuning with mode=linear_probe): here "
                    "logistic regression on embeddings averaged over the windows",
                ),
                {"linear_probe": "ST-MEM paper linear"},
            ),
            "finetune": Part(_st_mem, _st_mem_apart, {FINETUNE: "ST-MEM paper fine-tune"}),
            "linear_probe": Part(_st_mem, _st_mem_apart, {FINETUNE: "ST-MEM paper linear"}),
            "scratch": Part(_st_mem, _st_mem_apart),
        },
    ),
    "ecg_jepa": Preset(
        "Kim 2024 (ECG-JEPA), arXiv 2410.08559; code sehunfromdaegu/ECG_JEPA at d937ad2",
        ("superclass",),
        {
            EVALUATION: Part(
                {
                    **FOLDS,
                    "keep_unlabelled": False,
                    "num_crops": 1,
                    "protocols": ["linear_probe", "label_fractions", "reduced_leads"],
                    "label_fractions": [0.01, 0.1, 1.0],
                    "label_draws": 3,
                    "lead_subsets": ["all", "II+V1", "II"],
                },
                (
                    LAST_EPOCH_THERE,
                    "its linear head is trained for 10 epochs (fine-tuning with mode=linear_probe): here logistic regression",
                    "shares of the labels are drawn from records at random there; here from patients, stratified",
                    "one-against-one AUROC where records have one label: here one against the rest",
                    _ecg_jepa_input,
                ),
                {
                    "linear_probe": "ECG-JEPA linear",
                    "label_fractions@1%": "ECG-JEPA linear, 1% labels",
                    "label_fractions@10%": "ECG-JEPA linear, 10% labels",
                    "reduced_leads@II": "ECG-JEPA linear, lead II only",
                    "reduced_leads@II+V1": "ECG-JEPA linear, leads II+V1",
                },
            ),
            "linear_probe": Part(
                {
                    **_ecg_jepa,
                    **NO_AUGMENT,
                    "keep": "last",
                    "optim": ADAMW
                    | {
                        "epochs": 10,
                        "batch_size": 16,
                        "lr": 0.01,
                        "min_lr": 1e-3,
                        "lr_reference_batch": None,
                        "schedule": "cosine",
                        "warmup_epochs": 0.01,
                        "weight_decay": 0.01,
                    },
                },
                (
                    LAST_EPOCH_THERE,
                    "10 steps of warm-up: `optim.warmup_epochs` 0.01 is as many of 16 records",
                    _ecg_jepa_input,
                ),
                {FINETUNE: "ECG-JEPA linear"},
            ),
            "finetune": Part(
                {
                    **_ecg_jepa,
                    **RAND_AUGMENT,
                    "keep": "best",
                    "optim": ADAMW
                    | {
                        "betas": [0.9, 0.95],
                        "epochs": 10,
                        "batch_size": 16,
                        "lr": 1e-4,
                        "lr_reference_batch": 256,
                        "schedule": "cosine",
                        "warmup_epochs": 3.0,
                        "weight_decay": 0.05,
                    },
                },
                (
                    "it reports the best epoch on fold 10, and trains on folds 1-9: here fold 9 chooses the epoch",
                    "a band of 0.67-40 Hz in training and test: the encoder's own InputSpec has what it was pretrained with",
                ),
                {FINETUNE: "ECG-JEPA fine-tune"},
            ),
        },
    ),
    "reality_check": Preset(
        "Al-Masud et al. 2025, arXiv 2509.25095; code AI4HealthUOL/ecg-fm-benchmarking at 6367295",
        ("statements", "subclass", "superclass"),
        {
            EVALUATION: Part(
                {
                    **FOLDS,
                    "single_label": False,
                    "keep_unlabelled": True,
                    "num_crops": 1,
                    "protocols": ["linear_probe", "attentive_probe"],
                    "probe": {"attentive_epochs": 100, "attentive_lr": [1e-3]},
                },
                (
                    *_reality_apart,
                    "its linear head is trained for 100 epochs (fine-tuning with mode=linear_probe): here logistic regression",
                    "its frozen head attends with 16 heads and a constant rate: the attentive probe is this project's own",
                ),
                {"linear_probe": "RC linear", "attentive_probe": "RC frozen (attention head)"},
            ),
            "linear_probe": Part(_reality, _reality_apart, {FINETUNE: "RC linear"}),
            "finetune": Part(_reality, (*_reality_apart, _reality_rates), {FINETUNE: "RC finetuning_linear"}),
            "scratch": Part(_reality, _reality_apart, {FINETUNE: "RC supervised from scratch"}),
        },
    ),
    "l2_logistic": Preset(
        "Berger et al. 2026, arXiv 2602.17531; code zackeberger/ecg-fix",
        PTBXL,
        {
            EVALUATION: Part(
                {
                    **FOLDS,
                    **MULTI,
                    "num_crops": 1,
                    "protocols": ["linear_probe"],
                    "min_positives": 10,
                    "probe": {"c": [0.01, 0.1, 1.0, 10.0]},
                },
                (
                    "500 Hz and 10 s for every model: " + OWN_INPUT,
                    "balanced class weights and unscaled features are tried there too: features are standardised here",
                    "resamples stratified by class: here patients are drawn",
                ),
                {"linear_probe": "Berger 2026 linear probe, 100% labels"},
            )
        },
    ),
    "seed": Preset(
        "the project that this one grew from: kNN of 20 Euclidean neighbours and labels as clusters, one superclass per record",
        ("superclass",),
        {
            EVALUATION: Part(
                {
                    **FOLDS,
                    "single_label": True,
                    "keep_unlabelled": False,
                    "protocols": ["knn", "clusters"],
                    "knn": {"k": 20},
                }
            )
        },
        headline="auroc_macro",
    ),
}
