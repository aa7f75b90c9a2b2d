"""A metric, and a figure of it: the norm of the gradient of the training loss."""

import lossatlas as la
from lossatlas.figures import style


class GradientNorm(la.Metric):
    """L2 norm of the gradient of the mean loss of the first training images, in evaluation mode."""

    per = "replica"
    samples: int = 1000
    outputs = (la.Output("gradient_norm", unit="nats", doc="norm of that gradient"),)

    def measure(self, net, data):
        """Measure one replica."""
        return la.Value(net.gradient(data.train[: self.samples]).norm())


@la.figure(scalars=["gradient_norm:GradientNorm"], axes=["load"], category="my figures")
def slopes(tables, chosen, load, temperature):
    """Norm of the gradient of the mean training loss against width, a dot for each replica."""
    rows = tables.scalars[tables.scalars["metric"] == "gradient_norm"]
    numbers = rows[[load, "replica", "value", "status"]].reset_index(drop=True)
    with style.sheet():
        figure = style.page(60, 90)  # height and width in mm
        axes = figure.add_axes((0.2, 0.18, 0.75, 0.75))
        axes.plot(numbers[load], numbers["value"], ".")
        axes.set_xlabel(load)
        axes.set_ylabel("gradient norm (nats)")
    return la.Drawn(figure, numbers)
