"""How long a run will take with one agent, with two, and so on: the real market, in simulated time, on what the history knows."""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from mesh.sim.scenario import Scenario, SimAgent, SimTask
from mesh.sim.schedule import Schedule, simulate

GAIN_MIN: Final = 0.05
"""What further agents must gain, as a share of the makespan, to be worth their machines."""


class Forecast(Struct, frozen=True):
    """One number of agents."""

    agents: int
    schedule: Schedule

    @property
    def makespan_ms(self) -> int:
        """From the first award to the verdict: agents are there, and have loaded what they need."""
        return self.schedule.makespan_ms

    @property
    def busy(self) -> float:
        """The share of all slots' time that is work: what is paid for and used."""
        slots = sum(agent.slots for agent in self.schedule.scenario.agents)
        work_ms = sum(task.duration_ms for task in self.schedule.scenario.tasks)
        return work_ms / max(1, slots * self.makespan_ms)


def forecasts(tasks: Sequence[SimTask], agents_max: int, slots: int) -> Iterator[Forecast]:
    """For 1 to `agents_max` agents with `slots` slots each, all of them as fast as the history is of, and told what it knows."""
    for count in range(1, agents_max + 1):
        agents = tuple(SimAgent(f"agent-{number + 1}", slots) for number in range(count))
        known = {task.id: {agent.name: task.duration_ms for agent in agents} for task in tasks}
        yield Forecast(count, simulate(Scenario(tuple(tasks), agents, known)))


def knee(found: Sequence[Forecast]) -> int:
    """The smallest number of agents beyond which no number of them gains `GAIN_MIN`."""
    for at, forecast in enumerate(found):
        best_ms = min((other.makespan_ms for other in found[at + 1 :]), default=forecast.makespan_ms)
        if best_ms > (1 - GAIN_MIN) * forecast.makespan_ms:
            return forecast.agents
    return found[-1].agents
