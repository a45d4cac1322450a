"""What may go wrong in a simulated life, as one struct, drawn from the seed."""

import random

from msgspec import Struct


class Faults(Struct, frozen=True):
    """Probabilities are per mille. Times are simulated milliseconds."""

    latency_min_ms: int = 1
    latency_max_ms: int = 20
    kills: int = 0
    """Agents that die in the middle, without a word."""
    leaves: int = 0
    """Agents that are told to stop, and say goodbye."""
    late: int = 0
    """Agents that come only after a while."""
    cuts: int = 0
    """Links that break and come back."""
    task_fails_permille: int = 0
    fetch_fails_permille: int = 0
    broken: int = 0
    """Agents on which whatever they are given fails. Not drawn: who looks for what they do asks for them."""
    bad_permille: int = 0
    """Tasks that fail wherever they run. Not drawn either."""
    strays: int = 0
    """Tasks that leave what they do not declare, without which all behind them fail. Not drawn either."""
    stop_main_at_ms: int = 0
    """When somebody stops the run; 0: nobody does."""

    @classmethod
    def drawn(cls, dice: random.Random, agents: int) -> "Faults":
        """Some mixture; every kind is absent in many lives, so that each is also seen alone."""

        def often(chance: float, high: int) -> int:
            return dice.randint(1, high) if high > 0 and dice.random() < chance else 0

        return cls(
            latency_max_ms=dice.choice([2, 20, 200]),
            kills=often(0.5, agents),
            leaves=often(0.3, agents),
            late=often(0.4, agents),
            cuts=often(0.4, 2 * agents),
            task_fails_permille=dice.choice([0, 0, 10, 100]),
            fetch_fails_permille=dice.choice([0, 0, 20]),
            stop_main_at_ms=dice.randint(1, 5_000) if dice.random() < 0.1 else 0,
        )
