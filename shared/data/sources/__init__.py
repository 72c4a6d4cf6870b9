"""The databases. To add one: a module with `Config`, `LABELS`, `index`, `read`, and one line here."""

from shared.data.sources import ptbxl, synthetic, wfdb_folder
from shared.data.sources.base import Source

SOURCES: dict[str, Source] = {"ptbxl": ptbxl, "wfdb_folder": wfdb_folder, "synthetic": synthetic}
