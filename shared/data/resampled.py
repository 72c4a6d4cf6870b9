"""A store served at another rate than it holds: for encoders from elsewhere, which were trained on nobody's store."""

from __future__ import annotations

import copy

import numpy as np

from shared.data.store import ECGStore, StoreError
from shared.signals import resample_ends


def at_rate(store: ECGStore, fs: float) -> ECGStore:
    """The same records at another rate, each resampled whole when it is read; the store itself where it has the rate.

    Windows are cut from the resampled record, so they are those of a store prepared from this one at `fs`. What takes a
    store over to disturb it, or to look through one window, takes the resampling over too.
    """
    stored = store if store.resampled is None else store.resampled.store
    if fs == stored.fs:
        return stored
    served = copy.copy(stored)
    served.fs, served.num_samples = fs, round(stored.num_samples * fs / stored.fs)
    served.fingerprint = f"{stored.fingerprint}@{fs:g}Hz"
    served.resampled = Resampled(stored, fs, served.num_samples)
    return served


class Resampled:
    """Reads the signals of a store at another rate.

    Args:
        store: as it is stored.
        fs: Hz.
        num_samples: of a whole record at `fs`.
    """

    def __init__(self, store: ECGStore, fs: float, num_samples: int) -> None:
        self.store, self.fs, self.num_samples = store, fs, num_samples
        self._key: tuple[object, ...] = ()
        self._records = np.empty((0, 0, num_samples), dtype=np.int16)

    def read(
        self, leads: list[int], features: list[int], indices: np.ndarray, starts: np.ndarray, length: int
    ) -> np.ndarray:
        """Windows `[n, len(leads), length]` int16, in steps of the store.

        Raises:
            StoreError: features are asked for, which are not resampled.
        """
        if features:
            raise StoreError(
                f"the store {self.store.path} is at {self.store.fs:g} Hz and its features are not resampled: "
                f"prepare one with fs={self.fs:g}."
            )
        key = (*leads, indices.tobytes())
        if self._key != key:  # several windows of a batch are cut from the same records
            self._key, self._records = key, self._resample(leads, indices)
        out = np.empty((len(indices), len(leads), length), dtype=np.int16)
        for window, record, start in zip(out, self._records, starts, strict=True):
            window[:] = record[:, start : start + length]
        return out

    def _resample(self, leads: list[int], indices: np.ndarray) -> np.ndarray:
        stored = self.store.read_windows(indices, indices * 0, self.store.num_samples, leads)
        out = np.empty((*stored.shape[:2], self.num_samples), dtype=np.int16)
        for record, ecg in zip(out, stored, strict=True):  # one at a time stays in the processor's cache
            found = np.rint(resample_ends(ecg.astype(np.float32), self.store.fs, self.fs))
            record[:] = found.clip(-(2**15), 2**15 - 1)  # beside a steep flank it may overshoot the integers
        return out
