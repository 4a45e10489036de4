"""Second step of the nightly flow: Great Expectations over staging, bad rows to quarantine, a report per run.

The suites are `expectations/*.json`, one a relation, and `night.json` for the night as a whole. A rule about rows is
stated once, there: a query for the numbers of the rows that break it, and the reason that the quarantine shows.
Braces in the queries stand for values of the run; `{batch}` is Great Expectations' own: the rows of the batch.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from nba_tasks import contract
from nba_tasks.contract import ACCEPTED, RELATIONS
from nba_tasks.database import execute, lock, quote_literal, statement
from nba_tasks.history import staged_rows
from nba_tasks.programme import NO_ACTION, CustomerFeature, Programme
from nba_tasks.pull import PendingBatch, bulk_session, pending_batch
from nba_tasks.settings import settings

EXAMPLES = 1000
"""Bad rows kept of a relation that has more than the programme allows: the whole batch is refused then."""
