"""ECG-JEPA against reference tensors and released files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ecg_jepa_modified.config import Input, ModelConfig
from ecg_jepa_modified.model import ECGJEPA, ECGJEPAEncoder, load_official
from ecg_jepa_modified.released import official_name
from shared.config import REPO_ROOT
from shared.leads import INDEPENDENT_LEADS
from tests.ecg_jepa_modified.small import noise

GOLDEN = REPO_ROOT.parent / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no reference tensors at {GOLDEN}")
REFERENCE = ModelConfig(
    embed_dim=48, depth=2, num_heads=3, predictor_dim=24, predictor_depth=2, predictor_heads=2, drop_path=0.0
)

# ---------------------------------------------------------------- reference


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "ecg_jepa_a.npz", allow_pickle=False))


def reference_model(golden: dict[str, np.ndarray]) -> ECGJEPA:
    model = ECGJEPA(REFERENCE)
    state = {
        official_name(k.removeprefix("state/")): torch.tensor(v) for k, v in golden.items() if k.startswith("state/")
    }
    for key in [key for key in state if key.endswith("pos_embed")]:
        torch.testing.assert_close(model.get_buffer(key).flatten(0, 1), state[key], rtol=0, atol=1e-5)
        state[key] = state[key].view_as(model.get_buffer(key))
    model.load_state_dict(state)
    return model


@needs_golden
def test_reference_tokens_loss_and_gradients(golden: dict[str, np.ndarray]) -> None:
    model = reference_model(golden)
    x, mask = torch.tensor(golden["x"]), torch.tensor(golden["mask"])
    visible, masked = (~mask).nonzero().T, mask.nonzero().T  # [1, n]
    context = model.encoder(x, visible=visible[0])
    predicted = model.predictor(context, 8, visible, masked)
    # The reference keeps the predictor's outputs at visible times too; only those at masked times enter the loss.
    reference = torch.tensor(golden["predictor_tokens"]).unflatten(1, (8, -1))[:, :, visible.shape[1] :].flatten(1, 2)
    for ours, theirs in (
        (model.target_encoder(x), torch.tensor(golden["target_tokens"])),
        (context, torch.tensor(golden["context_tokens"])),
        (predicted, reference),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    terms = model(x, mask)
    assert terms.loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
    terms.loss.backward()
    gradients = {key: value for key, value in golden.items() if key.startswith("grad/")}
    assert gradients
    for key, value in gradients.items():
        grad = model.get_parameter(official_name(key.removeprefix("grad/"))).grad
        torch.testing.assert_close(grad, torch.tensor(value), rtol=1e-4, atol=1e-4 * float(np.abs(value).max()))


@needs_golden
def test_reference_representations_of_every_lead_subset(golden: dict[str, np.ndarray]) -> None:
    encoder = reference_model(golden).encoder
    subsets = [key for key in golden if key.startswith("representation/")]
    assert len(subsets) >= 3
    for key in subsets:
        rows = [int(i) for i in key.split("leads_")[1].split("_")]
        ours = encoder.embed(torch.tensor(golden["x"])[:, rows], [INDEPENDENT_LEADS[i] for i in rows])
        torch.testing.assert_close(ours, torch.tensor(golden[key]), rtol=1e-5, atol=1e-5)


@needs_golden
def test_released_names_and_shapes_are_the_full_size_encoder() -> None:
    listed = json.loads((GOLDEN / "ecg_jepa_checkpoint_keys.json").read_text())["encoder"]
    with torch.device("meta"):
        encoder = ECGJEPAEncoder(ModelConfig())
    own = {key: list(value.shape) for key, value in encoder.state_dict().items()}
    released = {official_name(key): shape for key, shape in listed.items()}
    assert released.pop("pos_embed") == [400, 768]
    assert own.pop("pos_embed") == [8, 50, 768]
    assert own == released


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> None:
    torch.manual_seed(0)


# ---------------------------------------------------------------- released files


def released_state(encoder: ECGJEPAEncoder) -> dict[str, Tensor]:
    """An encoder's state under the released names."""
    names = {"blocks.": "encoder_blocks.blocks.", "patch_embed.": "W_P."}
    state = {}
    for key, value in encoder.state_dict().items():
        first = key.split(".")[0] + "."
        state[key.replace(first, names.get(first, first), 1)] = value.clone()
    state["pos_embed"] = state["pos_embed"].flatten(0, 1)
    return state


@pytest.fixture
def released() -> tuple[ECGJEPAEncoder, dict[str, Tensor]]:
    encoder = ECGJEPAEncoder(REFERENCE).eval()
    return encoder, released_state(encoder)


@pytest.mark.parametrize("bare", [True, False])
def test_load_official_reads_both_forms(
    released: tuple[ECGJEPAEncoder, dict[str, Tensor]], bare: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, state = released
    torch.save(state if bare else {"encoder": state, "epoch": 3}, tmp_path / "a.pth")
    loaded = load_official(tmp_path / "a.pth", num_heads=3)
    assert not loaded.training
    assert loaded.input_spec == Input()
    assert torch.equal(loaded.embed(noise(1, 8, 2500)), encoder.embed(noise(1, 8, 2500)))
    assert f"{len(state)} matched, 0 missing, 0 unexpected, 0 wrong shape" in capsys.readouterr().out


def break_state(state: dict[str, Tensor], how: str) -> Any:
    if how == "missing":
        del state["norm.weight"]
    elif how == "unexpected":
        state["decoder.weight"] = torch.zeros(1)
    elif how == "shape":
        state["norm.bias"] = torch.zeros(7)
    elif how == "hybrid":
        state["pos_embed"] = torch.zeros(950, 48)
    elif how == "table":
        state["pos_embed"] += 0.1
    elif how == "st_mem":
        return {"model": {"encoder.to_patch_embedding.2.weight": torch.zeros(1), "mask_embedding": torch.zeros(1)}}
    elif how == "empty":
        return {"epoch": 3}
    return {"encoder": state}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"1 missing(.|\n)*missing: norm\.weight"),
        ("unexpected", r"1 unexpected(.|\n)*unexpected: decoder\.weight"),
        ("shape", r"1 wrong shape(.|\n)*norm\.bias \(file \(7,\), model \(48,\)\)"),
        ("hybrid", r"\[950, 48\].*8 leads × 50 patches = 400.*hybrid"),
        ("st_mem", r"an ST-MEM checkpoint"),
        ("empty", r"no state dict"),
    ],
)
def test_load_official_refuses(
    released: tuple[ECGJEPAEncoder, dict[str, Tensor]], how: str, message: str, tmp_path: Path
) -> None:
    torch.save(break_state(released[1], how), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        load_official(tmp_path / "a.pth", num_heads=3)


def test_load_official_takes_the_table_of_the_file(
    released: tuple[ECGJEPAEncoder, dict[str, Tensor]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(break_state(released[1], "table"), tmp_path / "a.pth")
    fixed = load_official(tmp_path / "a.pth", num_heads=3)
    assert "away from sin-cos and is used as it is" in capsys.readouterr().out
    torch.testing.assert_close(fixed.get_buffer("pos_embed"), released[0].pos_embed + 0.1)
    loaded = load_official(tmp_path / "a.pth", num_heads=3, pos_embed="learnable")
    assert isinstance(loaded.pos_embed, nn.Parameter)
    torch.testing.assert_close(loaded.pos_embed.data, released[0].pos_embed + 0.1)


def test_load_official_never_executes_and_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load_official(tmp_path / "none.pth")
    torch.save({"encoder": Path("an object")}, tmp_path / "object.pth")
    with pytest.raises(ValueError, match="weights_only"):
        load_official(tmp_path / "object.pth")
