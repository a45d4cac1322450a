"""One of WfCommons' scientific workflows, generated offline from the shapes that were measured: `recipe tasks seed`, run where `wfcommons` is installed.

Prints a list of [task id, [ids of the tasks before it], seconds].
"""

import importlib
import json
import random
import sys

import numpy as np


def main() -> None:
    name, tasks, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # Its recipes know no other dice than these.
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a generator of our own would not reach what wfcommons draws
    module = importlib.import_module(f"wfcommons.wfchef.recipes.{name}")
    recipe = getattr(module, f"{name.capitalize()}Recipe")
    made = recipe.from_num_tasks(tasks).build_workflow(name)
    print(
        json.dumps([[node, sorted(made.predecessors(node)), made.nodes[node]["task"].runtime] for node in made.nodes])
    )


if __name__ == "__main__":
    main()
