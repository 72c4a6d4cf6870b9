"""records.parquet out of its parts: what needs all rows at once is computed from few columns, the rest part by part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from shared.data.audit import Audit
from shared.data.copy_groups import CopyGroups, Shards, group_copies
from shared.data.quality import flag_amplitudes
from shared.data.segments import names_of
from shared.data.sources.base import PrepareConfig

FIRST = ("source", "record", "segment", "patient", "age", "sex", "fold")
"""Columns that come first, then the labels, then all others as they came."""
DROPPED = ("nan", "nan_leads", "path")
"""Columns of use while preparing only."""
OVER_ALL = ["record", "patient", "digest", "fold", "flat_leads", "amplitudes_mv"]
"""Columns of which all rows are needed at once."""


class Groups(NamedTuple):
    """What the whole table shows: patients, records of each group of sample-identical segments, copies of any kind."""

    num_patients: int
    duplicates: list[list[str]]
    copies: CopyGroups


def write_table(
    parts: Sequence[Path], out: Path, labels: Sequence[str], shards: Shards, config: PrepareConfig, audit: Audit
) -> Groups:
    """Join the parts of a table, add the flags, copies and folds that only all rows together show, and count them.

    Args:
        parts: files, in order.
        out: the table to write.
        labels: columns of lists of names.
        shards: the signals of all rows.
        config: leads of the store, and what becomes of copies.
        audit: counts every part.
    """
    leads = config.leads
    few = pa.concat_tables([pq.read_table(part, columns=OVER_ALL) for part in parts], promote_options="permissive")
    copies = group_copies(few.drop_columns("amplitudes_mv").to_pandas(), shards, config)
    amplitudes = few["amplitudes_mv"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    odd = flag_amplitudes(amplitudes.astype(float).reshape(few.num_rows, len(leads)))
    names = few.select(["record", "digest"]).to_pandas()
    again = names.digest.duplicated()
    copied = names[names.digest.duplicated(keep=False)]
    first = copied.groupby("digest").record.first()
    copy_of = names.digest[again].map(first).reindex(names.index, fill_value="")
    schema = _schema(parts, labels)
    with pq.ParquetWriter(out, schema) as writer:
        done = 0
        for part in parts:
            table = pq.read_table(part)
            rows = slice(done, done + table.num_rows)
            added = {
                "amplitude": pa.array(odd[rows].any(axis=1)),
                "amplitude_leads": pa.array([names_of(leads, mask) for mask in odd[rows]], pa.list_(pa.string())),
                "duplicate_of": pa.array(copy_of.iloc[rows].tolist(), pa.string()),
                "copy_of": pa.array(copies.copy_of[rows].tolist(), pa.string()),
                "fold": pa.array(copies.fold[rows], schema.field("fold").type),
            }
            table = pa.table([_column(table, field, added, labels) for field in schema], schema=schema)
            writer.write_table(table)
            audit.add(table.to_pandas())
            done = rows.stop
    groups = copied.groupby("digest").record.agg(list).tolist()
    return Groups(len(few["patient"].unique()), groups, copies)


def _schema(parts: Sequence[Path], labels: Sequence[str]) -> pa.Schema:
    """Columns of all parts: each of the widest type that it has in one, in the order of the table."""
    found = pa.unify_schemas([pq.read_schema(part).remove_metadata() for part in parts], promote_options="permissive")
    kinds = {field.name: field.type for field in found if field.name not in DROPPED}
    names = pa.list_(pa.string())
    kinds |= {"amplitude": pa.bool_(), "amplitude_leads": names, "duplicate_of": pa.string(), "copy_of": pa.string()}
    kinds |= dict.fromkeys(labels, names)
    lead = [name for name in (*FIRST, *labels) if name in kinds]
    return pa.schema([(name, kinds[name]) for name in (*lead, *(name for name in kinds if name not in lead))])


def _column(table: pa.Table, field: pa.Field, added: dict[str, pa.Array], labels: Sequence[str]) -> pa.Array:
    if field.name in added:
        return added[field.name]
    if field.name in labels:  # a record of which nothing is said has none
        values = table[field.name].to_pylist() if field.name in table.column_names else [None] * table.num_rows
        return pa.array([value or [] for value in values], field.type)
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    return table[field.name].combine_chunks().cast(field.type)
