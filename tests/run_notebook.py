"""Execute a notebook with this interpreter and keep what came out: `python tests/run_notebook.py IN OUT`.

A process of its own: a kernel's sockets and event loop outlive the call, and warn about it long after.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

if __name__ == "__main__":
    source, out = map(Path, sys.argv[1:])
    notebook = nbformat.read(source, as_version=4)
    # No folder of kernels: then `python3` is the one of this interpreter, whatever is registered on the machine.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(Path.cwd())}}).execute()
    nbformat.write(notebook, out)
