"""Learners: pure functions of arrays. They know neither Postgres nor Airflow nor MLflow."""
