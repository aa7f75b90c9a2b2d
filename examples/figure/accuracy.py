"""A figure: accuracy against width."""

import lossatlas as la
from lossatlas.figures import style


@la.figure(scalars=["performance"], axes=["load"], category="my figures")
def accuracy(tables, chosen, load, temperature):
    """Accuracy on training and test images against width, a dot for each replica.

    Lines are means over replicas.
    """
    rows = tables.scalars[tables.scalars["metric"].isin(["train_accuracy", "test_accuracy"])]
    numbers = rows[[load, "metric", "replica", "value"]].reset_index(drop=True)
    with style.sheet():
        figure = style.page(60, 90)  # height and width in mm
        axes = figure.add_axes((0.15, 0.17, 0.8, 0.75))
        for name, group in numbers.groupby("metric"):
            (line,) = axes.plot(group.groupby(load)["value"].mean(), label=name.replace("_", " "))
            axes.plot(group[load], group["value"], ".", color=line.get_color())
        axes.set_xlabel(load)
        axes.set_ylabel("accuracy (%)")
        axes.legend()
    return la.Drawn(figure, numbers)
