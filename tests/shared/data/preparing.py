"""Preparing a folder of WFDB records in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shared.data.prepare import prepare
from shared.data.sources import wfdb_folder
from shared.data.store import ECGStore


def config_of(root: Path, **values: Any) -> wfdb_folder.Config:
    return wfdb_folder.Config(**{"root": root / "in", "out": root / "out", "backend": "sequential", **values})


def run(root: Path, **values: Any) -> ECGStore:
    return prepare(config_of(root, **values))


def audit_of(store: ECGStore) -> dict[str, Any]:
    return dict(json.loads((store.path / "audit.json").read_text()))
