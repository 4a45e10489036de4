# One image for every service of docker-compose.yml.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    AIRFLOW_HOME=/opt/airflow NBA_HOME=/opt/airflow/nba PYTHONPATH=/opt/nba/deploy/airflow \
    GX_ANALYTICS_ENABLED=false MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false

WORKDIR /opt/nba
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock

# Editable, because the package finds dags/, sql/ and expectations/ beside itself.
COPY pyproject.toml ./
COPY nba_tasks nba_tasks
COPY sql sql
COPY expectations expectations
COPY dags dags
COPY deploy deploy
COPY docs/the-gate-in-plain-words.md docs/
RUN pip install --no-deps --no-build-isolation --editable . && python -m compileall -q nba_tasks

# Named volumes take their owner from these folders.
RUN useradd --uid 10001 --user-group --home-dir /opt/airflow nba \
    && mkdir -p /opt/airflow/logs /opt/airflow/nba /opt/mlflow \
    && chown -R nba:nba /opt/airflow /opt/mlflow
USER nba
