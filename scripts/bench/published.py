"""What `plsc-train plan` predicts for runs whose rates others have published, beside those rates; and a sweep over
GPUs and networks. Runs nothing but plans: seconds, on any machine. Prints Markdown, as it stands in published.md.

    python3 scripts/bench/published.py            # the published points
    python3 scripts/bench/published.py --sweep    # 8 to 512 GPUs
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

CONFIG = """\
output: none
device: cuda
data: {{train: synthetic, image_size: [{size}, {size}], channels: 3}}
model: {{backbone: {backbone}, embedding_size: 512}}
head: {{classes: {classes}, sampling: {sampling}}}
train: {{batch_per_rank: {batch}, precision: {precision}}}
"""
FULL, TENTH, FIFTH = "{method: full}", "{method: uniform, ratio: .1}", "{method: uniform, ratio: .2}"
GPUS_PER_NODE = 8

SPEED = "InsightFace, speed table"
GLINT = "InsightFace, MXNet"
TORCH = "InsightFace, PyTorch 2021"
WF42M = "InsightFace, WebFace42M"
CHART = "PLSC 2.2, chart"
ONEFLOW = "OneFlow's benchmark of PLSC 1.x"
ALIBABA = "Song et al. 2020"


def point(source, gpu, ranks, rate, classes, sampling=FULL, backbone="iresnet50", batch=128, precision="fp16", size=112,
          network=100, assumed=""):
    """A published run. `rate`: images/s of all GPUs; `network`: Gbit/s of a node; `assumed`: what the source does not say."""
    return dict(locals())


# The points that the parts in src/app/plan/gpus.cpp are set by: one for each GPU.
CALIBRATION = [point(SPEED, "V100", 8, 5004, 125000, TENTH), point(CHART, "A100", 8, 10800, 93431, TENTH)]

POINTS = [
    *[CALIBRATION[0] if n == 125000 else point(SPEED, "V100", 8, rate, n, TENTH)
      for n, rate in ((125000, 5004), (250000, 4976), (500000, 4900), (1000000, 4803), (1400000, 4738), (2000000, 4626),
                      (4000000, 4208), (5500000, 3975), (8000000, 3565), (16000000, 2679), (29000000, 1855))],
    *[point(SPEED, "V100", 8, rate, n)
      for n, rate in ((125000, 4824), (250000, 4521), (500000, 4013), (1000000, 3449), (1400000, 3043), (2000000, 2593),
                      (4000000, 1748), (5500000, 1389))],
    *[point(GLINT, "V100", 8, rate, 360232, backbone=net, precision=precision, assumed="full softmax")
      for net, precision, rate in (("iresnet50", "fp16", 6112), ("iresnet100", "fp16", 3867), ("iresnet50", "fp32", 3045),
                                   ("iresnet100", "fp32", 1847))],
    *[point(TORCH, "V100", 8, rate, 85742, backbone=net, precision=precision)
      for net, precision, rate in (("iresnet50", "fp16", 5102), ("iresnet100", "fp16", 3337), ("iresnet50", "fp32", 2833),
                                   ("iresnet100", "fp32", 1800))],
    *[point(WF42M, "V100", ranks, rate, 2059906, FIFTH, net, batch, assumed="GPU, network")
      for net, batch, ranks, rate in (("iresnet50", 512, 8, 5900), ("iresnet50", 512, 16, 11000),
                                      ("iresnet50", 128, 32, 17000), ("iresnet100", 256, 16, 5200),
                                      ("iresnet100", 128, 32, 9800))],
    *[point(CHART, "V100", ranks, rate, 93431, TENTH, net, precision=precision, assumed="network" if ranks > 8 else "")
      for net, precision, ranks, rate in (("iresnet50", "fp16", 8, 6500), ("iresnet50", "fp16", 16, 13200),
                                          ("iresnet100", "fp16", 8, 3900), ("iresnet100", "fp16", 16, 7700),
                                          ("iresnet50", "fp32", 8, 3150))],
    CALIBRATION[1],
    *[point(CHART, "A100", ranks, rate, 93431, TENTH, net, precision=precision,
            assumed="network" if ranks > 8 else "TF32" if precision == "tf32" else "")
      for net, precision, ranks, rate in (("iresnet50", "fp16", 16, 21100), ("iresnet100", "fp16", 8, 6650),
                                          ("iresnet100", "fp16", 16, 12800), ("iresnet50", "tf32", 8, 5700))],
    *[point(ONEFLOW, "V100", ranks, rate, 85742, backbone="plsc_resnet50", precision="fp32")
      for ranks, rate in ((1, 397.8), (4, 1539.7), (8, 2545.3), (16, 5953.8), (32, 11084.5))],
    point(ALIBABA, "V100", 256, 51800, 100000000, "{method: knn, ratio: .1}", "resnet50", size=224, network=25,
          assumed="network of 8 GPUs, 128 images a GPU of 224 x 224, fp16"),
]

SWEEP = dict(gpus=("V100", "A100", "H200"), networks=(25, 100, 400), ranks=(8, 16, 32, 64, 128, 256, 512),
             point=point("", "", 8, 0, 10000000, TENTH))


class Planner:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def plan(self, p, gpu, network, *more):
        """The parsed JSON. A plan that does not fit is one, too."""
        path = os.path.join(self.folder, "plan.yaml")
        with open(path, "w") as f:
            f.write(CONFIG.format(**p))
        done = subprocess.run([self.program, "plan", "-c", path, "--gpu", gpu, "--network-gbps", str(network),
                               "--gpus-per-node", str(GPUS_PER_NODE), "--json", *more], stdout=subprocess.PIPE, text=True)
        if done.returncode not in (0, 1) or not done.stdout:
            raise SystemExit(f"published.py: {self.program} plan ended with {done.returncode} for {p}")
        return json.loads(done.stdout)


def error(predicted, published):
    return predicted / published - 1


def describe(p):
    ratio = {FULL: "full", TENTH: "10 %", FIFTH: "20 %"}.get(p["sampling"], "knn 10 %")
    classes = f"{p['classes']:,}"
    return f"{p['backbone']}, {p['precision']}, {p['batch']} images a GPU, {classes} classes, {ratio}"


def predictions(planner):
    """(point, images/s, part of the step that waits for other ranks) of each."""
    for p in POINTS:
        plan = planner.plan(p, p["gpu"], p["network"], "--ranks", str(p["ranks"]))
        yield p, plan["images_per_second"], plan["exposed_seconds"] / plan["step_seconds"]


def print_points(planner):
    print("| source | GPUs | configuration | published images/s | predicted | error | waits | assumed |\n"
          "|---|---|---|---|---|---|---|---|")
    errors = {}
    for p, rate, exposed in predictions(planner):
        off = error(rate, p["rate"])
        mark = "set by it" if p in CALIBRATION else f"{off:+.0%}"
        if p not in CALIBRATION:
            errors.setdefault(p["gpu"], []).append(abs(off))
        print(f"| {p['source']} | {p['ranks']} {p['gpu']} | {describe(p)} | {p['rate']:,} | {rate:,.0f} | {mark} | {exposed:.0%} "
              f"| {p['assumed']} |")
    for gpu, found in errors.items():
        print(f"\n{gpu}: of {len(found)} points beside the one that it is set by the error is {statistics.median(found):.0%} in the "
              f"median, {max(found):.0%} at the most.")


def print_sweep(planner):
    ranks = SWEEP["ranks"]
    print("| GPU | Gbit/s a node |" + "".join(f" {r} |" for r in ranks) + "\n|---|---|" + "---|" * len(ranks))
    for gpu in SWEEP["gpus"]:
        for network in SWEEP["networks"]:
            rows = planner.plan(SWEEP["point"], gpu, network, "--sweep", "ranks=" + ",".join(map(str, ranks)))
            cells = [f" {r['images_per_second']:,.0f} ({r['exposed_seconds'] / r['step_seconds']:.0%}) |" for r in rows]
            print(f"| {gpu} | {network} |" + "".join(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(HERE, "../../build/cpu/bin/plsc-train"), help="plsc-train")
    parser.add_argument("--sweep", action="store_true", help="8 to 512 GPUs of each kind on each network instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (print_sweep if options.sweep else print_points)(Planner(options.program, folder))


if __name__ == "__main__":
    main()
