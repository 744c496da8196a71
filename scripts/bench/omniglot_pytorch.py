#!/usr/bin/env python3
"""The Omniglot yardstick in PyTorch: the network, data and schedule of configs/omniglot.yaml, for comparison.

Trains on DIR/background (decoded into memory beforehand), then scores the pair file on DIR/evaluation as InsightFace
does (10 folds; no flip sum, because a mirrored character is another one). Prints images/s of the training loop alone and the accuracy. Needs torch, numpy and
opencv-python; the project itself needs none of them.

    python3 scripts/bench/omniglot_pytorch.py --data data/omniglot --pairs data/omniglot/pairs.txt --seed 1
    python3 scripts/bench/omniglot_pytorch.py --data data/omniglot --steps 150        # the rate alone
"""
import argparse
import math
import os
import time

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.prelu = nn.PReLU(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.down = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.conv1(self.bn1(x))
        return self.bn3(self.conv2(self.prelu(self.bn2(y)))) + self.down(x)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.prelu = nn.PReLU(32)
        widths = [32, 32, 64, 128, 256]
        self.blocks = nn.Sequential(*[Block(a, b, 2) for a, b in zip(widths, widths[1:])])
        self.bn2 = nn.BatchNorm2d(256)
        self.fc = nn.Linear(256 * 2 * 2, 128)
        self.features = nn.BatchNorm1d(128)
        self.features.weight.requires_grad_(False)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, 0, 0.1)

    def forward(self, x):
        x = self.blocks(self.prelu(self.bn1(self.conv1(x))))
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


def load(path):
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    return cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)


def read_folder(folder):
    images, labels = [], []
    for label, name in enumerate(sorted(os.listdir(folder))):
        for file in sorted(os.listdir(os.path.join(folder, name))):
            images.append(load(os.path.join(folder, name, file)))
            labels.append(label)
    return np.stack(images), np.array(labels)


def to_input(images):
    x = (torch.from_numpy(images).float() - 127.5) / 127.5
    return x.unsqueeze(1).contiguous(memory_format=torch.channels_last)


def margin_loss(embedding, centers, labels, scale=32.0, margin=0.3):
    cos = (F.normalize(embedding) @ F.normalize(centers).t()).clamp(-1, 1)
    target = cos.gather(1, labels[:, None])
    theta = torch.acos(target.clamp(-1 + 1e-7, 1 - 1e-7)) + margin
    # The same continuation beyond pi as ours: (-1)^k cos(phi) - 2k.
    k = torch.floor(theta / math.pi)
    moved = torch.where(k % 2 == 0, 1.0, -1.0) * torch.cos(theta) - 2 * k
    return F.cross_entropy(scale * cos.scatter(1, labels[:, None], moved), labels)


def accuracy(network, folder, pair_file):
    pairs = []
    with open(pair_file) as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                a, b, same = line.rstrip("\n").split("\t") if "\t" in line else line.split()
                pairs.append((a, b, same == "1"))
    names = sorted({p for a, b, _ in pairs for p in (a, b)})
    where = {n: i for i, n in enumerate(names)}
    images = np.stack([load(os.path.join(folder, n)) for n in names])
    network.eval()
    with torch.no_grad():
        parts = [network(to_input(images[i:i + 256])) for i in range(0, len(images), 256)]
    e = F.normalize(torch.cat(parts)).double().numpy()
    d = np.array([((e[where[a]] - e[where[b]]) ** 2).sum() for a, b, _ in pairs])
    same = np.array([s for _, _, s in pairs])
    thresholds = np.arange(0, 4, 0.01)
    right = np.stack([(d < t) == same for t in thresholds])
    scores = []
    for fold in np.array_split(np.arange(len(pairs)), 10):
        train = np.setdiff1d(np.arange(len(pairs)), fold)
        scores.append(right[right[:, train].mean(1).argmax()][fold].mean())
    return float(np.mean(scores))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with background/ and evaluation/")
    parser.add_argument("--pairs", help="pair file over evaluation/ (plsc-data pairs)")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps (rates)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", help="write the trained network here (torch.save), for --load")
    parser.add_argument("--load", help="score this network instead of training")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.load:
        network = Network().to(memory_format=torch.channels_last)
        network.load_state_dict(torch.load(args.load))
        print(f"accuracy {accuracy(network, os.path.join(args.data, 'evaluation'), args.pairs):.4f}")
        return
    images, labels = read_folder(os.path.join(args.data, "background"))
    labels = torch.from_numpy(labels)
    network = Network().to(memory_format=torch.channels_last)
    centers = nn.Parameter(torch.empty(int(labels.max()) + 1, 128).normal_(0, 0.01))
    batch, warmup = 128, 150
    per_epoch = len(images) // batch
    total = per_epoch * args.epochs
    parameters = [p for p in network.parameters() if p.requires_grad] + [centers]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    step, start, timed_from = 0, 0.0, 10
    network.train()
    for epoch in range(args.epochs):
        order = torch.randperm(len(images))
        for i in range(per_epoch):
            lr = 0.1 * (step + 1) / warmup if step < warmup else 0.1 * (1 - (step - warmup) / (total - warmup)) ** 2
            for group in optimizer.param_groups:
                group["lr"] = lr
            index = order[i * batch:(i + 1) * batch]
            optimizer.zero_grad(set_to_none=True)
            loss = margin_loss(network(to_input(images[index.numpy()])), centers, labels[index])
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 5)
            optimizer.step()
            step += 1
            if step == timed_from:
                start = time.time()
            if args.steps and step >= args.steps:
                break
        print(f"epoch {epoch + 1} loss {loss.item():.4f}", flush=True)
        if args.steps and step >= args.steps:
            break
    print(f"{(step - timed_from) * batch / (time.time() - start):.1f} images/s")
    if args.save:
        torch.save(network.state_dict(), args.save)
    if args.pairs:
        print(f"accuracy {accuracy(network, os.path.join(args.data, 'evaluation'), args.pairs):.4f}")


if __name__ == "__main__":
    main()
