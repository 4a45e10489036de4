"""Columns to and from the databases by COPY, without a Python object a value: what a list of millions needs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from nba_tasks.database import quote_identifier
from nba_tasks.dataset import BoolArray, FloatArray


def read(
    connection: Connection, query: str, types: Mapping[str, pa.DataType], parameters: Mapping[str, Any] | None = None
) -> pa.Table:
    """The rows of a query.

    Parameters
    ----------
    types : mapping of str to pyarrow type
        The query's columns in order.
    parameters : mapping, optional
        Bound parameters (`:name` in the query).
    """
    compiled = sa.text(query).compile(dialect=connection.dialect)
    buffer = io.BytesIO()
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor:
        text = cursor.mogrify(str(compiled), compiled.construct_params(dict(parameters or {}))).decode()
        cursor.copy_expert(f"copy ({text}) to stdout with (format csv)", buffer)
    if buffer.tell() == 0:
        return pa.schema(list(types.items())).empty_table()
    buffer.seek(0)
    return pyarrow.csv.read_csv(
        buffer,
        read_options=pyarrow.csv.ReadOptions(column_names=list(types)),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict(types),
            # Null is what is empty and unquoted; no text of a customer's is taken for it.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )


def write(connection: Connection, table: str, columns: Mapping[str, Any]) -> int:
    """Add rows to a table, given by column: arrays (NaN is a value, None is null), or one value for every row.

    Returns
    -------
    int
        Rows added.
    """
    rows = next(len(values) for values in columns.values() if not _is_scalar(values))
    data = pa.table({name: pa.repeat(v, rows) if _is_scalar(v) else _column(v) for name, v in columns.items()})
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(data, buffer, pyarrow.csv.WriteOptions(include_header=False))
    buffer.seek(0)
    names = ", ".join(quote_identifier(name) for name in columns)
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor:
        cursor.copy_expert(f"copy {quote_identifier(table)} ({names}) from stdin with (format csv)", buffer)
        return int(cursor.rowcount)


def _column(values: Any) -> pa.Array | pa.ChunkedArray:
    return values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str) or not hasattr(value, "__len__")


def array_literals(values: FloatArray, kept: BoolArray | None = None) -> pa.StringArray:
    """Rows of numbers as PostgreSQL array literals; every number reads back as the same number, NaN as null.

    Parameters
    ----------
    values : array of shape (n, m)
    kept : bool array of shape (n, m), optional
        The values that stand in the literal.
    """
    texts = []
    for column in range(values.shape[1]):
        numbers = np.ascontiguousarray(values[:, column])
        text = pc.cast(pa.array(numbers, mask=np.isnan(numbers)), pa.string()).fill_null("NULL")
        texts.append(_only(text, kept, column))
    return _braced(texts)


def name_literals(names: Sequence[str], kept: BoolArray) -> pa.StringArray:
    """Which of some names stand in each row, as PostgreSQL array literals; `kept` has shape (n, len(names))."""
    quoted = ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names]
    return _braced([_only(pa.repeat(name, len(kept)), kept, column) for column, name in enumerate(quoted)])


def _only(text: pa.StringArray, kept: BoolArray | None, column: int) -> pa.StringArray:
    """A comma and the text where it is kept, nothing elsewhere."""
    entry = joined(",", text)
    return entry if kept is None else pc.if_else(pa.array(np.ascontiguousarray(kept[:, column])), entry, "")


def _braced(entries: Sequence[pa.StringArray]) -> pa.StringArray:
    return joined("{", pc.utf8_slice_codeunits(joined(*entries), 1), "}")


def joined(*parts: Any) -> pa.StringArray:
    """Texts put together row by row; a part may be one text for every row."""
    return pc.binary_join_element_wise(*parts, "")


def chosen(texts: Sequence[str | None], index: NDArray[np.integer]) -> pa.StringArray:
    """The text that each row's number names."""
    return pa.array(texts, pa.string()).take(pa.array(index))


def matrix(table: pa.Table, names: Sequence[str], dtype: Any = np.float32) -> NDArray[Any]:
    """Columns of numbers as an array of shape (n, len(names)); null is NaN."""
    found = np.empty((table.num_rows, len(names)), dtype=dtype)
    for position, name in enumerate(names):
        found[:, position] = table.column(name).to_numpy()
    return found
