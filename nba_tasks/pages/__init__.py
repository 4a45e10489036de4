"""The pages in Airflow's UI: promotion gates, lists, policies. Rendered on the server, behind Airflow's own login."""

PREFIX = "/nba"
"""Where they are mounted in Airflow's API server."""
