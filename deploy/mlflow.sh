#!/bin/sh
# MLflow behind a log-in; its users are kept in its own database. Arguments go to `mlflow server`.
set -eu
umask 077
cat > "$MLFLOW_AUTH_CONFIG_PATH" << INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = $MLFLOW_BACKEND_STORE_URI
auth_cache_ttl_seconds = 60
INI
exec mlflow server --app-name basic-auth "$@"
