"""The width of what is left, against the truth: on any graph, and after any part of it is done, no more tasks can run at once than is said."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.graph import Task
from mesh.protocol.width import Width
from mesh.types import TaskId


@st.composite
def graphs(draw):
    """Tasks, each behind those it depends on; some are bound to the main job."""
    count = draw(st.integers(0, 14))
    density = draw(st.sampled_from([0.1, 0.3, 0.6]))
    tasks = []
    for number in range(count):
        before = [TaskId(f"t{other}") for other in range(number) if draw(st.floats(0, 1)) < density]
        where = draw(st.sampled_from(["any", "any", "any", "agent", "main"]))
        tasks.append(Task(id=TaskId(f"t{number}"), tool="test", deps=tuple(before), where=where))
    return tasks


def truth(tasks, left):
    """The most of `left` that an agent may run and of which none waits for another: the sources less a greatest matching over the closure (Dilworth)."""
    before = {}
    for task in tasks:
        before[task.id] = {dep for direct in task.deps for dep in (direct, *before[direct])}
    free = [task.id for task in tasks if task.id in left and task.where != "main"]
    chosen = {}

    def placed(task, seen):
        for dep in before[task]:
            if dep in free and dep not in seen:
                seen.add(dep)
                if dep not in chosen or placed(chosen[dep], seen):
                    chosen[dep] = task
                    return True
        return False

    return len(free) - sum(placed(task, set()) for task in free)


@settings(max_examples=200)
@given(graphs(), st.data())
def test_never_fewer_than_can_really_run_at_once_whatever_is_done(tasks, data):
    width = Width.of(tasks)
    left = {task.id for task in tasks}
    assert set(width.left) == left
    assert truth(tasks, left) <= width.chains <= len(left)
    while left and data.draw(st.booleans()):
        ready = sorted(task.id for task in tasks if task.id in left and not left & set(task.deps))
        task = data.draw(st.sampled_from(ready))
        left.remove(task)
        width.done(task)
        assert truth(tasks, left) <= width.chains <= len(left)


@given(graphs(), st.data())
def test_what_is_made_again_counts_again(tasks, data):
    width, whole = Width.of(tasks), Width.of(tasks)
    again = data.draw(st.lists(st.sampled_from([task.id for task in tasks]))) if tasks else []
    for task in again:
        width.done(task)
        width.done(task)
    for task in again:
        width.again(task)
        width.again(task)
    assert (set(width.left), width.chains) == (set(whole.left), whole.chains)


def test_a_chain_passes_by_tasks_that_belong_to_others():
    left = [Task(id=TaskId(f"l{number}"), tool="test") for number in range(5)]
    join = Task(id=TaskId("join"), tool="test", deps=tuple(task.id for task in left))
    right = [Task(id=TaskId(f"r{number}"), tool="test", deps=(join.id,)) for number in range(5)]
    assert Width.of([*left, join, *right]).chains == 5
