"""Policies on disk: a folder of JSON, arrays and skops files, without pickles."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nba_tasks.capacity import Prices
from nba_tasks.dataset import BoolArray, FloatArray, IntArray
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.learners.forest_q import ForestQ
from nba_tasks.learners.frozen import in_chunks
from nba_tasks.policy import Floats, Policy, PolicyError, ServedPolicy
from nba_tasks.shape import Shape


@dataclass(frozen=True)
class StoredPolicy:
    """A policy with the names that it was learned with.

    Attributes
    ----------
    policy : Policy
    features : tuple of str
        The state's columns, in order.
    actions : tuple of str
        Action ids by index. The catalogue may have grown since: what is new gets probability 0 from this policy.
    prices : Prices, optional
        With which the gate judged it, where slots or money were limited then. Every night has its own.
    evidence : tuple of int
        How many decisions for each action it was learned from.
    """

    policy: Policy
    features: tuple[str, ...]
    actions: tuple[str, ...]
    prices: Prices | None = None
    evidence: tuple[int, ...] = ()

    def probabilities(self, state: FloatArray, eligible: BoolArray, values: FloatArray | None = None) -> Floats:
        """Probabilities over the catalogue that `eligible` (n, n_actions) spans; see `Policy`.

        Parameters
        ----------
        values : array of shape (n, n_actions), optional
            What `values` gave for these states: Q is the costly part.

        Raises
        ------
        PolicyError
            A row's eligible actions are all unknown to this policy.
        """
        known = len(self.actions)
        found = np.zeros(eligible.shape)
        if values is not None and isinstance(self.policy, ServedPolicy):
            found[:, :known] = self.policy.given(values[:, :known], state, eligible[:, :known])
        else:
            found[:, :known] = self.policy.probabilities(state, eligible[:, :known])
        return found

    def values(self, state: FloatArray, n_actions: int, likes: FloatArray | None = None) -> FloatArray:
        """Q of shape (n, n_actions); NaN for what this policy does not value (all, for version 0).

        Parameters
        ----------
        likes : array of shape (n_new, n_action_features), optional
            Features of the actions that came after this policy was learned (see `Shape.likes`); without them, or where
            the programme describes actions otherwise by now, they are not valued.
        """
        known = len(self.actions)
        found = np.full((len(state), n_actions), np.nan, dtype=np.float32)
        found[:, :known] = values_of(self.policy, state, known)
        q = self.policy.q if isinstance(self.policy, ServedPolicy) else None
        if known == n_actions or likes is None or not isinstance(q, ForestQ):
            return found
        if likes.shape[1] == q.catalogue.features.shape[1]:
            found[:, known:] = q.values_beside(state, likes)
        return found

    def newcomers(self, shape: Shape) -> BoolArray:
        """Actions that came into the catalogue later than the history, and that this policy knows too little of."""
        # A policy that was stored before evidence was kept knows what it knows.
        known = self.evidence or (shape.programme.layers.new_until,) * len(self.actions)
        return shape.new([*known, *[0] * (len(shape.actions) - len(known))])

    def lead(self, state: FloatArray, first: IntArray, second: IntArray) -> FloatArray:
        """What Q gives one action beyond another, of shape (n,): what they have in common is not computed.

        Parameters
        ----------
        first, second : int arrays of shape (n,)
            Actions that this policy values.
        """
        assert isinstance(self.policy, ServedPolicy)
        q, found = self.policy.q, np.empty(len(state))
        assert isinstance(q, ForestQ)
        for pair in np.unique(np.stack([first, second], axis=1), axis=0):
            rows = np.flatnonzero((first == pair[0]) & (second == pair[1]))
            found[rows] = _difference(q, state[rows], pair)
        return found

    def require_features(self, features: tuple[str, ...]) -> None:
        """Refuse states with other columns than the policy was learned from.

        Raises
        ------
        PolicyError
            Names the columns that differ.
        """
        if features != self.features:
            changed = sorted(set(features) ^ set(self.features)) or ["their order"]
            raise PolicyError(
                f"the programme's state has changed since the policy in use was learned ({', '.join(changed)}): "
                "take it back, or run `nba restart PROGRAMME` and train anew, beginning with version 0"
            )


def values_of(policy: Policy, state: FloatArray, n_actions: int) -> FloatArray:
    """What a policy expects of each action, of shape (n, n_actions); NaN where it does not value it."""
    match policy:
        case StoredPolicy():
            return policy.values(state, n_actions)
        case ServedPolicy():
            return policy.q.values(state)
        case _:
            return np.full((len(state), n_actions), np.nan, dtype=np.float32)


def _difference(q: ForestQ, state: FloatArray, pair: IntArray) -> FloatArray:
    found = np.empty(len(state))

    def work(start: int, stop: int) -> None:
        one, other = q.effect.read(state[start:stop], q.catalogue.features[pair])
        found[start:stop] = one - other

    in_chunks(len(state), work)
    return found


def save(stored: StoredPolicy, folder: Path) -> None:
    """Write a policy and, inside it, the incumbents that it is mixed with."""
    folder.mkdir(parents=True)
    card: dict[str, Any] = {"features": list(stored.features), "actions": list(stored.actions)}
    match stored.policy:
        case BehaviourModel() as model:
            card["kind"] = "behaviour"
            model.save(folder / "behaviour")
        case ServedPolicy(
            q=ForestQ() as q, behaviour=BehaviourModel() as behaviour, incumbent=StoredPolicy() as incumbent
        ):
            served = stored.policy
            card |= {"kind": "served", "support": served.support, "mix": served.mix, "epsilon": served.epsilon}
            card["min_advantage"] = served.min_advantage
            q.save(folder / "q")
            behaviour.save(folder / "behaviour")
            save(incumbent, folder / "incumbent")
        case other:
            raise PolicyError(f"a {type(other).__name__} cannot be stored")
    card["evidence"] = list(stored.evidence)
    if stored.prices is not None:
        card["prices"] = _lists(stored.prices)
    (folder / "policy.json").write_text(json.dumps(card, indent=1), encoding="utf-8")


def load(folder: Path) -> StoredPolicy:
    """Read what `save` wrote.

    Raises
    ------
    PolicyError
        The folder holds no policy.
    ArtefactError
        A model in it is missing, damaged or names a type that is not trusted.
    """
    try:
        card = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{folder}: holds no readable policy.json ({error})") from error
    behaviour = BehaviourModel.load(folder / "behaviour")
    policy: Policy = behaviour
    if card["kind"] == "served":
        policy = ServedPolicy(
            incumbent=load(folder / "incumbent"),
            q=ForestQ.load(folder / "q"),
            behaviour=behaviour,
            support=card["support"],
            mix=card["mix"],
            epsilon=card["epsilon"],
            min_advantage=card["min_advantage"],
        )
    prices = _prices(card["prices"]) if "prices" in card else None
    evidence = tuple(card.get("evidence", ()))
    return StoredPolicy(policy, tuple(card["features"]), tuple(card["actions"]), prices, evidence)


def _lists(prices: Prices) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(prices).items()}


def _prices(lists: dict[str, Any]) -> Prices:
    parts: dict[str, Any] = {k: np.array(v) if isinstance(v, list) else v for k, v in lists.items()}
    return Prices(**parts)
