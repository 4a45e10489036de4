"""Libraries that tasks need, imported once by the process that forks them: ten seconds a task otherwise.

Airflow runs this file in every one of its programs if the folder is on PYTHONPATH. Here libraries are imported and
nothing else happens: a thread or a connection would not survive the fork.
"""

import sys

if {"scheduler", "worker"} & set(sys.argv):  # LocalExecutor's tasks, Celery's tasks
    import great_expectations  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import mlflow.pyfunc  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow.csv  # noqa: F401
    import skops.io  # noqa: F401
