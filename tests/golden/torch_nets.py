"""The networks of src/nn in PyTorch, with the parameter names of arcface_torch and torchvision.

Written from the description of the architectures (docs of the networks in src/nn), for goldens and comparisons.
"""

import math

import numpy as np
import torch
from torch import nn

import counter_random as cr


def conv(cin, cout, kernel, stride, pad):
    return nn.Conv2d(cin, cout, kernel, stride, pad, bias=False)


def shortcut(cin, cout, stride, eps):
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(conv(cin, cout, 1, stride, 0), nn.BatchNorm2d(cout, eps=eps))


class IrBlock(nn.Module):
    def __init__(self, cin, width, stride, eps, slopes):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(cin, eps=eps)
        self.conv1 = conv(cin, width, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(width, eps=eps)
        self.prelu = nn.PReLU(slopes or width)
        self.conv2 = conv(width, width, 3, stride, 1)
        self.bn3 = nn.BatchNorm2d(width, eps=eps)
        self.downsample = shortcut(cin, width, stride, eps)

    def forward(self, x):
        y = self.conv1(self.bn1(x))
        y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
        return y + (x if self.downsample is None else self.downsample(x))


class ResidualBlock(nn.Module):
    def __init__(self, cin, width, stride, bottleneck):
        super().__init__()
        out = width * (4 if bottleneck else 1)
        self.convs = 3 if bottleneck else 2
        shapes = [(cin, width, 1, 1, 0), (width, width, 3, stride, 1), (width, out, 1, 1, 0)] if bottleneck else [
            (cin, width, 3, stride, 1), (width, out, 3, 1, 1)]
        for i, s in enumerate(shapes, 1):
            setattr(self, f"conv{i}", conv(*s))
            setattr(self, f"bn{i}", nn.BatchNorm2d(s[1]))
        self.downsample = shortcut(cin, out, stride, 1e-5)

    def forward(self, x):
        y = x
        for i in range(1, self.convs + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i == self.convs:
                y = y + (x if self.downsample is None else self.downsample(x))
            y = torch.relu(y)
        return y


class Net(nn.Module):
    """kind: iresnet | plsc | resnet."""

    def __init__(self, kind, stem, widths, blocks, strides, bottleneck=False, channels=3, size=(112, 112), embedding=512):
        super().__init__()
        self.kind = kind
        self.stages = len(widths)
        resnet = kind == "resnet"
        eps = 2e-5 if kind == "plsc" else 1e-5
        slopes = 1 if kind == "plsc" else None
        self.conv1 = conv(channels, stem, 7, 2, 3) if resnet else conv(channels, stem, 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(stem, eps=eps)
        if resnet:
            self.maxpool = nn.MaxPool2d(3, 2, 1)
        else:
            self.prelu = nn.PReLU(slopes or stem)
        cin = stem
        for s in range(self.stages):
            stage = []
            for b in range(blocks[s]):
                stride = strides[s] if b == 0 else 1
                if resnet:
                    stage.append(ResidualBlock(cin, widths[s], stride, bottleneck))
                else:
                    stage.append(IrBlock(cin, widths[s], stride, eps, slopes))
                cin = widths[s] * (4 if bottleneck else 1)
            setattr(self, f"layer{s + 1}", nn.Sequential(*stage))
        h, w = size
        for s in strides:
            h, w = -(-h // s), -(-w // s)
        if resnet:
            self.fc = nn.Linear(cin, embedding)
        else:
            self.bn2 = nn.BatchNorm2d(cin, eps=eps)
            self.fc = nn.Linear(cin * h * w, embedding)
            self.features = nn.BatchNorm1d(embedding, eps=eps)
            if kind == "iresnet":
                self.features.weight.requires_grad_(False)

    def trunk(self, x):
        x = self.bn1(self.conv1(x))
        x = self.maxpool(torch.relu(x)) if self.kind == "resnet" else self.prelu(x)
        for s in range(self.stages):
            x = getattr(self, f"layer{s + 1}")(x)
        return x.mean((2, 3)) if self.kind == "resnet" else self.bn2(x).flatten(1)

    def forward(self, x):
        x = self.trunk(x)
        with torch.autocast(x.device.type, enabled=False):
            x = self.fc(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x)
            return x if self.kind == "resnet" else self.features(x)

    def state(self):
        """Name, tensor and kind (weight, bias, norm, buffer) in the order of state_dict."""
        params = dict(self.named_parameters())
        for name, value in self.state_dict(keep_vars=True).items():
            if name not in params:
                kind = "buffer"
            elif value.dim() > 1:
                kind = "weight"
            elif name == "fc.bias":
                kind = "bias"
            else:
                kind = "norm"
            yield name, value, kind

    def draw(self, seed):
        """The first values that src/nn/init.cpp gives."""
        fan_in = 1
        with torch.no_grad():
            for index, (_, value, kind) in enumerate(self.state()):
                if kind not in ("weight", "bias"):
                    continue
                field = value[0, 0].numel() if value.dim() == 4 else 1
                if kind == "weight":
                    fan_in = value.shape[1] * field
                fan_out = value.shape[0] * field
                n = value.numel()
                if kind == "weight" and (value.dim() == 4 or self.kind == "plsc"):
                    spread = 0.1 if self.kind == "iresnet" else math.sqrt(2 / fan_out)
                    drawn = spread * cr.normal(seed, cr.WEIGHT_INIT, index, n)
                elif self.kind == "plsc":
                    drawn = np.zeros(n)
                else:
                    drawn = cr.uniform(seed, cr.WEIGHT_INIT, index, n) / math.sqrt(fan_in)
                value.copy_(torch.from_numpy(drawn.astype(np.float32)).reshape(value.shape))

    def perturb(self):
        """Moves scales, shifts and slopes off 1, 0 and .25, where a forgotten factor would not show."""
        with torch.no_grad():
            for index, (name, value, kind) in enumerate(self.state()):
                if kind == "norm" and value.requires_grad:
                    i = np.arange(value.numel())
                    shift = (0.1 * np.sin(0.7 * i + index)).astype(np.float32)
                    value.copy_((value.float().flatten() + torch.from_numpy(shift)).reshape(value.shape))


TINY = {
    "iresnet": dict(kind="iresnet", stem=8, widths=[8, 12, 16, 24], blocks=[1, 2, 1, 1], strides=[2, 2, 2, 2],
                    size=(16, 16), embedding=16),
    "plsc": dict(kind="plsc", stem=8, widths=[8, 16], blocks=[2, 1], strides=[2, 2], size=(15, 12), embedding=16,
                 channels=1),
    "basic": dict(kind="resnet", stem=8, widths=[8, 16], blocks=[2, 1], strides=[1, 2], size=(32, 24), embedding=16),
    "bottleneck": dict(kind="resnet", stem=8, widths=[4, 8], blocks=[2, 2], strides=[1, 2], bottleneck=True,
                       size=(32, 32), embedding=16),
}


def tiny(name, seed=7):
    net = Net(**TINY[name])
    net.draw(seed)
    net.perturb()
    return net


def images(name, batch, a, seed=7):
    """(N, C, H, W) in (-1, 1), drawn in NHWC order."""
    options = TINY[name]
    shape = (batch, *options["size"], options.get("channels", 3))
    x = cr.uniform(seed, cr.SYNTHETIC, a, int(np.prod(shape))).astype(np.float32)
    return torch.from_numpy(x.reshape(shape)).permute(0, 3, 1, 2)
