"""Two processes embed what one would, to the bit, and the first alone evaluates and writes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import st_mem_modified.evaluate
from tests.ranks import run_two_ranks
from tests.test_stops import Runs

EVALUATE = textwrap.dedent("""
    import sys
    import torch
    import st_mem_modified.evaluate
    from shared import embeddings

    torch.set_num_threads(1)
    fill, counted = embeddings._fill, []

    def counting(out, rows, store, indices, own, options):
        counted.append(len(range(*own.indices(len(indices)))) / len(indices))
        fill(out, rows, store, indices, own, options)

    embeddings._fill = counting
    st_mem_modified.evaluate.main(sys.argv[1:])
    print("shares", *counted)
""")
EMBED = textwrap.dedent("""
    import sys
    import numpy as np
    import torch
    from shared.data.store import ECGStore
    from shared.embeddings import embed_store
    from shared.errors import UserError
    from shared.ranks import join_ranks, place
    from st_mem_modified.loading import load_encoder

    torch.set_num_threads(1)
    weights, path, out = sys.argv[1:]
    store, encoder = ECGStore(path), load_encoder(weights)

    class OneSpoils(torch.nn.Module):
        input_spec, embed_dim = encoder.input_spec, encoder.embed_dim

        def embed(self, ecg, leads=None):
            if place()[0] == 1:
                raise ValueError("of rank one")
            return encoder.embed(ecg, leads)

    join_ranks()
    for name, indices in (("odd", np.arange(37)[::-1]), ("few", np.arange(3)), ("one", np.arange(1))):
        found = embed_store(encoder, store, indices, num_crops=2, batch_size=5, ranks=True)
        np.save(f"{out}/{name}-{place()[0]}.npy", found)
    alone = embed_store(encoder, store, np.arange(2)) if place()[0] == 0 else None  # of no other's business
    try:
        embed_store(OneSpoils(), store, np.arange(20), batch_size=5, ranks=True)
    except Exception as error:
        print(type(error).__name__, error)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
""")
SAYING = """
def main_or_say(argv):
    try:
        main(argv)
    except Exception as error:
        print("refused", error)

main = st_mem_modified.evaluate.main
st_mem_modified.evaluate.main_or_say = main_or_say
"""
SETTINGS = ("task=superclass", "protocols=[knn,reduced_leads]", "resamples=20", "batch_size=16")


@pytest.fixture(scope="module")
def runs(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("together"), synthetic_store)


def numbers(out: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    return json.loads((out / "metrics.json").read_text()), {
        path.name: path.read_bytes() for path in (out / "cache").glob("*.npy")
    }


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(runs: Runs, tmp_path: Path) -> None:
    settings = (*SETTINGS, f"store={runs.store}", f"encoder.weights={runs.whole('st_mem')}")
    st_mem_modified.evaluate.main([*settings, f"out={tmp_path / 'one'}"])
    first, second = run_two_ranks(EVALUATE, *settings, f"out={tmp_path / 'two'}")
    expected, found = numbers(tmp_path / "one"), numbers(tmp_path / "two")
    assert found[0] == expected[0] and found[1] == expected[1] and len(expected[1]) > 2
    shares = [[float(share) for share in text.split("shares ")[1].split()] for text in (first, second)]
    assert len(shares[0]) == len(shares[1]) == len(expected[1])  # every pass, the protocols' own too
    assert all(0.3 < a < 0.7 and a + b == pytest.approx(1) for a, b in zip(*shares, strict=True))
    assert "report" in first and "report" not in second
    again = run_two_ranks(EVALUATE, *settings, f"out={tmp_path / 'two'}")  # all is kept, and nobody waits
    assert all(text.split("shares")[1].strip() == "" for text in again)


@pytest.mark.slow
def test_an_error_of_the_main_process_frees_the_others(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = (*SETTINGS, f"store={runs.store}", f"encoder.weights={runs.whole('st_mem')}")
    script = EVALUATE.replace("main(sys", "main_or_say(sys").replace("torch.set_num", SAYING + "torch.set_num")
    said = run_two_ranks(script, *settings, f"out={tmp_path / 'file' / 'below'}")
    assert "refused" in said[0] and "Not a directory" in said[0] and "shares" in said[1] and "Traceback" not in said[1]


@pytest.mark.slow
def test_embeddings_are_put_together_to_the_bit(runs: Runs, synthetic_store: Path, tmp_path: Path) -> None:
    """Also where records do not fill a batch, or ranks have none; an error of one is an error of all."""
    from shared.data.store import ECGStore
    from shared.embeddings import embed_store
    from st_mem_modified.loading import load_encoder

    weights = runs.whole("st_mem")
    said = run_two_ranks(EMBED, str(weights), str(synthetic_store), str(tmp_path))
    store, encoder = ECGStore(synthetic_store), load_encoder(weights)
    for name, indices in (("odd", np.arange(37)[::-1]), ("few", np.arange(3)), ("one", np.arange(1))):
        expected = embed_store(encoder, store, indices, num_crops=2, batch_size=5)
        for rank in range(2):
            assert np.load(tmp_path / f"{name}-{rank}.npy").tobytes() == expected.tobytes(), (name, rank)
    assert "another process could not embed" in said[0] and "ValueError of rank one" in said[1]
