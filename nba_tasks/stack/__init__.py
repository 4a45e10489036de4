"""The whole stack on one machine, without root or containers: Postgres, Airflow, MLflow, and the demo on them."""
