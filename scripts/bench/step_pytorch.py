#!/usr/bin/env python3
"""The work of bench_step in PyTorch: channels-last, autocast, a compiled backbone, and a head as InsightFace's
arcface_torch computes Partial FC: both sides normalised, one linear layer whose logits are kept, the margin, softmax
cross-entropy with its gradient in place, SGD with momentum over everything. Where the head samples, weights, gradient
and momentum stay dense, as there.

    python3 scripts/bench/step_pytorch.py --backbone iresnet50 --batch 128 --precision bf16 --classes 1000,1000000

One JSON line for each number of classes, with the keys of bench_step's; the backbone is compiled once for all of them.
Where arcface_torch spends more than it must, this does not: the margin touches the targets alone, and with 16-bit
precision the head's products are 16-bit, too. `--device cpu` tries the program itself, at small sizes.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tests", "golden")]
from torch_nets import Net  # noqa: E402

WIDE = [64, 128, 256, 512]
IR = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 14, 3], 100: [3, 13, 30, 3], 200: [6, 26, 60, 6]}
RES = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
SCALE, MARGIN = 64.0, 0.5
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_backbone(o):
    common = dict(channels=3, size=(o.image, o.image), embedding=o.embedding_size)
    if o.backbone == "tiny":
        return Net("iresnet", 8, [8, 16], [1, 1], [2, 2], **common)
    if o.backbone.startswith("iresnet"):
        return Net("iresnet", 64, WIDE, IR[int(o.backbone[7:])], [2, 2, 2, 2], **common)
    depth = int(o.backbone[6:])
    return Net("resnet", 64, WIDE, RES[depth], [1, 2, 2, 2], bottleneck=depth >= 50, **common)


class SoftmaxLoss(torch.autograd.Function):
    """Mean cross-entropy whose gradient takes the place of the logits: the least memory that keeps them."""

    @staticmethod
    def forward(ctx, logits, labels):
        logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
        logits.div_(logits.sum(dim=1, keepdim=True))
        ctx.save_for_backward(logits, labels)
        ctx.mark_dirty(logits)
        rows = torch.arange(labels.numel(), device=labels.device)
        return logits, -logits[rows, labels].clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx, _, upstream):
        probabilities, labels = ctx.saved_tensors
        rows = torch.arange(labels.numel(), device=labels.device)
        probabilities[rows, labels] -= 1
        return probabilities.mul_(upstream / labels.numel()), None


class PartialFc(torch.nn.Module):
    def __init__(self, o, classes):
        super().__init__()
        self.sampled = int(o.ratio * classes)
        self.narrow = AUTOCAST.get(o.precision)
        self.kind = o.device
        self.weight = torch.nn.Parameter(torch.normal(0, 0.01, (classes, o.embedding_size), device=o.device))

    def sample(self, labels):
        """The rows that take part, ascending, and the labels as places among them."""
        positive = labels.unique()
        keys = torch.rand(self.weight.shape[0], device=labels.device)
        keys[positive] = 2
        index = keys.topk(max(self.sampled, positive.numel())).indices.sort().values
        return index, torch.searchsorted(index, labels)

    def forward(self, embeddings, labels):
        weight = self.weight
        if self.sampled < weight.shape[0]:
            index, labels = self.sample(labels)
            weight = weight[index]
        with torch.autocast(self.kind, self.narrow or torch.bfloat16, enabled=self.narrow is not None):
            cosine = F.linear(F.normalize(embeddings), F.normalize(weight))
        logits = cosine.float().clamp(-1, 1)
        rows = torch.arange(labels.numel(), device=labels.device)
        with torch.no_grad():
            logits[rows, labels] = torch.cos(torch.acos(logits[rows, labels]) + MARGIN)
        return SoftmaxLoss.apply(logits * SCALE, labels)[1]


class Clock:
    """Marks in the device's order: events on a GPU, the clock on a CPU."""

    def __init__(self, cuda):
        self.cuda, self.marks = cuda, []

    def mark(self, name):
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append((name, event))
        else:
            self.marks.append((name, time.perf_counter()))

    def read(self):
        """(names, seconds since the first mark)"""
        marks, self.marks = self.marks, []
        if not self.cuda:
            return [(name, t - marks[0][1]) for name, t in marks]
        torch.cuda.synchronize()
        return [(name, marks[0][1].elapsed_time(event) / 1e3) for name, event in marks]


def split_steps(marks):
    """As bench_step's: seconds of each step but the last, and the mean seconds of each phase over them."""
    starts = [t for name, t in marks if name == "input"]
    seconds = [b - a for a, b in zip(starts, starts[1:])]
    phases = {}
    for (name, t), (_, end) in zip(marks, marks[1:]):
        if t < starts[-1]:
            phases[name] = phases.get(name, 0) + (end - t) / len(seconds)
    return seconds, phases


class Step:
    def __init__(self, o, backbone, net, classes):
        self.o, self.backbone, self.net = o, backbone, net
        self.cuda = o.device == "cuda"
        self.head = PartialFc(o, classes)
        self.trained = [p for p in net.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD([{"params": self.trained}, {"params": self.head.parameters()}], lr=1e-3,
                                         momentum=0.9, weight_decay=5e-4, fused=True if o.fused_sgd else None)
        self.scaler = torch.amp.GradScaler(o.device, enabled=o.precision == "fp16")
        self.narrow = AUTOCAST.get(o.precision)
        shape = (o.batch, o.image, o.image, 3)
        self.images = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(4)]
        self.labels = [torch.randint(0, classes, (o.batch,)) for _ in range(4)]
        if self.cuda:
            self.images = [t.pin_memory() for t in self.images]
            self.labels = [t.pin_memory() for t in self.labels]

    def run(self, number, clock):
        o = self.o
        clock.mark("input")
        images = self.images[number % 4].to(o.device, non_blocking=True)
        labels = self.labels[number % 4].to(o.device, non_blocking=True)
        # (N, H, W, C) in memory is channels-last of (N, C, H, W).
        x = images.permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)
        clock.mark("backbone forward")
        with torch.autocast(o.device, self.narrow or torch.bfloat16, enabled=self.narrow is not None):
            embeddings = self.backbone(x)
        clock.mark("head forward")
        leaf = embeddings.detach().float().requires_grad_()
        loss = self.head(leaf, labels)
        clock.mark("head backward")
        self.scaler.scale(loss).backward()
        clock.mark("backbone backward")
        embeddings.backward(leaf.grad.to(embeddings.dtype))
        clock.mark("optimizer")
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.trained, 5)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        clock.mark("between steps")
        return loss.detach()


def measure(o, backbone, net, classes):
    if o.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    clock, used = Clock(o.device == "cuda"), 0
    step = Step(o, backbone, net, classes)
    for number in range(o.warmup + o.steps + 1):
        if number == o.warmup:
            clock.read()
        loss = step.run(number, clock)
        if number == 0:
            first_loss = loss.item()
        if o.device == "cuda":
            free, total = torch.cuda.mem_get_info()
            used = max(used, total - free)
    seconds, phases = split_steps(clock.read())
    line = dict(
        bench="step", program=f"PyTorch {torch.__version__}",
        device=torch.cuda.get_device_name() if o.device == "cuda" else "cpu", backbone=o.backbone, image=o.image,
        batch=o.batch, ranks=1, precision=o.precision, classes=classes, embedding=o.embedding_size, ratio=o.ratio,
        compiled=not o.no_compile, steps=o.steps, images_per_s=o.batch / statistics.median_high(seconds),
        images_per_s_lowest=o.batch / max(seconds), images_per_s_highest=o.batch / min(seconds),
        step_ms=1e3 * statistics.median_high(seconds), phases_ms={k: 1e3 * v for k, v in phases.items()},
        device_memory_used=used,
        device_memory_peak=torch.cuda.max_memory_allocated() if o.device == "cuda" else 0,
        device_memory_reserved=torch.cuda.max_memory_reserved() if o.device == "cuda" else 0,
        host_memory_peak=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        first_loss=first_loss, last_loss=loss.item())
    print(json.dumps(line, separators=(",", ":")), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--backbone", default="iresnet50", help="iresnet18.., resnet18.., or tiny")
    parser.add_argument("--image", type=int, default=112)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16", "fp16"], default="bf16")
    parser.add_argument("--classes", default="1000000", help="one number, or several with commas between")
    parser.add_argument("--embedding-size", type=int, default=512)
    parser.add_argument("--ratio", type=float, default=1, help="of the classes that a step samples")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=6)
    parser.add_argument("--no-compile", action="store_true", help="the backbone as it is")
    parser.add_argument("--fused-sgd", action="store_true", help="PyTorch's fused SGD in place of its default")
    o = parser.parse_args()
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = o.precision == "tf32"
    net = make_backbone(o).to(o.device).to(memory_format=torch.channels_last).train()
    backbone = net if o.no_compile else torch.compile(net)
    failed = False
    for classes in map(int, o.classes.split(",")):
        try:
            measure(o, backbone, net, classes)
        except torch._inductor.exc.InductorError as error:
            # A machine without a C compiler, above all: better a rate of the network as it is than none.
            print(f"not compiled: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            backbone, o.no_compile = net, True
            measure(o, backbone, net, classes)
        except torch.OutOfMemoryError as error:
            failed = True
            print(f"{classes} classes: out of memory: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
