"""Networks as somebody trains them without Loss Atlas: plain torch, a file per run."""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from theirnet import Net
from torch.nn.functional import cross_entropy


def train(images, labels, hidden, batch_size, seed):
    """Return a trained network."""
    torch.manual_seed(seed)
    net = Net(10, hidden)
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(6):
        for batch in torch.randperm(len(images)).split(batch_size)[:-1]:
            adam.zero_grad()
            cross_entropy(net(images[batch]), labels[batch]).backward()
            adam.step()
    return net


def main():
    """Train 3 x 3 x 2 networks on handwritten digits; write their weights and the data."""
    torch.set_num_threads(1)  # the networks are tiny
    digits = load_digits()
    pixels = (digits.images / 16).astype("float32")
    mean, std = [pixels[:1200].mean()], [pixels[:1200].std()]
    np.savez(
        "theirs.npz",
        train_images=pixels[:1200],
        train_labels=digits.target[:1200],
        test_images=pixels[1200:],
        test_labels=digits.target[1200:],
        mean=mean,  # as the networks see the images
        std=std,
    )
    images = (torch.from_numpy(pixels[:1200, None]) - mean[0]) / std[0]
    labels = torch.from_numpy(digits.target[:1200])
    for hidden in (2, 8, 32):
        for batch_size in (32, 128, 512):
            for seed in (0, 1):
                net = train(images, labels, hidden, batch_size, seed)
                file = Path(f"runs/hidden={hidden}/batch={batch_size}/seed={seed}.pt")
                file.parent.mkdir(parents=True, exist_ok=True)
                torch.save(net.state_dict(), file)


if __name__ == "__main__":
    main()
