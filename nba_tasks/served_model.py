"""The code that MLflow runs when it loads a registered policy (models-from-code: nothing is unpickled)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from nba_tasks import policy_store


class PolicyModel(PythonModel):
    """A served policy behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the policy's folder."""
        self.stored = policy_store.load(Path(context.artifacts["policy"]))

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Probabilities of every action for states.

        Parameters
        ----------
        model_input : DataFrame
            The state's columns, and `eligible`: the mask of the actions allowed (bit i for the action with index i).

        Returns
        -------
        DataFrame
            One column per action.
        """
        state = model_input[list(self.stored.features)].to_numpy(np.float32)
        bits = np.int64(1) << np.arange(len(self.stored.actions))
        eligible = (model_input["eligible"].to_numpy(np.int64)[:, None] & bits) != 0
        return pd.DataFrame(self.stored.probabilities(state, eligible), columns=list(self.stored.actions))


mlflow.models.set_model(PolicyModel())
