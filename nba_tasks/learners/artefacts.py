"""Fitted scikit-learn models on disk, without pickles.

Only the types pinned here are ever built from a file; whatever else a file names is refused before anything is loaded.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from nba_tasks.dataset import Catalogue

Estimator = TypeVar("Estimator", bound=BaseEstimator)

TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
"""Types beyond skops' own list of harmless ones that our models consist of."""


def _skops() -> Any:
    """skops, imported without the warnings of every other loaded module, whose attributes it walks through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io
    return skops.io


class ArtefactError(ValueError):
    """A stored model that is missing, damaged, or names a type that we do not trust; the message says which."""


def save_estimator(estimator: BaseEstimator, path: Path) -> None:
    """Write an estimator in skops' format."""
    _skops().dump(estimator, path)


def load_estimator(path: Path, kind: type[Estimator]) -> Estimator:
    """Read an estimator, refusing every type that is not pinned.

    Raises
    ------
    ArtefactError
        The file is missing or damaged, names an untrusted type, or holds another kind of estimator.
    """
    try:
        unknown = sorted(set(_skops().get_untrusted_types(file=path)) - set(TRUSTED))
        if unknown:
            raise ArtefactError(f"{path}: refused, because it names types that are not trusted: {', '.join(unknown)}")
        estimator = _skops().load(path, trusted=list(TRUSTED))
    except ArtefactError:
        raise
    except Exception as error:  # skops and zipfile raise many kinds for a damaged file; all mean the same here
        raise ArtefactError(f"{path}: cannot be read as a stored model ({error})") from error
    if not isinstance(estimator, kind):
        raise ArtefactError(f"{path}: holds a {type(estimator).__name__}, not a {kind.__name__}")
    return estimator


def save_json(content: dict[str, Any], path: Path) -> None:
    """Write what is not an array."""
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def load_json(path: Path) -> dict[str, Any]:
    """Read what `save_json` wrote.

    Raises
    ------
    ArtefactError
        The file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ArtefactError(f"{path}: must hold one JSON object")
    return content


def load_array(path: Path) -> NDArray[np.generic]:
    """Read one array, never a pickled object.

    Raises
    ------
    ArtefactError
        The file is missing or damaged, or holds objects.
    """
    try:
        array: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtefactError(f"{path}: cannot be read as an array ({error})") from error
    return array


def catalogue_to_json(catalogue: Catalogue) -> dict[str, Any]:
    """The catalogue as JSON values."""
    return {
        "ids": list(catalogue.ids),
        "channels": list(catalogue.channels),
        "cost": catalogue.cost.tolist(),
        "features": catalogue.features.tolist(),
    }


def catalogue_from_json(content: dict[str, Any]) -> Catalogue:
    """Build a catalogue from what `catalogue_to_json` gave.

    Raises
    ------
    ArtefactError
        A key is missing, or lengths differ.
    """
    try:
        catalogue = Catalogue(
            ids=tuple(str(name) for name in content["ids"]),
            channels=tuple(content["channels"]),
            cost=np.array(content["cost"], dtype=np.float64),
            features=np.array(content["features"], dtype=np.float32),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"the stored catalogue is damaged: {error!r}") from error
    lengths = {len(catalogue), len(catalogue.channels), len(catalogue.cost), len(catalogue.features)}
    if len(lengths) != 1 or catalogue.features.ndim != 2:
        raise ArtefactError("the stored catalogue is damaged: ids, channels, cost and features differ in length")
    return catalogue
