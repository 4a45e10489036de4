"""Second step of the nightly flow: Great Expectations over staging, bad rows to quarantine, a report per run.

The suites are `expectations/*.json`, one a relation, and `night.json` for the night as a whole. A rule about rows is
stated once, there: a query for the numbers of the rows that break it, and the reason that the quarantine shows.
Braces in the queries stand for values of the run; `{batch}` is Great Expectations' own: the rows of the batch.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from nba_tasks.contract import RELATIONS
from nba_tasks.database import lock, quote_literal, statement
from nba_tasks.history import staged_rows
from nba_tasks.programme import NO_ACTION, CustomerFeature, Programme
from nba_tasks.pull import PendingBatch, bulk_session, pending_batch
from nba_tasks.settings import settings
from nba_tasks.validation_report import index_page, suite_page

ROW_IDS: Mapping[str, str] = {
    relation.name: f"s.{relation.key}"
    if relation.key
    else f"concat_ws('|', s.{next(iter(relation.columns))}, s.attribute)"
    for relation in RELATIONS.values()
}
"""SQL for what the quarantine calls a staged row."""

EXAMPLES = 1000
"""Bad rows kept of a relation that has more than the programme allows: the whole batch is refused then."""


class ValidationFailed(RuntimeError):
    """The batch must not enter history; the message lists the reasons, one a line."""


@dataclass(frozen=True)
class ValidationResult:
    """What validation found in one batch.

    Attributes
    ----------
    critical : tuple of str
        Why the batch must not enter history; empty where it may.
    warnings : tuple of str
        What was odd but acceptable.
    rows, quarantined : mapping of str to int
        Staged and bad rows by relation.
    faults : mapping of str to mapping of str to int
        How often each reason occurred, by relation; a row may have several.
    report : Path or None
        The report's first page; None for a batch that was part of history already.
    """

    batch_id: int
    critical: tuple[str, ...]
    warnings: tuple[str, ...]
    rows: Mapping[str, int]
    quarantined: Mapping[str, int]
    faults: Mapping[str, Mapping[str, int]]
    report: Path | None

    @property
    def passed(self) -> bool:
        return not self.critical

    def refuse_critical(self) -> None:
        """Raise `ValidationFailed` with the reasons as a plain list, where there is one."""
        if self.critical:
            raise ValidationFailed(str(self))

    def __str__(self) -> str:
        heading = "passed" if self.passed else "refused: nothing of it enters history"
        lines = [f"batch {self.batch_id} {heading}", *(f"- {reason}" for reason in self.critical)]
        lines += [f"- (warning) {reason}" for reason in self.warnings]
        for relation, count in self.quarantined.items():
            if count:
                lines.append(f"- {count:,} of {self.rows[relation]:,} rows of {relation} go to quarantine:")
                lines += [f"    {rows:,} × {reason}" for reason, rows in self.faults[relation].items()]
        if self.report is not None:
            lines.append(f"report: {self.report}")
        return "\n".join(lines)


def validate(
    warehouse: Engine, programme: Programme, batch_id: int, run_id: str, report_folder: Path
) -> ValidationResult:
    """Check a staged batch: bad rows to quarantine, a verdict on the night, a report without row values.

    Parameters
    ----------
    run_id : str
        Stands with the quarantined rows and in the report.
    report_folder : Path
        Folder of this run's report; `index.html` is its first page.

    Raises
    ------
    PullError
        The batch is unknown or overtaken, was not pulled, or its staging was lost.
    """
    with warehouse.begin() as guard:  # holds the lock; what is found is committed as we go, for others to read
        lock(guard, "history", programme.programme)
        batch = pending_batch(guard, programme, batch_id)
        if batch is None:
            return ValidationResult(batch_id, (), (), {}, {}, {}, None)
        rows = staged_rows(guard, batch_id)
        _forget_earlier_try(warehouse, batch, rows)
        with closing(_GreatExpectations(warehouse)) as expectations:
            checks = _Checks(warehouse, programme, batch, run_id, report_folder, expectations)
            faults = {relation: checks.relation(relation) for relation in RELATIONS if relation in rows}
            critical, odd = checks.night(faults, tuple(rows))
        quarantined = {
            relation: int(
                guard.scalar(
                    sa.text(f"select count(*) from staging.{relation} where batch_id = :batch_id and quarantined"),
                    {"batch_id": batch_id},
                )
                or 0
            )
            for relation in rows
        }
        report = report_folder / "index.html"
        result = ValidationResult(batch_id, critical, odd, rows, quarantined, faults, report)
        report.write_text(index_page(f"{programme.programme}, {batch.as_of}", result), encoding="utf-8")
        if result.passed:
            guard.execute(
                sa.text("update nba.batches set validated_at = now() where batch_id = :batch_id"),
                {"batch_id": batch_id},
            )
        return result


def _forget_earlier_try(warehouse: Engine, batch: PendingBatch, rows: Mapping[str, int]) -> None:
    with warehouse.begin() as connection:
        parameters = {"batch_id": batch.batch_id}
        connection.execute(sa.text("delete from nba.quarantine where batch_id = :batch_id"), parameters)
        connection.execute(sa.text("update nba.batches set validated_at = null where batch_id = :batch_id"), parameters)
        for relation in rows:
            connection.execute(
                sa.text(
                    f"update staging.{relation} set quarantined = false where batch_id = :batch_id and quarantined"
                ),
                parameters,
            )


class _Checks:
    """Runs the suites over one batch and writes a page for each."""

    def __init__(
        self,
        warehouse: Engine,
        programme: Programme,
        batch: PendingBatch,
        run_id: str,
        report_folder: Path,
        expectations: _GreatExpectations,
    ) -> None:
        self.warehouse, self.programme, self.batch, self.run_id = warehouse, programme, batch, run_id
        self.folder = report_folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.values = _values(programme, batch)
        self.expectations = expectations

    def relation(self, relation: str) -> dict[str, int]:
        """Check a relation's rows and mark the bad ones; return how often each reason occurred."""
        suite = self._suite(relation)
        for expectation in suite["expectations"]:
            query = expectation["kwargs"]["unexpected_rows_query"]
            expectation["kwargs"]["unexpected_rows_query"] = query.format(**self.values, batch="{batch}")
        rows = f"select * from staging.{relation} where batch_id = {self.batch.batch_id}"
        results = self.expectations.run(suite, rows, {})
        self._write(results, relation)
        broken = [result for result in results.results if not result.success]
        if broken:
            self._quarantine(relation, rows, broken)
        return {result.expectation_config.meta["reason"]: int(result.result["observed_value"]) for result in broken}

    def night(
        self, faults: Mapping[str, Mapping[str, int]], relations: tuple[str, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Judge the night as a whole; return the critical reasons and the warnings."""
        suite = self._suite("night")
        suite["expectations"] = [
            expectation
            for expectation in suite["expectations"]
            if not (column := expectation["kwargs"]["column"]).endswith("_quarantined")
            or column.removesuffix("_quarantined") in relations
        ]
        facts_query = statement(
            "validate/night",
            **self.values,
            as_of=quote_literal(str(self.batch.as_of)),
            relations=relations,
            row_ids=ROW_IDS,
        )
        with self.warehouse.begin() as connection:
            bulk_session(connection)
            facts = dict(connection.exec_driver_sql(facts_query.replace("%", "%%")).one()._mapping)
        validation = self.programme.validation
        parameters = {
            "freshness_days": validation.freshness_days,
            "min_volume_share": validation.min_volume_share,
            "max_quarantined_share": validation.max_quarantined_share,
        }
        row = ", ".join(f"{_constant(value)} as {name}" for name, value in facts.items())
        results = self.expectations.run(suite, f"select {row}", parameters)
        self._write(results, "night")
        reasons: dict[str, list[str]] = {"critical": [], "warning": []}
        for result in results.results:
            if not result.success:
                expectation = result.expectation_config
                reason = expectation.meta["reason"].format(**facts, **parameters)
                column = expectation.kwargs["column"]
                if column.endswith("_quarantined"):
                    found = faults[column.removesuffix("_quarantined")]
                    reason += ": " + "; ".join(f"{count:,} × {fault}" for fault, count in found.items())
                reasons[str(expectation.severity.value)].append(reason)
        return tuple(reasons["critical"]), tuple(reasons["warning"])

    def _write(self, results: Any, name: str) -> None:
        (self.folder / f"{name}.html").write_text(suite_page(results, self.run_id), encoding="utf-8")

    def _suite(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(
            (settings().expectations_folder / f"{name}.json").read_text(encoding="utf-8")
        )
        return content

    def _quarantine(self, relation: str, rows: str, broken: list[Any]) -> None:
        """Mark the rows that broke a rule and copy them, with their reasons, to quarantine."""
        rules = [
            {
                "query": result.expectation_config.kwargs["unexpected_rows_query"].format(
                    batch=f"({rows}) as subselect"
                ),
                "reason": result.expectation_config.meta["reason"],
            }
            for result in broken
        ]
        with self.warehouse.begin() as connection:
            bulk_session(connection)
            marking = statement(
                "validate/mark",
                **self.values,
                relation=relation,
                rules=rules,
                row_id=ROW_IDS[relation],
                time=RELATIONS[relation].time,
                run_id=self.run_id,
                most=self.programme.validation.max_quarantined_share,
                examples=EXAMPLES,
            )
            connection.exec_driver_sql(marking.replace("%", "%%"))


def _values(programme: Programme, batch: PendingBatch) -> dict[str, Any]:
    """SQL constants for the braces of the suites' queries."""
    zone = quote_literal(programme.grid.business_timezone)
    numbers = {f.column for f in programme.state if isinstance(f, CustomerFeature) and not f.categories}
    valued = {name for name, event in programme.events.items() if event.measure == "value"}
    return {
        "batch_id": batch.batch_id,
        "programme_id": batch.programme_id,
        "zone": zone,
        "midnight": f"nba.midnight('{batch.as_of}', {zone})",
        "no_action": quote_literal(NO_ACTION),
        "channels": _texts(programme.channels),
        "event_types": _texts(programme.events),
        "valued_types": _texts(valued),
        "flags": _texts(programme.flags),
        "numbers": _texts(numbers.difference(programme.flags)),
        "action_numbers": _texts(programme.actions.features),
    }


def _constant(value: float | str | None) -> str:
    """SQL for a number, a text or null."""
    return "null::double precision" if value is None else quote_literal(value) if isinstance(value, str) else str(value)


def _texts(values: Iterable[str]) -> str:
    return f"array[{', '.join(map(quote_literal, sorted(values)))}]::text[]"


class _GreatExpectations:
    """Great Expectations without its chatter: no progress bars, no analytics, no row values in what it keeps."""

    def __init__(self, warehouse: Engine) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read on import
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        # After the import, which sets levels of its own.
        for name in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(name).setLevel(logging.WARNING)

        self.context = gx.get_context(mode="ephemeral")
        self.context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
        url = warehouse.url.update_query_dict({"options": "-c timezone=UTC -c work_mem=256MB -c jit=off"})
        # `$` starts a substitution in its configuration; a password may hold one.
        text = url.render_as_string(hide_password=False).replace("$", r"\$")
        with warnings.catch_warnings():
            # It would rather have add_postgres, which refuses unix sockets.
            warnings.filterwarnings("ignore", message="You are using a generic SQLDatasource")
            self.source = self.context.data_sources.add_sql("staging", connection_string=text, create_temp_table=False)

    def close(self) -> None:
        """Give back its connections."""
        self.source.get_execution_engine().close()

    def run(self, suite: Mapping[str, Any], query: str, parameters: Mapping[str, Any]) -> Any:
        """Validate a query's rows: first only whether each expectation holds, then counts for those that do not.

        Returns
        -------
        ExpectationSuiteValidationResult
            Stripped of everything but counts.
        """
        from great_expectations import ExpectationSuite

        name = suite["name"]
        batch = self.source.add_query_asset(name, query=query).add_batch_definition_whole_table("batch").get_batch()

        def outcome(expectations: list[Any], result_format: Literal["BOOLEAN_ONLY", "BASIC"]) -> Any:
            return batch.validate(
                ExpectationSuite(name=name, expectations=expectations),
                result_format=result_format,
                expectation_parameters=dict(parameters),
            )

        results = outcome(suite["expectations"], "BOOLEAN_ONLY")
        failed = [i for i, result in enumerate(results.results) if not result.success]
        if failed:
            details = outcome([suite["expectations"][i] for i in failed], "BASIC")
            for i, detail in zip(failed, details.results, strict=True):
                results.results[i] = detail
        for result in results.results:
            _refuse_exception(name, result)
            kept = ("observed_value", "element_count", "unexpected_count", "unexpected_percent")
            result.result = {key: result.result[key] for key in kept if isinstance(result.result.get(key), int | float)}
        return results


def _refuse_exception(suite: str, result: Any) -> None:
    """An expectation that could not be evaluated has found nothing: raise, rather than count it as a failure."""
    information = result.exception_info or {}
    entries = [information] if "raised_exception" in information else list(information.values())
    for entry in entries:
        if entry.get("raised_exception"):
            raise RuntimeError(
                f"expectations/{suite}.json: {result.expectation_config.description}: {entry.get('exception_message')}"
            )
