"""What the market keeps of agents from one reckoning to the next decides nothing: a look at everything anew comes to the same."""

import random
from copy import deepcopy

import pytest

from mesh.protocol import clearing
from mesh.protocol.slots import Stock
from mesh.sim import Scenario, SimAgent, SimTask, simulate


def some_run(seed):
    """Layers of tasks of all lengths, on agents of all speeds, who know much, little or nothing of them."""
    dice = random.Random(seed)
    tasks, agents = (
        [],
        [SimAgent(f"a{n}", dice.choice((1, 2, 3)), dice.choice((0.5, 1, 1, 2))) for n in range(dice.randint(2, 8))],
    )
    for number in range(dice.randint(15, 30)):
        deps = tuple({dice.choice(tasks).id for _ in range(dice.choice((0, 1, 1, 3)))}) if tasks else ()
        duration_ms = round(dice.lognormvariate(7, 1)) + 1
        actual_ms = duration_ms * 8 if dice.random() < 0.05 else None
        tasks.append(SimTask(f"p{number}:{dice.choice(('build', 'test'))}", deps, duration_ms, actual_ms))
    known = dice.choice((0.0, 0.5, 1.0))
    estimates = {
        task.id: {
            agent.name: round(task.duration_ms / agent.speed * dice.lognormvariate(0, 0.3)) + 1 for agent in agents
        }
        for task in tasks
        if dice.random() < known
    }
    return Scenario(tuple(tasks), tuple(agents), estimates)


def anew(market):
    """The same market, of which nobody has looked at any agent."""
    unchanging = [state.task for state in market.tasks.values()]
    fresh = deepcopy(market, {id(one): one for one in unchanging})
    fresh.stock = Stock()
    for agent in fresh.agents.values():
        fresh.touch(agent)
    return fresh


def told(awards):
    return [(state.task.id, live.node, live.attempt) for state, live in awards]


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))])
def test_what_is_kept_of_agents_decides_nothing(monkeypatch, seed):
    real, looks = {name: getattr(clearing, name) for name in ("clear", "take_back")}, []

    def compared(name):
        def decide(market, now):
            fresh = anew(market)
            expected = told(real[name](fresh, now))
            found = real[name](market, now)
            assert told(found) == expected
            assert (market.wake_at, market.deadline()) == (fresh.wake_at, fresh.deadline())
            looks.append(len(found))
            return found

        return decide

    for name in real:
        monkeypatch.setattr(clearing, name, compared(name))
    simulate(some_run(seed))
    assert sum(looks) >= 15
