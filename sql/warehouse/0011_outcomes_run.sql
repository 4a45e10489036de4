-- Which DAG run looked, for the page beside it.

alter table nba.outcomes add column dag_run_id text;
