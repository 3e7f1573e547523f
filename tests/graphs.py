"""What TensorFlow makes of graphs before it runs them."""
from __future__ import annotations

from tensorflow.python.eager import context  # no public way to see them


def wide_sums(work) -> list[str]:
    """Sums of three terms and more in the graphs that `work` runs.

    These are `AddN`, also those that TensorFlow's optimizer made, with the
    name of what each belongs to. Functions that are not inlined have been
    optimized too. Sums of integers are left out: they know no order.
    """
    context.enable_graph_collection()
    try:
        work()
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_graph_collection()
    assert graphs, "nothing was seen"
    found = set()
    for graph in graphs:
        functions = [function.node_def for function in graph.library.function]
        for node in (n for nodes in [graph.node, *functions] for n in nodes):
            terms = [name for name in node.input if name[0] != "^"]
            if (node.op == "AddN" and len(terms) > 2
                    and node.attr["T"].type in (1, 2, 14, 19)):
                found.add(f"{node.name}: {', '.join(terms)}")
    return sorted(found)
