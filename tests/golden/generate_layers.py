#!/usr/bin/env python3
"""Goldens of single layers, forward and backward, computed by PyTorch. Needs PyTorch and NumPy; tests only read the
files, so run this again only when a case is added:  python3 tests/golden/generate_layers.py

Each case is a folder of .npy files under tests/golden/backend/data. Activations are stored as (N, H, W, C), weights as
PyTorch keeps them. Gradients are those of sum(y * dy). Values are computed in double and stored as float32.
"""
import os
import shutil

import numpy as np
import torch
import torch.nn.functional as F

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "backend", "data")


def nhwc(t):
    return t.permute(0, 2, 3, 1) if t.dim() == 4 else t


def random(*shape):
    """Exact in float32, so that both sides start from the same numbers."""
    return torch.randn(*shape).double()


def save(case, activations, parameters):
    folder = os.path.join(OUT, case)
    os.makedirs(folder)
    tensors = {k: nhwc(v) for k, v in activations.items()} | parameters
    for name, tensor in tensors.items():
        np.save(os.path.join(folder, name + ".npy"), tensor.detach().contiguous().numpy().astype(np.float32))


def convolution(case, n, h, w, i, o, k, stride, pad):
    x, weight = random(n, i, h, w).requires_grad_(), random(o, i, k, k).requires_grad_()
    y = F.conv2d(x, weight, stride=stride, padding=pad)
    dy = random(*y.shape)
    y.backward(dy)
    save(case, {"x": x, "y": y, "dy": dy, "dx": x.grad}, {"weight": weight, "dweight": weight.grad})


def batch_norm(case, shape, activation, residual=False, shared_slope=False):
    """Training mode: batch statistics, then the residual sum, then the activation; running statistics after it."""
    channels = shape[1]
    norm = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(channels).double()
    with torch.no_grad():
        norm.weight.copy_((random(channels) * 0.3 + 1).float())
        norm.bias.copy_((random(channels) * 0.3).float())
    x = (random(*shape) * 2 + 5).float().double().requires_grad_()
    add = random(*shape).requires_grad_() if residual else None
    z = norm(x) + (add if residual else 0)
    slope = None
    if activation == "prelu":
        slope = (random(1 if shared_slope else channels) * 0.1 + 0.25).float().double().requires_grad_()
        y = F.prelu(z, slope)
    else:
        y = F.relu(z) if activation == "relu" else z
    dy = random(*shape)
    y.backward(dy)
    activations = {"x": x, "y": y, "dy": dy, "dx": x.grad}
    parameters = {
        "gamma": norm.weight, "beta": norm.bias, "dgamma": norm.weight.grad, "dbeta": norm.bias.grad,
        "running_mean": norm.running_mean, "running_var": norm.running_var,
    }
    if residual:
        activations |= {"residual": add, "dresidual": add.grad}
    if slope is not None:
        parameters |= {"slope": slope, "dslope": slope.grad}
    save(case, activations, parameters)


def linear_after_flatten(case, n, h, w, c, features):
    x = random(n, c, h, w).requires_grad_()
    weight, bias = random(features, c * h * w).requires_grad_(), random(features).requires_grad_()
    y = F.linear(torch.flatten(x, 1), weight, bias)
    dy = random(*y.shape)
    y.backward(dy)
    save(case, {"x": x, "y": y, "dy": dy, "dx": x.grad},
         {"weight": weight, "bias": bias, "dweight": weight.grad, "dbias": bias.grad})


def pooling(case, shape, pool):
    x = random(*shape).requires_grad_()
    y = pool(x)
    dy = random(*y.shape)
    y.backward(dy)
    save(case, {"x": x, "y": y, "dy": dy, "dx": x.grad}, {})


def main():
    torch.manual_seed(20240607)
    shutil.rmtree(OUT, ignore_errors=True)
    convolution("conv_3x3", 2, 6, 5, 5, 7, 3, 1, 1)
    convolution("conv_3x3_stride_2", 2, 7, 7, 8, 16, 3, 2, 1)
    convolution("conv_1x1_stride_2", 3, 6, 6, 16, 8, 1, 2, 0)
    convolution("conv_7x7_stem", 1, 16, 16, 3, 8, 7, 2, 3)
    batch_norm("norm", (4, 6, 3, 5), "none")
    batch_norm("norm_rows", (8, 20), "none")
    batch_norm("norm_relu", (2, 16, 4, 4), "relu")
    batch_norm("norm_residual_relu", (3, 8, 4, 4), "relu", residual=True)
    batch_norm("norm_prelu", (2, 16, 5, 3), "prelu")
    batch_norm("norm_shared_prelu", (2, 9, 4, 4), "prelu", shared_slope=True)
    linear_after_flatten("linear", 3, 3, 2, 8, 10)
    pooling("max_pool", (2, 5, 7, 9), lambda x: F.max_pool2d(x, 3, stride=2, padding=1))
    pooling("average_pool", (2, 6, 4, 3), lambda x: F.adaptive_avg_pool2d(x, 1))


if __name__ == "__main__":
    main()
