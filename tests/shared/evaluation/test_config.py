"""The evaluation's config is put together from the protocols: their keys, their settings, one file and one line for a new one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import Field

from shared.config import REPO_ROOT, ConfigError, Section, load_config
from shared.evaluation.config import EvaluateConfig, _build
from shared.evaluation.context import Protocol, Result
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.protocols.attentive_probe import AttentiveProbeSettings
from shared.evaluation.protocols.knn import KNNSettings
from shared.evaluation.protocols.label_fractions import LabelFractionsSettings
from shared.evaluation.protocols.linear_probe import LinearProbeSettings
from shared.evaluation.report.tables import HEADLINES, MAIN, TITLES

SET = ["store=x", "knn.k=5", "probe.l2=1,2", "probe.attentive_epochs=3", "label_fractions=0.5,1", "label_draws=7"]


def test_keys_stand_where_they_stood() -> None:
    config = load_config(EvaluateConfig, None, SET)
    values = config.model_dump()
    assert values["knn"] == {"k": 5, "temperature": 0.07}
    assert values["probe"] == {
        "l2": (1.0, 2.0),
        "c": None,
        "attentive_epochs": 3,
        "attentive_steps": 1000,
        "attentive_lr": (1e-3, 3e-3, 1e-2, 3e-2),
    }
    assert set(values["survival"]) == {"time", "event", "components", "penalizers"}
    assert {"label_fractions", "label_draws", "lead_subsets", "regression", "impostor_pairs"} <= set(values)
    assert values["label_fractions"] == (0.5, 1.0)


def test_settings_by_their_class() -> None:
    config = load_config(EvaluateConfig, None, SET)
    assert config.settings(KNNSettings).k == 5
    assert config.settings(LinearProbeSettings).l2 == (1, 2)
    assert config.settings(AttentiveProbeSettings).attentive_epochs == 3
    assert config.settings(LabelFractionsSettings).label_draws == 7

    class Strange(Section):
        pass

    with pytest.raises(TypeError, match="no protocol of PROTOCOLS brings Strange"):
        config.settings(Strange)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("knn.kk=5", "unknown key 'knn.kk'; did you mean 'knn.k'"),
        ("label_fraction=0.5", "did you mean 'label_fractions'"),
        ("label_fractions=2", "label_fractions.0: Input should be less than or equal to 1"),
        ("knn.k=0", "knn.k: Input should be greater than or equal to 1"),
    ],
)
def test_bad_settings_of_protocols(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(EvaluateConfig, None, ["store=x", override])


@pytest.mark.parametrize("section", ["counting", None])
def test_a_new_protocol_is_one_line(section: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class CountingSettings(Section):
        most: int = Field(3, ge=1)

    monkeypatch.setitem(PROTOCOLS, "counting", Protocol(lambda context: Result({}), CountingSettings, section))
    built = _build()
    key = "counting.most" if section else "most"
    config = load_config(built, None, ["store=x", f"{key}=4"])
    assert config.settings(CountingSettings).most == 4  # type: ignore[attr-defined]


def test_metrics_of_a_name_have_one_title() -> None:
    for protocol in PROTOCOLS.values():
        assert all(TITLES[metric] == title for metric, title in protocol.titles.items())
        assert set(protocol.headlines) <= set(protocol.main) <= set(protocol.titles)
    assert set(HEADLINES) <= set(MAIN) <= set(TITLES)


def test_reading_a_config_loads_neither_plots_nor_scikit_learn() -> None:
    code = (
        "import sys, shared.evaluation.config; print(sorted({'matplotlib', 'sklearn', 'lifelines'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
