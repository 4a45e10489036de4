#!/bin/sh
# Run once by the PostgreSQL image on an empty volume: one role and database for each part, and no more rights than
# each needs. `crm` owns the source data; `nba` reads them, and owns only what it publishes, decisions included.
set -eu

admin() {
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" "$@"
}

admin --dbname postgres \
  --set airflow="$AIRFLOW_DB_PASSWORD" --set mlflow="$MLFLOW_DB_PASSWORD" \
  --set nba="$NBA_DB_PASSWORD" --set crm="$CRM_DB_PASSWORD" <<'SQL'
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE nba LOGIN PASSWORD :'nba';
CREATE ROLE crm LOGIN PASSWORD :'crm';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE warehouse OWNER nba;
CREATE DATABASE crm OWNER crm;
REVOKE CONNECT ON DATABASE airflow, mlflow, warehouse, crm FROM PUBLIC;
GRANT CONNECT ON DATABASE crm TO nba;
SQL

admin --dbname crm --command "SET ROLE crm" --file "$NBA_CONTRACT"
admin --dbname crm --set role=nba --file "$(dirname "$NBA_CONTRACT")/rights.sql"

admin --dbname crm <<'SQL'
ALTER DEFAULT PRIVILEGES FOR ROLE crm IN SCHEMA public GRANT SELECT ON TABLES TO nba;
ALTER DEFAULT PRIVILEGES FOR ROLE nba IN SCHEMA public GRANT SELECT ON TABLES TO crm;
SQL
