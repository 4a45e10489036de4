#!/bin/sh
# MLflow behind a log-in; its users are kept in its own database. Arguments go to `mlflow server`.
set -eu
# In MLflow's file a percent sign, as in an encoded password, is written twice.
database=$(printf %s "$MLFLOW_BACKEND_STORE_URI" | sed 's/%/%%/g')
# A password costs its hash once a minute, not with every request.
(umask 077 && cat > "$MLFLOW_AUTH_CONFIG_PATH") << INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = $database
auth_cache_ttl_seconds = 60
INI
exec mlflow server --app-name basic-auth "$@"
