"""The one error that speaks to the user, and the name that was probably meant."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Numbers of the OSErrors that say that a disk, a quota or a limit is full."""


class UserError(ValueError):
    """Bad input. The message says what was given, what was expected and what to do; entry points print it without a traceback."""


def did_you_mean(given: object, names: Iterable[str], cutoff: float = 0.5) -> str:
    """The end of a message on an unknown name: `; did you mean 'knn'?`, or a full stop where none is near."""
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(given).strip().lower()[:100], by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else "."
