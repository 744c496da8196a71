"""Goldens of the learning-rate schedules, by PyTorch's own schedulers.

    python tests/golden/generate_schedule.py     (needs PyTorch and numpy; writes tests/golden/optim/data)

One row a schedule: the rate that torch.optim.SGD uses in each of 40 updates.
"""

import math
import os

import numpy as np
import torch
from torch.optim import lr_scheduler as ls

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "optim", "data")
STEPS, WARMUP, BASE, FINAL, START = 40, 7, 0.3, 0.002, 0.05


def rates(make):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=BASE)
    scheduler = make(optimizer)
    out = []
    for _ in range(STEPS):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def after_warmup(decay):
    """Linear warm-up to BASE, update t at (t + 1) / WARMUP; decay(k), relative to BASE, for the k-th update behind it."""
    return lambda o: ls.LambdaLR(o, lambda t: (t + 1) / WARMUP if t < WARMUP else decay(t - WARMUP))


def main():
    os.makedirs(OUT, exist_ok=True)
    n = STEPS - WARMUP
    table = {
        "poly": rates(lambda o: ls.PolynomialLR(o, total_iters=STEPS, power=2)),
        "poly_warmup": rates(after_warmup(lambda k: (1 - k / n) ** 2)),
        "cosine": rates(lambda o: ls.CosineAnnealingLR(o, T_max=STEPS, eta_min=FINAL)),
        "cosine_warmup": rates(
            after_warmup(lambda k: (FINAL + (BASE - FINAL) * (1 + math.cos(math.pi * k / n)) / 2) / BASE)),
        "step": rates(lambda o: ls.MultiStepLR(o, milestones=[12, 20, 33], gamma=0.1)),
        "constant_warmup": rates(after_warmup(lambda k: 1.0)),
        "one_cycle": rates(lambda o: ls.OneCycleLR(o, max_lr=BASE, total_steps=STEPS, cycle_momentum=False,
                                                   final_div_factor=BASE / 25 / FINAL)),
        "one_cycle_warmup": rates(lambda o: ls.OneCycleLR(o, max_lr=BASE, total_steps=STEPS, cycle_momentum=False,
                                                          pct_start=WARMUP / STEPS, div_factor=BASE / START,
                                                          final_div_factor=START / FINAL)),
    }
    np.save(os.path.join(OUT, "schedules.npy"), np.array(list(table.values()), np.float64))
    print(list(table))


if __name__ == "__main__":
    main()
