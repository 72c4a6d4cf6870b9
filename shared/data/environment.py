"""What a machine offers: Python, libraries, GPUs, cores, memory, room; each with what to do where it is not enough."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import joblib

from shared.config import REPO_ROOT
from shared.data.wholeness import Finding

LEAST_PYTHON = (3, 10)
NEEDED = {
    "torch": "torch",
    "timm": "timm",
    "wfdb": "wfdb",
    "scipy": "scipy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "scikit-learn": "sklearn",
    "matplotlib": "matplotlib",
    "pydantic": "pydantic",
    "safetensors": "safetensors",
    "PyWavelets": "pywt",
    "pytorch-metric-learning": "pytorch_metric_learning",
    "vector-quantize-pytorch": "vector_quantize_pytorch",
    "tensorboard": "tensorboard",
}
"""Package → module; each is imported, since a package may be installed and broken."""
EXTRAS = {"h5py": ("h5py", "hdf5"), "dask": ("dask.distributed", "cluster"), "lifelines": ("lifelines", "survival")}
"""Package → its module and the extra of this project that brings it."""
LEAST_FREE_GB = 10.0
"""Room below which a prepared PTB-XL and the checkpoints of one pretraining do not fit."""


def check_environment() -> Iterator[Finding]:
    """Every fact, one line each."""
    version = platform.python_version()
    if sys.version_info < LEAST_PYTHON:
        yield Finding(
            "WRONG",
            f"Python {version}; 3.10 or newer is needed",
            "make an environment of a newer one, then bash scripts/setup.sh",
        )
    else:
        yield Finding("ok", f"Python {version}, {sys.prefix}")
    yield from check_libraries()
    yield from check_gpus()
    memory = memory_bytes() / 2**30
    yield Finding("ok", f"{joblib.cpu_count()} core(s), {memory:.1f} GiB of memory")
    free = shutil.disk_usage(REPO_ROOT).free / 1e9
    few = free < LEAST_FREE_GB
    yield Finding(
        "note" if few else "ok",
        f"{free:.1f} GB free at {REPO_ROOT}",
        "PTB-XL and a run take about as much: give out=… on a larger disk" if few else "",
    )


def check_libraries() -> Iterator[Finding]:
    """Each needed library imported; of the optional ones, which are there."""
    whole = []
    for package, module in NEEDED.items():
        why = import_error(module)
        if why:
            yield Finding(
                "WRONG", f"{package} cannot be imported: {why}", "bash scripts/setup.sh installs what is missing"
            )
        else:
            whole.append(f"{package} {version_of(package)}")
    if whole:
        yield Finding("ok", ", ".join(whole))
    for package, (module, extra) in EXTRAS.items():
        if import_error(module):
            yield Finding("note", f"{package} is not installed, which few need", f'pip install -e ".[{extra}]"')


def check_gpus() -> Iterator[Finding]:
    """GPUs as torch sees them; and why it sees none where the driver does."""
    if import_error("torch"):
        return
    import torch

    driver = driver_gpus()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    said_text = "; ".join(str(warning.message).splitlines()[0] for warning in said)
    build = f"torch {torch.__version__}, built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'the CPU'}"
    if there:
        yield Finding("ok", f"{build}; driver {driver[0][1] if driver else 'unknown'}")
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            yield Finding("ok", f"GPU {number}: {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    elif driver:
        names = ", ".join(name for name, _ in driver)
        yield Finding(
            "WRONG",
            f"{build}, sees no GPU, but the driver {driver[0][1]} has {names}. {said_text}".strip(),
            "install a torch built for a CUDA that this driver knows, or unset CUDA_VISIBLE_DEVICES",
        )
    else:
        yield Finding("note", f"{build}; no GPU here: the demo runs, a pretraining at full size does not")


def driver_gpus() -> list[tuple[str, str]]:
    """Name and driver version of every GPU that nvidia-smi knows; none where there is no nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    pairs = (line.rpartition(",")[::2] for line in done.stdout.splitlines() if "," in line)
    return [(name.strip(), version.strip()) for name, version in pairs]


def import_error(module: str) -> str:
    """Why a module cannot be imported; empty where it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # a broken library raises anything
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    return ""


def version_of(package: str) -> str:
    """What pip knows of it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(unknown version)"


def memory_bytes() -> int:
    """Memory of the machine, or of the container if that is given less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return min(whole, int(Path(limit).read_text()))
        except (OSError, ValueError):  # not that version of cgroups, or `max`
            continue
    return whole
