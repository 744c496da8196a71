"""Goldens of the optimizers: weights after 20 and after 40 updates, in float64.

    python tests/golden/generate_optim.py     (needs PyTorch and numpy; writes tests/golden/optim/data)

SGD and AdamW are PyTorch's own. LARS and LAMB are written here from their papers: PyTorch has neither.
"""

import math
import os

import numpy as np
import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "optim", "data")
STEPS, CLIP, DECAY = 40, 2.0, 0.02
LR = {"sgd": 0.05, "nesterov": 0.05, "adamw": 0.01, "lars": 2.0, "lamb": 0.02}
# Shape, whether it is a norm or a bias (no decay, no trust ratio, half the rate), size of weights, size of gradients.
TENSORS = [
    ((8, 4, 3, 3), False, 1.0, 0.3),
    ((16, 33), False, 0.1, 3.0),
    ((7,), True, 1.0, 0.3),
    ((5,), True, 0.0, 1.0),
    ((6, 6), False, 0.0, 0.5),
    ((5, 5), False, 1.0, 0.0),
    ((1, 1), False, 2.0, 1e-4),
]


def rate(name, t):
    return LR[name] * (1 - t / (STEPS + 10))


def weights(p):
    shape, _, size, _ = TENSORS[p]
    values = size * np.sin(np.arange(1, math.prod(shape) + 1) + p)
    return torch.from_numpy(values.astype(np.float32).astype(np.float64)).reshape(shape)


def gradient(p, t):
    shape, _, _, size = TENSORS[p]
    values = size * (np.cos(0.37 * np.arange(math.prod(shape)) + 1.3 * t + p) + 0.2)
    return torch.from_numpy(values.astype(np.float32).astype(np.float64)).reshape(shape)


class Lars(torch.optim.Optimizer):
    """You et al. 2017, algorithm 1: the rate is inside the momentum."""

    def __init__(self, params, lr, momentum=0.9, trust=0.001):
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                local = 1.0
                if group["layers"]:
                    w, g = torch.linalg.vector_norm(p), torch.linalg.vector_norm(p.grad)
                    below = g + group["weight_decay"] * w
                    if w > 0 and below > 0:
                        local = group["trust"] * w / below
                velocity.mul_(group["momentum"]).add_(local * group["lr"] * (p.grad + group["weight_decay"] * p))
                p.sub_(velocity)


class Lamb(torch.optim.Optimizer):
    """You et al. 2020, algorithm 2, phi the identity."""

    def __init__(self, params, lr, betas=(0.9, 0.999), eps=1e-6):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["t"] += 1
                b1, b2 = group["betas"]
                state["m"] = b1 * state["m"] + (1 - b1) * p.grad
                state["v"] = b2 * state["v"] + (1 - b2) * p.grad**2
                mean, square = state["m"] / (1 - b1 ** state["t"]), state["v"] / (1 - b2 ** state["t"])
                u = mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * p
                w_norm, u_norm = torch.linalg.vector_norm(p), torch.linalg.vector_norm(u)
                ratio = w_norm / u_norm if group["layers"] and w_norm > 0 and u_norm > 0 else 1.0
                p.sub_(group["lr"] * ratio * u)


def make(name, groups):
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=1, eps=1e-8)
    if name == "lars":
        return Lars(groups, lr=1)
    if name == "lamb":
        return Lamb(groups, lr=1)
    return torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=name == "nesterov")


def train(name):
    params = [torch.nn.Parameter(weights(p)) for p in range(len(TENSORS))]
    big = [p for p, t in zip(params, TENSORS) if not t[1]]
    small = [p for p, t in zip(params, TENSORS) if t[1]]
    optimizer = make(name, [
        {"params": big, "weight_decay": DECAY, "layers": True, "factor": 1.0},
        {"params": small, "weight_decay": 0.0, "layers": False, "factor": 0.5},
    ])
    rows = []
    for t in range(STEPS):
        for i, p in enumerate(params):
            p.grad = gradient(i, t)
        torch.nn.utils.clip_grad_norm_(params, CLIP)
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * rate(name, t)
        optimizer.step()
        if t + 1 in (STEPS // 2, STEPS):
            rows.append(torch.cat([p.detach().flatten() for p in params]).numpy().copy())
    return np.stack(rows)


def main():
    os.makedirs(OUT, exist_ok=True)
    for name in LR:
        values = train(name)
        print(name, values[:, :3], np.abs(values).max())
        np.save(os.path.join(OUT, f"{name}.npy"), values)


if __name__ == "__main__":
    main()
