"""What nx wants done: its plan as main.cjs sends it, and the graph that the mesh works through.

    nx's task                        in the graph
    ────────────────────────────────────────────────────────────────────────────────────────────
    cacheable                        any machine; named by nx's hash where nx knows it beforehand
    `cache: false`                   main only: it may publish, deploy, or rewrite the repository
    outputs outside the workspace    main only: nx caches no such task
    outputs in `code`                any machine, in dte's own archive: nx's has an entry of that name at its root, and cannot be read then
    `parallelism: false`             an agent of its own while it runs
    continuous                       no task: its consumer's machine starts it, and stops it afterwards
    in this machine's nx cache       main only, where nx shows it; no task where nothing that is left to do waits for it, nor it for that

A task's payload is its own part of nx's graph, and that of the continuous tasks beside it, as nx wrote it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

from mesh.graph import Graph, Task, Where
from mesh.types import TaskId
from mesh.wire.canonical import Reader

TOOL: Final = "nx"
PLAN_TASKS_MAX: Final = 200_000
NX_VERSION_MIN: Final = "20.8"
MARK_CHARS: Final = 8
"""What stands for one input of a hash and its value: enough to find those that differ."""


class Plan(Struct, frozen=True):
    """One nx process's plan. `tasks` is nx's own JSON by nx's own ids; edges are as this version of nx writes them."""

    nx: str
    node: str
    command: tuple[str, ...]
    initiating: tuple[str, ...]
    parallel: int
    bail: bool
    local: frozenset[str]
    """Tasks whose result is in the main job's own nx cache."""
    settled: frozenset[str]
    """Those of them that wait for no others: nx shows them as soon as the run is accepted."""
    tasks: Mapping[str, Mapping[str, Any]]
    """A `hash` of "" depends on outputs of other tasks, and will only be known once those are there."""
    inputs: Mapping[str, str]
    """By task: eight characters for each input of its hash and that input's value; "" where that is not known."""
    dependencies: Mapping[str, list[Any]]
    continuous_dependencies: Mapping[str, list[Any]]
    node_path: tuple[str, ...] = ()
    """NODE_PATH of that process; `./` stands for the workspace."""
    node_options: str | None = None
    """NODE_OPTIONS of that process, where it is not that of the main job: a script, or Yarn, has set it. `{workspaceRoot}` stands for the workspace."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What that process was started with."""
    objection: str = ""
    """Why dte cannot do this run, where nx's side of it already shows that."""

    @classmethod
    def from_json(cls, value: Any) -> "Plan":
        """The plan that main.cjs sent. Raises `RemoteError("malformed")`."""
        read = Reader(value, "plan")
        plan = cls(
            nx=read.text("nx"),
            node=read.text("node"),
            command=read.texts("command"),
            initiating=read.texts("initiating"),
            parallel=read.number("parallel", low=1),
            bail=read.flag("bail"),
            local=frozenset(read.texts("local")),
            settled=frozenset(read.texts("settled")),
            tasks=read.table("tasks"),
            inputs=read.string_table("inputs"),
            dependencies=read.table("dependencies"),
            continuous_dependencies=read.table("continuous_dependencies"),
            node_path=read.texts("node_path"),
            node_options=read.text("node_options") if read.has("node_options") else None,
            environment=read.string_table("environment") if read.has("environment") else {},
        )
        return replace(plan, objection=_objection(plan, read))

    def to_graph(self, prefix: str = "", *, whole: bool = False) -> Graph:
        """The mesh's view of the plan: what is left to do, and what that needs; or the `whole` of it, to look at. `prefix` keeps apart the tasks
        of several nx commands in one run.
        """
        left = frozenset(self._discrete()) if whole else self._left()
        return Graph.of(self._task(nx_id, prefix) for nx_id in self._discrete() if nx_id in left)

    def _left(self) -> frozenset[str]:
        open_ids = [nx_id for nx_id in self._discrete() if nx_id not in self.settled]
        return frozenset(open_ids) | self._below(open_ids)

    def shown(self, prefix: str = "") -> list[Task]:
        """What is none of that graph's tasks, since nx has shown it from its cache, and nothing that is left to do waits for it."""
        left = self._left()
        return [self._task(nx_id, prefix) for nx_id in self._discrete() if nx_id in self.settled and nx_id not in left]

    def needed(self) -> frozenset[str]:
        """Tasks whose outputs have to be there for those that are run."""
        return self._below(nx_id for nx_id in self._discrete() if nx_id not in self.local)

    def _below(self, nx_ids: Iterable[str]) -> frozenset[str]:
        found: set[str] = set()
        open_ids = [*nx_ids]
        while open_ids:
            fresh = self._waits_for(open_ids.pop()) - found
            found |= fresh
            open_ids += fresh
        return frozenset(found)

    def _discrete(self) -> list[str]:
        return [nx_id for nx_id, raw in self.tasks.items() if not raw["continuous"]]

    def _waits_for(self, nx_id: str) -> set[str]:
        beside = (nx_id, *self._companions(nx_id))
        below = {dep for each in beside for dep in edge_ids(self.dependencies.get(each, ()))}
        return {dep for dep in below if not self.tasks[dep]["continuous"]}

    def _task(self, nx_id: str, prefix: str) -> Task:
        raw = self.tasks[nx_id]
        return Task(
            id=TaskId(prefix + nx_id),
            tool=TOOL,
            deps=tuple(TaskId(prefix + dep) for dep in sorted(self._waits_for(nx_id))),
            key=raw["hash"],
            # What this machine's nx has, agents get as dte packs it: nx's own archive of it is not here.
            cache=raw["cache"] and nx_id not in self.local and not _spoils_archives(raw),
            outputs=tuple(raw["outputs"]),
            where="main" if nx_id in self.local else _where(raw),
            whole_agent=not raw["parallelism"],
            description=f"nx run {nx_id}",
            payload={
                "nx": self.nx,
                "node_path": list(self.node_path),
                **({} if self.node_options is None else {"node_options": self.node_options}),
                "inputs": self.inputs.get(nx_id, ""),
                "tasks": [self._node(each) for each in (nx_id, *self._companions(nx_id))],
            },
        )

    def _companions(self, nx_id: str) -> tuple[str, ...]:
        """The continuous tasks that must be running while `nx_id` does, each behind those that it needs itself."""
        found: dict[str, None] = {}

        def visit(each: str) -> None:
            for needed in edge_ids(self.continuous_dependencies.get(each, ())):
                if needed not in found:
                    visit(needed)
                    found[needed] = None

        visit(nx_id)
        return tuple(found)

    def _node(self, nx_id: str) -> dict[str, Any]:
        return {
            "task": dict(self.tasks[nx_id]),
            "dependencies": self.dependencies.get(nx_id, []),
            "continuous": self.continuous_dependencies.get(nx_id, []),
        }


def nx_id(task: Task) -> str:
    """What nx calls `task`."""
    return str(task.payload["tasks"][0]["task"]["id"])


def nx_caches(task: Task) -> bool:
    """Whether nx itself keeps its result, however that travels here."""
    return bool(task.payload["tasks"][0]["task"]["cache"])


def nx_target(task: Task) -> str:
    """Its target, without the project and the configuration."""
    return str(task.payload["tasks"][0]["task"]["target"]["target"])


def nx_graph(graph: Graph) -> dict[str, Any]:
    """Nx's own task graph, put together again from the payloads of all nx tasks in `graph`."""
    nodes = {
        node["task"]["id"]: node for task in graph.tasks.values() if task.tool == TOOL for node in task.payload["tasks"]
    }
    return {
        "roots": [name for name, node in nodes.items() if not node["dependencies"] and not node["continuous"]],
        "tasks": {name: node["task"] for name, node in nodes.items()},
        "dependencies": {name: node["dependencies"] for name, node in nodes.items()},
        "continuousDependencies": {name: node["continuous"] for name, node in nodes.items()},
    }


def edge_ids(edges: Iterable[Any]) -> tuple[str, ...]:
    """The ids that nx's edges lead to: plain strings before nx 24, objects since."""
    return tuple(edge if isinstance(edge, str) else edge["id"] for edge in edges)


def _where(raw: Mapping[str, Any]) -> Where:
    outside = any(output.startswith(("..", "/")) or "/../" in output for output in raw["outputs"])
    return "any" if raw["cache"] and not outside else "main"


def _spoils_archives(raw: Mapping[str, Any]) -> bool:
    """Whether an output has the place of what nx's archives say of how a task ended."""
    return any(output.split("/")[0] in ("code", "terminalOutput") for output in raw["outputs"])


def _objection(plan: Plan, read: Reader) -> str:
    if read.flag("everything_is_here"):
        return "every result is in this machine's nx cache already"
    if not plan.tasks:
        return "there is nothing to run"
    if asked := [each for each in plan.initiating if plan.tasks[each]["continuous"]]:
        return f"{asked[0]} runs until it is stopped, which dte does not distribute; nx runs all tasks here"
    if not read.flag("runs_single_tasks"):
        return f"nx {plan.nx} cannot run single tasks for dte, which needs nx {NX_VERSION_MIN} or later; nx runs all tasks here"
    if read.flag("skip_cache") or read.flag("skip_remote_cache"):
        return "nx was told not to use its cache, through which dte passes outputs on; nx runs all tasks here"
    if package := read.text("other_remote_cache"):
        return f"nx prefers {package} to dte's cache; take it out of the workspace to distribute tasks; nx runs all tasks here"
    if read.flag("legacy_cache"):
        return (
            f"nx {plan.nx} is told to use its legacy cache (useLegacyCache in nx.json, NX_DISABLE_DB, NX_DB_CACHE), "
            "through which dte cannot pass outputs on; nx runs all tasks here"
        )
    return ""
