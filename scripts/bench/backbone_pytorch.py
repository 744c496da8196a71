"""The work of bench_backbone in PyTorch: forward + backward + clipping + SGD of a backbone, images a second.

    python scripts/bench/backbone_pytorch.py --backbone iresnet18 --batch 32 --precision fp32

Channels-last, bf16 by autocast, torch.optim.SGD with momentum and weight decay on all parameters. The networks are those
of tests/golden/torch_nets.py.
"""

import argparse
import os
import statistics
import sys
import time

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden"))
from torch_nets import Net  # noqa: E402

WIDE = [64, 128, 256, 512]
IR = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 14, 3], 100: [3, 13, 30, 3], 200: [6, 26, 60, 6]}
RES = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}


def network(o):
    common = dict(channels=o.channels, size=(o.size, o.size), embedding=o.embedding_size)
    if o.backbone == "omniglot":
        return Net("iresnet", 32, [32, 64, 128, 256], [1, 1, 1, 1], [2, 2, 2, 2], **common)
    if o.backbone.startswith("iresnet"):
        return Net("iresnet", 64, WIDE, IR[int(o.backbone[7:])], [2, 2, 2, 2], **common)
    depth = int(o.backbone[6:])
    return Net("resnet", 64, WIDE, RES[depth], [1, 2, 2, 2], bottleneck=depth >= 50, **common)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="iresnet18", help="iresnet18.., resnet18.., or omniglot")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--embedding-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0)
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    net = network(o).to(memory_format=torch.channels_last).train()
    x = (2 * torch.rand(o.batch, o.channels, o.size, o.size) - 1).to(memory_format=torch.channels_last)
    dy = 1e-3 * torch.cos(torch.arange(o.batch * o.embedding_size).float()).reshape(o.batch, -1)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=5e-4)
    seconds = []
    for step in range(2 + o.steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=o.precision == "bf16"):
            y = net(x)
        y.backward(dy)
        torch.nn.utils.clip_grad_norm_(trained, 5)
        optimizer.step()
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    median = statistics.median_high(seconds)
    print(f"PyTorch {torch.__version__}, {o.backbone}, batch {o.batch}, {o.size}x{o.size}x{o.channels}, {o.precision}, "
          f"{torch.get_num_threads()} threads: {o.batch / median:.1f} images/s (median of {o.steps} steps, "
          f"{1e3 * median:.1f} ms; best {o.batch / min(seconds):.1f})")


if __name__ == "__main__":
    main()
