"""The figures of a report: every estimator, every objective, both policies and their difference, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nba_tasks.bounds import Estimate
from nba_tasks.estimators import (
    Critic,
    direct_method,
    importance_sampling,
    on_windows,
    per_decision,
    self_normalised_per_decision,
    weighted_doubly_robust,
    weighted_importance_sampling,
)
from nba_tasks.gate.sample import Sample

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """One estimate of one policy, or of the difference, with its two-sided interval."""

    estimator: str
    policy: Literal["candidate", "incumbent", "difference", "log"]
    value: float
    standard_error: float
    lower: float
    upper: float


@dataclass(frozen=True)
class OutcomeFigure:
    """One objective by itself (PDIS, discounted like the reward), with its two-sided interval."""

    outcome: str
    policy: Literal["candidate", "incumbent", "difference", "log"]
    value: float
    standard_error: float
    lower: float
    upper: float


def _influences(sample: Sample, weight: Floats, critic: Critic | None) -> dict[str, Floats]:
    """Influence values of every estimator for one policy."""
    reward, discount = sample.rewards, sample.discount
    found = {
        "IS": importance_sampling(weight, reward, discount),
        "WIS": weighted_importance_sampling(weight, reward, discount),
        "PDIS": per_decision(weight, reward, discount),
        "SN-PDIS": self_normalised_per_decision(weight, reward, discount),
    }
    if critic is not None:
        found |= {
            "DM": direct_method(critic),
            "DR": sample.influence(weight, critic),
            "WDR": weighted_doubly_robust(weight, reward, discount, critic, sample.windows.alive),
        }
    return found


def estimate_figures(
    sample: Sample, weights: Mapping[str, Floats], critics: tuple[Critic, Critic] | None, alpha: float
) -> Iterator[Figure]:
    """Every estimator for both policies and their paired difference, with two-sided (1 − α) intervals."""
    known = critics or (None, None)
    candidate = _influences(sample, weights["candidate"], known[0])
    incumbent = _influences(sample, weights["incumbent"], known[1])
    log = per_decision(np.ones_like(sample.rewards), sample.rewards, sample.discount)
    yield Figure("observed", "log", *_interval(sample.clusters.mean(log), alpha))
    for name, values in candidate.items():
        yield Figure(name, "candidate", *_interval(sample.clusters.mean(values), alpha))
        yield Figure(name, "incumbent", *_interval(sample.clusters.mean(incumbent[name]), alpha))
        yield Figure(name, "difference", *_interval(sample.clusters.mean(values - incumbent[name]), alpha))


def outcome_figures(sample: Sample, weights: Mapping[str, Floats], alpha: float) -> Iterator[OutcomeFigure]:
    """Every objective for both policies and their paired difference, with two-sided (1 − α) intervals."""
    for position, name in enumerate(sample.outcome_names):
        column = on_windows(sample.outcomes[:, position], sample.windows)
        candidate = per_decision(weights["candidate"], column, sample.discount)
        incumbent = per_decision(weights["incumbent"], column, sample.discount)
        log = per_decision(np.ones_like(column), column, sample.discount)
        yield OutcomeFigure(name, "log", *_interval(sample.clusters.mean(log), alpha))
        yield OutcomeFigure(name, "candidate", *_interval(sample.clusters.mean(candidate), alpha))
        yield OutcomeFigure(name, "incumbent", *_interval(sample.clusters.mean(incumbent), alpha))
        yield OutcomeFigure(name, "difference", *_interval(sample.clusters.mean(candidate - incumbent), alpha))


def _interval(estimate: Estimate, alpha: float) -> tuple[float, float, float, float]:
    return estimate.value, estimate.standard_error, *estimate.interval(alpha)
