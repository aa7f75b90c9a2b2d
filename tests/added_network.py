"""A file that adds a network to the checkout."""

NEW = '''
"""A network that is added to the checkout."""

import torch

from lossatlas.spec import counts
from lossatlas.spec.networks import Network

SIDES = {"flat": 1, "wide": 2}


class Added(torch.nn.Module):
    """Softmax regression."""

    def __init__(self, num_classes, in_channels=3, image_size=32, kind="flat"):
        super().__init__()
        self.layers = torch.nn.Linear(in_channels * image_size**2, num_classes)

    def forward(self, x):
        return self.layers(x.flatten(1))


def count(arguments, classes, channels, size):
    return counts.linear(_inputs(channels, size), classes)


def _inputs(channels, size):
    return channels * size**2


NETWORKS = {"added": Network("Added", {"kind": "flat"}, count, choices={"kind": tuple(SIDES)})}
'''
