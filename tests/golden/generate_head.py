#!/usr/bin/env python3
"""Writes tests/golden/head/data: the heads as PyTorch's autograd computes them, in float64.

    python3 tests/golden/generate_head.py        (needs torch and numpy; the tests themselves need neither)

Each case is three SGD steps on the same embeddings: losses, the embeddings' gradients and the class centres after
each step. `straight_through` is the form of InsightFace's arcface_torch: the margin is added to the angle without
autograd seeing it, so that the target's logit has the slope of the plain cosine. `d_softmax` is the loss of Softmax
Dissection (He et al., AAAI 2020) as the paper writes it. `linear` is torch.nn.Linear and cross_entropy; its centres are
[weight, bias].
"""
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent / "head" / "data"
SAMPLES, CLASSES, COLUMNS, STEPS = 12, 20, 16, 3
CASES = {
    "arcface": dict(m=(1.0, 0.5, 0.0), scale=64.0),
    "cosface": dict(m=(1.0, 0.0, 0.4), scale=64.0),
    "custom": dict(m=(1.6, 0.9, 0.1), scale=30.0, nesterov=True),
    "straight_through": dict(m=(1.0, 0.5, 0.0), scale=64.0, straight_through=True),
    "filter": dict(m=(1.0, 0.5, 0.0), scale=64.0, filter=0.2),
    "d_softmax": dict(termination=0.6, scale=32.0),
    "linear": dict(),
}


def margin(cosine, m1, m2, m3, straight_through):
    if straight_through:
        with torch.no_grad():
            change = torch.cos(m1 * torch.acos(cosine) + m2) - m3 - cosine
        return cosine + change
    if m1 == 1.0 and m2 == 0.0:
        return cosine - m3
    phi = m1 * torch.acos(cosine) + m2
    k = torch.floor(phi.detach() / math.pi)
    return torch.where(k % 2 == 0, 1.0, -1.0) * torch.cos(phi) - 2 * k - m3


def head_loss(embeddings, centers, labels, case):
    if not case:
        return F.cross_entropy(F.linear(embeddings, centers[:, :-1], centers[:, -1]), labels)
    cosine = F.linear(F.normalize(embeddings), F.normalize(centers)).clamp(-1, 1)
    target = F.one_hot(labels, CLASSES).bool()
    if "filter" in case:
        cosine = torch.where((cosine > case["filter"]) & ~target, torch.zeros_like(cosine), cosine)
    if "termination" in case:
        power = torch.exp(case["scale"] * cosine)
        intra = torch.log(1 + math.exp(case["scale"] * case["termination"]) / power[target])
        inter = torch.log(1 + torch.where(target, 0.0, power).sum(1))
        return (intra + inter).mean()
    shifted = margin(cosine, *case["m"], case.get("straight_through", False))
    return F.cross_entropy(case["scale"] * torch.where(target, shifted, cosine), labels)


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(20)
    embeddings = torch.randn(SAMPLES, COLUMNS).double()
    start = (torch.randn(CLASSES, COLUMNS) * 0.1).double()
    labels = torch.randint(0, CLASSES, (SAMPLES,))
    labels[1] = labels[0]
    bias = (torch.randn(CLASSES, 1) * 0.1).double()
    np.save(HERE / "embeddings.npy", embeddings.numpy())
    np.save(HERE / "centers.npy", start.numpy())
    np.save(HERE / "labels.npy", labels.numpy())
    np.save(HERE / "bias.npy", bias.numpy())
    for name, case in CASES.items():
        centers = (start if case else torch.cat([start, bias], 1)).clone().requires_grad_()
        optimizer = torch.optim.SGD([centers], lr=0.1, momentum=0.9, weight_decay=5e-4,
                                    nesterov=case.get("nesterov", False))
        losses, gradients, trained = [], [], []
        for _ in range(STEPS):
            x = embeddings.clone().requires_grad_()
            loss = head_loss(x, centers, labels, case)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            gradients.append(x.grad.numpy().copy())
            trained.append(centers.detach().numpy().copy())
        np.save(HERE / f"{name}_losses.npy", np.array(losses))
        np.save(HERE / f"{name}_d_embedding.npy", np.stack(gradients))
        np.save(HERE / f"{name}_centers.npy", np.stack(trained))


if __name__ == "__main__":
    main()
