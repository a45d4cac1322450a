"""What is to be done: tasks, and the graph they form."""

from mesh.graph.graph import Graph
from mesh.graph.task import Resources, Task, Where

__all__ = ["Graph", "Resources", "Task", "Where"]
