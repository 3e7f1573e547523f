"""Writes rows idempotently: each row is stored once, by its key."""
from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

# Keys of a query; databases limit its parameters to some 32,000.
_KEYS = 5_000
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclasses.dataclass
class Added:
    """What became of the rows of one call.

    Attributes:
        new: number of rows that were stored.
        known: number of rows that were there with the same content.
        rejected: frame of the other rows as they came, with their index and
            a column `reason`.
    """

    new: int
    known: int
    rejected: pd.DataFrame


def insert(connection, table: sa.Table,
           columns: dict[str, np.ndarray]) -> int:
    """Stores the rows whose keys are not there yet.

    Args:
        connection: a connection in a transaction.
        table: the table to write to.
        columns: name -> values of the table's columns that are not NULL.

    Returns:
        How many rows were stored.
    """
    names = [name for name in table.c.keys() if name in columns]
    statement = _INSERT[connection.dialect.name](table)
    # SQLAlchemy's own loop over parameters takes twice the time of the
    # database itself; they are of the right types already.
    text = str(statement.on_conflict_do_nothing().compile(
        dialect=connection.dialect, column_keys=names))
    cells = [_with_nulls(columns[name]) if table.c[name].nullable
             else columns[name].tolist() for name in names]
    return connection.exec_driver_sql(text, list(zip(*cells))).rowcount


def _with_nulls(numbers: np.ndarray) -> list:
    cells = numbers.astype(object)
    cells[np.isnan(numbers)] = None
    return cells.tolist()


def contradicts(connection, table: sa.Table, columns: dict[str, np.ndarray]
                ) -> np.ndarray:
    """Returns which rows differ from those under their keys, bool `[n]`."""
    rows = pd.DataFrame(columns)
    keys = [column.name for column in table.primary_key]
    first = rows[keys[0]].unique()
    statement = sa.select(*(table.c[name] for name in rows.columns))
    parts = []
    for start in range(0, len(first), _KEYS):
        some = [str(key) for key in first[start:start + _KEYS]]
        parts.append(pd.DataFrame(connection.execute(
            statement.where(table.c[keys[0]].in_(some))).all(),
            columns=rows.columns))
    # `there` has one row for each of `rows`, in order, as keys are distinct.
    there = rows[keys].merge(pd.concat(parts), on=keys, how="left")
    differs = np.zeros(len(rows), bool)
    for name in rows.columns.difference(keys):
        mine, stored = rows[name].to_numpy(), there[name].to_numpy()
        if rows[name].dtype.kind == "f":
            mine, stored = mine.astype(float), stored.astype(float)
            differs |= (mine != stored) & ~(np.isnan(mine)
                                            & np.isnan(stored))
        else:
            differs |= np.asarray(mine != stored, bool)
    return differs
