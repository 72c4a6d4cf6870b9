"""The databases. To add one: a module with `Config`, `LABELS`, `index`, `read`, and one line here."""

from shared.data.sources import (
    challenge2021,
    chapman_ningbo,
    code15,
    code_test,
    ludb,
    mimic_iv_ecg,
    mitbih,
    physionet2017,
    ptbxl,
    ptbxl_plus,
    sph,
    synthetic,
    table,
    wfdb_folder,
)
from shared.data.sources.base import Source

SOURCES: dict[str, Source] = {
    "ptbxl": Source(ptbxl.Config, ptbxl.LABELS, ptbxl.index, ptbxl.read),
    "code15": Source(code15.Config, code15.LABELS, code15.index, code15.read),
    "ludb": Source(ludb.Config, ludb.LABELS, ludb.index, ludb.read),
    "challenge2021": Source(challenge2021.Config, challenge2021.LABELS, challenge2021.index, challenge2021.read),
    "chapman_ningbo": Source(chapman_ningbo.Config, chapman_ningbo.LABELS, chapman_ningbo.index, chapman_ningbo.read),
    "physionet2017": Source(physionet2017.Config, physionet2017.LABELS, physionet2017.index, physionet2017.read),
    "mitbih": Source(mitbih.Config, mitbih.LABELS, mitbih.index, mitbih.read),
    "code_test": Source(code_test.Config, code_test.LABELS, code_test.index, code_test.read),
    "sph": Source(sph.Config, sph.LABELS, sph.index, sph.read),
    "mimic_iv_ecg": Source(mimic_iv_ecg.Config, mimic_iv_ecg.LABELS, mimic_iv_ecg.index, mimic_iv_ecg.read),
    "ptbxl_plus": Source(ptbxl_plus.Config, ptbxl_plus.LABELS, ptbxl_plus.index, ptbxl_plus.read),
    "wfdb_folder": Source(wfdb_folder.Config, wfdb_folder.LABELS, wfdb_folder.index, wfdb_folder.read),
    "table": Source(table.Config, table.LABELS, table.index, table.read),
    "synthetic": Source(synthetic.Config, synthetic.LABELS, synthetic.index, synthetic.read),
}
