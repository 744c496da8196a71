"""Goldens of training: losses and gradient norms of 20 SGD steps of tiny networks with an ArcFace head.

    python tests/golden/generate_train.py       (needs PyTorch and numpy; writes tests/golden/train/data)

Weights, centres and images come from the project's counter RNG. PyTorch computes in float64 (and, printed only, in
float32: the difference shows how far rounding alone drives two runs apart).
"""

import math
import os

import numpy as np
import torch

import counter_random as cr
import torch_nets
from torch_nets import images, tiny

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train", "data")
STEPS, BATCH, CLASSES, SCALE, MARGIN, WARMUP, CLIP = 20, 24, 10, 16.0, 0.3, 5, 5.0
# A sign that rounding changes under a ReLU sets two runs apart for good; with small steps few come near it.
BASE = {"iresnet": 0.01, "plsc": 0.01, "basic": 0.01, "bottleneck": 0.005}


def arcface(x, centers, labels):
    """Mean cross-entropy of s cos(theta + m [target]), with the continuation of the cosine beyond pi."""
    cos = torch.nn.functional.linear(torch.nn.functional.normalize(x), torch.nn.functional.normalize(centers))
    rows = torch.arange(len(labels))
    phi = torch.acos(cos[rows, labels].clamp(-1, 1)) + MARGIN
    k = torch.floor(phi / math.pi)
    sign = 1 - 2 * torch.remainder(k, 2)
    logits = cos.clone()
    logits[rows, labels] = sign * torch.cos(phi) - 2 * k
    return torch.nn.functional.cross_entropy(SCALE * logits, labels)


def lr(t, base):
    return base * (t + 1) / WARMUP if t < WARMUP else base * (1 - (t - WARMUP) / (STEPS - WARMUP)) ** 2


def train(name, dtype):
    net = tiny(name).to(dtype).train()
    centers = cr.normal(7, cr.CENTER_INIT, 0, CLASSES * 16).astype(np.float32).reshape(CLASSES, 16) * np.float32(0.01)
    centers = torch.nn.Parameter(torch.from_numpy(centers).to(dtype))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained + [centers], lr=BASE[name], momentum=0.9, weight_decay=5e-4)
    losses, norms = [], []
    for t in range(STEPS):
        labels = torch.tensor([(7 * i + 3 * t) % CLASSES for i in range(BATCH)])
        # Two images a class and a shift of them: something that can be learnt.
        x = images(name, BATCH, t % 2).to(dtype) + (labels.to(dtype) / CLASSES).reshape(-1, 1, 1, 1)
        for group in optimizer.param_groups:
            group["lr"] = lr(t, BASE[name])
        optimizer.zero_grad()
        loss = arcface(net(x), centers, labels)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, CLIP).item())
        optimizer.step()
        losses.append(loss.item())
    net.eval()
    return np.array(losses), np.array(norms), net(images(name, 4, 9).to(dtype)).detach().double().numpy()


def main():
    os.makedirs(OUT, exist_ok=True)
    torch.set_num_threads(1)
    for name in torch_nets.TINY:
        losses, norms, embeddings = train(name, torch.float64)
        rough = train(name, torch.float32)
        print(name, losses.round(3), norms.round(2), "float32 differs by", np.abs(rough[0] / losses - 1).max(),
              np.abs(rough[1] / norms - 1).max(), np.abs(rough[2] - embeddings).max() / np.abs(embeddings).max())
        np.save(os.path.join(OUT, f"{name}_steps.npy"), np.stack([losses, norms]))
        np.save(os.path.join(OUT, f"{name}_embeddings.npy"), embeddings.astype(np.float32))


if __name__ == "__main__":
    main()
