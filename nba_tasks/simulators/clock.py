"""Local days and seconds to instants, without a loop over rows."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def day_number(date: dt.date) -> int:
    """Days since 1970-01-01."""
    return (date - dt.date(1970, 1, 1)).days


def instants(day: IntArray, second: IntArray, zone: ZoneInfo) -> pd.DatetimeIndex:
    """Instants of local wall-clock times.

    Parameters
    ----------
    day : int array of shape (n,)
        Local days since 1970-01-01.
    second : int array of shape (n,)
        Wall-clock seconds of the day, from 04:00 on: by then a day's change of clocks lies behind it, so that one
        shift per day suffices and no time is skipped or doubled.

    Returns
    -------
    DatetimeIndex of length n, in UTC.

    Raises
    ------
    ValueError
        A time lies before 04:00.
    """
    if len(second) and second.min() < 4 * 3600:
        raise ValueError("wall-clock times before 04:00 may be skipped or doubled by a change of clocks")
    days, position = np.unique(day, return_inverse=True)
    noon = dt.time(12, tzinfo=zone)
    shift = [_utc_shift(dt.date(1970, 1, 1) + dt.timedelta(days=int(d)), noon) for d in days]
    seconds = day * 86_400 + second - np.asarray(shift, dtype=np.int64)[position]
    return pd.DatetimeIndex(seconds.astype("datetime64[s]"), tz="UTC")


def _utc_shift(date: dt.date, time: dt.time) -> int:
    shift = dt.datetime.combine(date, time).utcoffset()
    assert shift is not None  # `time` carries its zone
    return int(shift.total_seconds())
