#!/usr/bin/env python3
"""The step of bench_head as PyTorch computes it when every logit is stored, the way of InsightFace's arcface_torch:
both sides normalised, one linear layer, clamp, margin, softmax cross-entropy, autograd, SGD with momentum.

    python3 scripts/bench/head_pytorch.py --classes 1000000 --batch 128        (needs torch; 16 GiB at this size)

Prints the best step's seconds and the process's peak memory; pair it with bench_head of the same arguments.
"""
import argparse
import os
import resource
import time

import torch
import torch.nn.functional as F

COSINE_SCALE, MARGIN = 64.0, 0.5


def loss_of(embeddings, centers, labels, bf16):
    x, w = F.normalize(embeddings), F.normalize(centers)
    if bf16:
        x, w = x.bfloat16(), w.bfloat16()
    cosine = F.linear(x, w).float().clamp(-1, 1)
    target = cosine[torch.arange(labels.numel()), labels]
    with torch.no_grad():
        cosine_with_margin = torch.cos(torch.acos(target) + MARGIN)
    logits = cosine * COSINE_SCALE
    logits[torch.arange(labels.numel()), labels] = COSINE_SCALE * (target + (cosine_with_margin - target).detach())
    return F.cross_entropy(logits, labels)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--classes", type=int, default=1000000)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    centers = torch.nn.Parameter(torch.randn(args.classes, args.columns) * 0.01)
    optimizer = torch.optim.SGD([centers], lr=0.1, momentum=0.9, weight_decay=5e-4)
    best = float("inf")
    for step in range(args.steps + 1):
        embeddings = (2 * torch.rand(args.batch, args.columns) - 1).requires_grad_()
        labels = torch.randint(0, args.classes, (args.batch,))
        begin = time.perf_counter()
        loss = loss_of(embeddings, centers, labels, args.precision == "bf16")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds = time.perf_counter() - begin
        print(f"  step {step}: {seconds:.3f} s, loss {loss.item():.4f}", flush=True)
        if step > 0:  # the first step makes the momentum
            best = min(best, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"step {best:.3f} s, peak memory of the process {peak:.1f} GiB")


if __name__ == "__main__":
    main()
