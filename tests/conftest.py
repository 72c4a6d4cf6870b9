"""One thread a test process: two processes on two cores are faster than two threads fighting over them."""

from __future__ import annotations

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)
