"""Two gloo ranks on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from shared.config import REPO_ROOT


def run_two_ranks(script: str, *arguments: str, code: int = 0) -> list[str]:
    """Run a Python script as ranks 0 and 1, from the repository's root; both must end with `code`. What each printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    place |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPO_ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=REPO_ROOT,
            env={**os.environ, **place, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [code, code], "\n".join(outputs)
    return outputs
