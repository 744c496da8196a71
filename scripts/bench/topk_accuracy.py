#!/usr/bin/env python3
"""What compressed gradients (comm.compress) cost in accuracy, and what they save: dense against top-k at several ratios, the
same configuration, ranks and seeds, by the first verification set of the configuration.

    scripts/bench/topk_accuracy.py --out runs/topk --results scripts/bench/results/topk    # configs/omniglot.yaml on 4 ranks
    scripts/bench/topk_accuracy.py --out runs/topk --small                                 # minutes: glyphs, to see that it works
    scripts/bench/topk_accuracy.py --out runs/topk --results scripts/bench/results/topk --table    # what there is so far

Each rank is a node of its own (intra_node: none), as if it had a host to itself. A run that has its result is left out; one
that was interrupted resumes from its last epoch. "To dense" compares runs of one seed; bytes are those that rank 0 sends in a
step when the warm-up is over."""
import argparse
import json
import os
import statistics
import subprocess
import sys

from sampling_accuracy import ROOT, lines_of, spread, write_result

SMALL = """\
device: cpu
data: {{train: {data}/train, image_size: 24, channels: 1, augment: none}}
model: {{backbone: {{kind: iresnet, stem: 8, widths: [8, 16], blocks: [1, 1]}}, embedding_size: 32}}
head: {{scale: 16, margin: {{m2: .2}}}}
schedule: {{base_lr: .05, warmup_steps: 5}}
train: {{batch_size: 32, epochs: 3}}
eval: {{sets: [{{name: glyphs, folder: {data}/verify, pairs: {data}/pairs.txt}}]}}
"""


def variants(ratios, warmup, exclude):
    yield "dense", []
    for ratio in ratios:
        yield f"topk {ratio:g}", [f"comm.compress={{method: topk, ratio: {ratio!r}, warmup_epochs: {warmup}, "
                                  f"exclude: {exclude}, intra_node: none}}"]


def run_one(options, name, overrides, seed):
    """The result of a run, which is made where there is none."""
    label = f"{name.replace(' ', '-')}-{seed}"
    stem, result = os.path.join(options.out, label), os.path.join(options.results, label + ".json")
    if os.path.exists(result):
        with open(result) as f:
            return json.load(f)
    if options.table:
        return None
    words = [f"output={stem}", f"seed={seed}", f"ranks={options.ranks}", "checkpoint.every_epochs=1", "checkpoint.keep=1",
             *overrides, *options.overrides]
    command = [os.path.join(options.bin, "plsc-train"), "-c", options.config, *(w for o in words for w in ("-o", o))]
    print(f"{name}, seed {seed}", flush=True)
    with open(stem + ".log", "a") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if status != 0:
        sys.exit(f"{' '.join(command)} ended with {status}; see {stem}.log")
    lines = lines_of(stem)
    steps = [m for m in lines if m["kind"] == "train"]
    last = [m for m in lines if m["kind"] == "eval"][-1]
    found = {"accuracy": 100 * last["accuracy"], "loss": steps[-1]["loss"], "steps": steps[-1]["step"],
             "bytes": steps[-1].get("comm_bytes", 0), "images_per_s": statistics.median(m["images_per_s"] for m in steps)}
    found["overrides"] = overrides + options.overrides
    write_result(result, found)
    return found


def table(results):
    print("| gradients | seeds | accuracy, % | to dense | last loss | KB a step | images/s |\n|---|---|---|---|---|---|---|")
    for name, runs in results.items():
        dense = results["dense"]
        to_dense = [] if name == "dense" else [r["accuracy"] - dense[s]["accuracy"] for s, r in runs.items() if s in dense]
        values = list(runs.values())
        if values:
            print(f"| {name} | {len(values)} | {spread([r['accuracy'] for r in values])} | {spread(to_dense, '+')} | "
                  f"{spread([r['loss'] for r in values])} | {statistics.mean(r['bytes'] for r in values) / 1000:.1f} | "
                  f"{statistics.median(r['images_per_s'] for r in values):.0f} |")


def make_small(options):
    """Glyphs, and a configuration of them."""
    data = os.path.join(options.out, "data")
    if not os.path.exists(os.path.join(data, "pairs.txt")):
        subprocess.run([os.path.join(options.bin, "plsc-data"), "synth", "--output", data, "--classes", "40",
                        "--images-per-class", "8", "--held-out", "10", "--size", "24", "--channels", "1", "--seed", "5"],
                       check=True, stdout=subprocess.DEVNULL)
    path = os.path.join(options.out, "small.yaml")
    with open(path, "w") as f:
        f.write(SMALL.format(data=data))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for runs and results")
    parser.add_argument("--results", metavar="DIR", help="folder of the results, OUT where it is not given")
    parser.add_argument("--config", default=os.path.join(ROOT, "configs/omniglot.yaml"))
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/cpu/bin"), help="folder of plsc-train and plsc-data")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seeds", default=[1, 2, 3], type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--ratios", default=[.01, .001], type=lambda text: [float(r) for r in text.split(",")])
    parser.add_argument("--warmup", type=int, default=4, help="epochs")
    parser.add_argument("--exclude", type=int, default=4096, help="elements below which a tensor is sent whole")
    parser.add_argument("--small", action="store_true", help="on glyphs, three epochs, in OUT/small")
    parser.add_argument("--table", action="store_true", help="runs nothing")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    options = parser.parse_args()
    options.out = os.path.abspath(os.path.join(options.out, "small") if options.small else options.out)
    options.results = options.results or options.out
    for folder in (options.out, options.results):
        os.makedirs(folder, exist_ok=True)
    if options.small:
        options.config, options.warmup, options.exclude = make_small(options), 1, 1000
    chosen = list(variants(options.ratios, options.warmup, options.exclude))
    results = {name: {} for name, _ in chosen}
    for seed in options.seeds:  # outermost: the table grows evenly
        for name, overrides in chosen:
            if (found := run_one(options, name, overrides, seed)) is not None:
                results[name][seed] = found
    table(results)


if __name__ == "__main__":
    main()
