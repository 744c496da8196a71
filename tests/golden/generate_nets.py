"""Goldens of whole networks: forward, all gradients, running statistics, and names and shapes of the large ones.

    python tests/golden/generate_nets.py        (needs PyTorch and numpy; writes tests/golden/nn/data)

Weights and images come from the project's counter RNG, so that only results are stored. PyTorch computes in float64:
what is compared is our own rounding.
"""

import os

import numpy as np
import torch

import torch_nets
from torch_nets import Net, images, tiny

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nn", "data")
BATCH = 6


def save(name, tensor):
    array = tensor.detach().numpy() if torch.is_tensor(tensor) else tensor
    np.save(os.path.join(OUT, name + ".npy"), np.ascontiguousarray(array.astype(np.float32)))


def network(name):
    net = tiny(name).double()
    x = images(name, BATCH, 0).double()
    net.train()
    y = net(x)
    n = y.numel()
    # Any smooth loss will do; this one has a different gradient for every element.
    dy = torch.cos(0.9 * torch.arange(n, dtype=torch.float64)).reshape(y.shape)
    y.backward(dy)
    save(f"{name}_train", y)
    gradients = [v.grad.flatten() for _, v, kind in net.state() if kind != "buffer" and v.requires_grad]
    save(f"{name}_gradients", torch.cat(gradients))
    buffers = [v.flatten() for k, v, kind in net.state() if kind == "buffer" and "num_batches" not in k]
    save(f"{name}_buffers", torch.cat(buffers))
    net.eval()
    save(f"{name}_eval", net(images(name, BATCH, 1).double()))


def names(file, net):
    with open(os.path.join(OUT, file), "w", encoding="ascii") as out:
        for name, value, _ in net.state():
            out.write(f"{name} {'x'.join(map(str, value.shape)) or 'scalar'}\n")


def main():
    os.makedirs(OUT, exist_ok=True)
    torch.manual_seed(0)
    for name in torch_nets.TINY:
        network(name)
    wide = [64, 128, 256, 512]
    names("iresnet50.txt", Net("iresnet", 64, wide, [3, 4, 14, 3], [2, 2, 2, 2]))
    names("resnet50.txt", Net("resnet", 64, wide, [3, 4, 6, 3], [1, 2, 2, 2], bottleneck=True, embedding=1000))
    names("resnet18.txt", Net("resnet", 64, wide, [2, 2, 2, 2], [1, 2, 2, 2], embedding=1000))


if __name__ == "__main__":
    main()
