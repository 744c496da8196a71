#!/usr/bin/env python3
"""What sampling classes costs in accuracy, and what it saves: full softmax against uniform and knn at several active
ratios, several seeds each, on two sets:

  omniglot   the background characters of Omniglot and their three rotations, each a class of its own: 3,856 classes
  glyphs     `plsc-data synth`: 20,000 classes

Both are scored on images of the trained classes that were not trained on (top-1) and on pairs of other classes
(verification).

    scripts/bench/sampling_accuracy.py --out runs/sampling --omniglot data/omniglot     # hours: see --small
    scripts/bench/sampling_accuracy.py --out runs/sampling --results scripts/bench/results/sampling --table

DATA of --omniglot has background/ and evaluation/, as for configs/omniglot.yaml. What was interrupted goes on where it was:
a run that has its result is left out, one that was under way resumes from its last epoch; scripts/bench/results/sampling
has the results that were measured so far. CPU ms are of the process's own time, so that other work on the machine does not
count; "to full" compares runs of the same seed."""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

import bit_png

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
TEST_IMAGES = 2  # of each trained class: the last ones

KNN = "rebuild: {every_epochs: .25}"

COMMON = """\
output: {run}
seed: {seed}
device: {device}
data: {{train: {data}/train, image_size: {size}, channels: 1, resize: stretch, augment: none, cache: decoded}}
model: {{backbone: {{kind: resnet, stem: 32, widths: [32, 64, 128], blocks: [1, 1, 1]}}, embedding_size: 128}}
head:
  margin: {{m2: .3}}
  scale: 32
  sampling: {sampling}
schedule: {{name: poly, power: 2, base_lr: {lr}, warmup_epochs: .5}}
train: {{batch_size: {batch}, epochs: {epochs}}}
checkpoint: {{every_epochs: 1, keep: 1}}
eval:
  every_epochs: none
  flip_sum: false
  sets:
    - {{name: known, data: {data}/test, kind: classification}}
    - {{name: other, folder: {verify}, pairs: {pairs}}}
log: {{every_steps: 20}}
"""


class Set:
    """A data set and its recipe. Batches are small beside 1 % of the classes: positives take part in any case."""

    def __init__(self, name, folder, make, **recipe):
        self.name, self.folder, self.make, self.recipe = name, folder, make, recipe
        self.verify, self.pairs = os.path.join(folder, "verify"), os.path.join(folder, "pairs.txt")

    def prepare(self):
        """Makes the folder once; one that was left half made is made again."""
        if os.path.exists(os.path.join(self.folder, "complete")):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        print(f"{self.name}: preparing {self.folder}", flush=True)
        self.make(self.folder)
        open(os.path.join(self.folder, "complete"), "w").close()


def hold_out(folder):
    """The last images of each class of train/ to test/."""
    for name in os.listdir(os.path.join(folder, "train")):
        source, target = os.path.join(folder, "train", name), os.path.join(folder, "test", name)
        os.makedirs(target)
        for image in sorted(os.listdir(source))[-TEST_IMAGES:]:
            os.rename(os.path.join(source, image), os.path.join(target, image))


def make_omniglot(binaries, data, characters, pairs):
    def make(folder):
        background = os.path.join(data, "background")
        for name in sorted(os.listdir(background))[:characters]:
            for image in sorted(os.listdir(os.path.join(background, name))):
                rows = bit_png.read(os.path.join(background, name, image))
                for turn in range(4):
                    target = os.path.join(folder, "train", f"{name}_{90 * turn:03d}")
                    os.makedirs(target, exist_ok=True)
                    bit_png.write(os.path.join(target, image), rows)
                    rows = bit_png.turned(rows)
        hold_out(folder)
        others = os.path.join(folder, "verify")
        os.symlink(os.path.abspath(os.path.join(data, "evaluation")), others)
        subprocess.run([os.path.join(binaries, "plsc-data"), "pairs", "--input", others, "--output",
                        os.path.join(folder, "pairs.txt"), "--count", str(pairs)], check=True)
    return make


def make_glyphs(binaries, classes, others, pairs):
    def make(folder):
        subprocess.run([os.path.join(binaries, "plsc-data"), "synth", "--output", folder, "--classes", str(classes),
                        "--images-per-class", "8", "--held-out", str(others), "--pairs", str(pairs), "--size", "24",
                        "--channels", "1", "--seed", "1"], check=True)
        hold_out(folder)
    return make


def sets_of(options):
    small, data = options.small, os.path.join(options.out, "data")
    epochs, pairs = (2, 2000) if small else (None, 20000)
    chosen = []
    if "omniglot" in options.sets:
        chosen.append(Set("omniglot", os.path.join(data, "omniglot"),
                          make_omniglot(options.bin, options.omniglot, 60 if small else None, pairs),
                          size=32, lr=.05, batch=16, epochs=epochs or 12))
    if "glyphs" in options.sets:
        size = (600, 100) if small else (20000, 1000)
        chosen.append(Set("glyphs", os.path.join(data, "glyphs"), make_glyphs(options.bin, *size, pairs),
                          size=24, lr=.05, batch=32, epochs=epochs or 5))
    return chosen


def samplings(ratios):
    """(name, what the configuration says)"""
    yield "full", "{method: full}"
    for ratio in ratios:
        for method, more in (("uniform", ""), ("knn", f", {KNN}")):
            yield f"{method} {100 * ratio:g} %", f"{{method: {method}, ratio: {ratio}{more}}}"


class Interrupted(Exception):
    pass


def raise_interrupted(*_):
    raise Interrupted


def cpu_seconds(process):
    """That a process has used so far, on all its threads."""
    with open(f"/proc/{process}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def train(command, log, run):
    """Runs it to its end; a signal ends it behind its step, with a checkpoint. Returns the CPU seconds of a step, with
    the graphs and without what comes before the first step and behind the last one; None where it was too short."""
    with open(log, "a") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    seen, told = [], time.monotonic()
    before = last_step(run)
    try:
        while True:
            try:
                status = child.wait(2)
                break
            except subprocess.TimeoutExpired:
                step = last_step(run)
                if step > (seen[-1][0] if seen else before):
                    seen.append((step, cpu_seconds(child.pid)))
                if time.monotonic() - told > 60:
                    told = time.monotonic()
                    print(f"    {os.path.basename(run)}: step {step}", flush=True)
    except Interrupted:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise
    if status != 0:
        sys.exit(f"{' '.join(command)} ended with {status}; see {log}")
    if len(seen) < 2:
        return None
    (first, cpu), (last, cpu_then) = seen[0], seen[-1]
    return (cpu_then - cpu) / (last - first)


def lines_of(run):
    path = os.path.join(run, "metrics.jsonl")
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [json.loads(line) for line in f if line.endswith("}\n")]


def write_result(path, found):
    """In one piece: what is there is whole."""
    with open(path + ".new", "w") as f:
        json.dump(found, f, indent=1)
    os.rename(path + ".new", path)


def read_results(path_of, names, seeds):
    """What there is, by name and seed."""
    return {name: {seed: json.load(open(path_of(name, seed))) for seed in seeds if os.path.exists(path_of(name, seed))}
            for name in names}


def result_of(run, batch):
    lines = lines_of(run)
    steps = [m for m in lines if m["kind"] == "train"]
    evals = {m["set"]: m for m in lines if m["kind"] == "eval"}
    graphs = [m for m in lines if m["kind"] == "graph" and m["event"] == "built"]
    rates = [m["images_per_s"] for m in steps[len(steps) // 2:]]
    return {"top1": 100 * evals["known"]["top1"], "verification": 100 * evals["other"]["accuracy"],
            "auc": evals["other"]["auc"], "tar_at_far": evals["other"]["tar_at_far"],
            "steps": steps[-1]["step"], "loss": steps[-1]["loss"],
            "ms": 1000 * batch / statistics.median(rates),
            "graphs": len(graphs), "graph_seconds": sum(m["seconds"] for m in graphs)}


def last_step(run):
    steps = [m["step"] for m in lines_of(run) if m["kind"] == "train"]
    return steps[-1] if steps else 0


def run_one(options, data, sampling, seed, result):
    name = os.path.splitext(os.path.basename(result))[0]
    run = os.path.join(options.out, "runs", name)
    os.makedirs(os.path.dirname(run), exist_ok=True)
    text = COMMON.format(run=run, seed=seed, device=options.device, data=data.folder, verify=data.verify,
                         pairs=data.pairs, sampling=sampling, **data.recipe)
    config = run + ".yaml"
    with open(config, "w") as f:
        f.write(text)
    watch = time.monotonic()
    cpu = train([os.path.join(options.bin, "plsc-train"), "-c", config] + options.options, run + ".log", run)
    found = result_of(run, data.recipe["batch"])
    found.update(cpu_ms=cpu and 1000 * cpu, seconds=time.monotonic() - watch, config=text.replace(options.out, "OUT"),
                 overrides=options.overrides)
    write_result(result, found)
    shutil.rmtree(os.path.join(run, "checkpoints"), ignore_errors=True)
    return found


def result_path(options, data, name, seed):
    return os.path.join(options.results, f"{data.name}-{name.replace(' %', '').replace(' ', '-')}-{seed}.json")


def run_all(options, sets):
    # Seeds outermost: the table grows evenly.
    missing = [(data, name, sampling, seed) for seed in options.seeds for data in sets
               for name, sampling in samplings(options.ratios)
            if not os.path.exists(result_path(options, data, name, seed))]
    os.makedirs(options.results, exist_ok=True)
    signal.signal(signal.SIGTERM, raise_interrupted)
    signal.signal(signal.SIGINT, raise_interrupted)
    watch = time.monotonic()
    for i, (data, name, sampling, seed) in enumerate(missing):
        data.prepare()
        found = run_one(options, data, sampling, seed, result_path(options, data, name, seed))
        left = (time.monotonic() - watch) / (i + 1) * (len(missing) - i - 1)
        print(f"[{i + 1}/{len(missing)}] {data.name}, {name}, seed {seed}: top-1 {found['top1']:.2f} %, verification "
              f"{found['verification']:.2f} %, {found['ms']:.1f} ms a step; ETA {left / 60:.0f} min", flush=True)


def spread(values, sign=""):
    """"93.12 +- .20": mean and standard deviation over the seeds."""
    if not values:
        return ""
    deviation = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.2f}{deviation}"


def row(name, runs, full):
    """`runs`, `full`: results by seed. Differences are between runs of one seed."""
    cells = [name, str(len(runs))]
    for key in ("top1", "verification"):
        differences = [found[key] - full[seed][key] for seed, found in runs.items() if seed in full]
        cells += [spread([found[key] for found in runs.values()]), spread(differences, "+") if runs is not full else ""]
    for key in ("cpu_ms", "ms", "graph_seconds"):
        values = [found[key] for found in runs.values() if found[key] is not None]
        cells.append(f"{statistics.median(values):.1f}" if values else "")
    return cells


def table(options, sets):
    print("| set | sampling | seeds | top-1, % | to full | verification, % | to full | CPU ms a step | ms a step | "
          "seconds of graphs |\n|---|---|---|---|---|---|---|---|---|---|")
    for data in sets:
        full = {}
        for name, _ in samplings(options.ratios):
            paths = {seed: result_path(options, data, name, seed) for seed in options.seeds}
            runs = {seed: json.load(open(path)) for seed, path in paths.items() if os.path.exists(path)}
            full = runs if name == "full" else full
            if runs:
                print(f"| {data.name} | {' | '.join(row(name, runs, full))} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for data, runs and results")
    parser.add_argument("--results", metavar="DIR", help="folder of the results, OUT/results where it is not given")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/cpu/bin"), help="folder of plsc-train and plsc-data")
    parser.add_argument("--omniglot", default="data/omniglot", metavar="DATA")
    parser.add_argument("--sets", default="omniglot,glyphs", type=lambda text: text.split(","))
    parser.add_argument("--seeds", default=[1, 2, 3], type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--ratios", default=[.1, .05, .01], type=lambda text: [float(r) for r in text.split(",")])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="minutes: few classes, two epochs, in OUT/small")
    parser.add_argument("--table", action="store_true", help="runs nothing")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    options = parser.parse_args()
    options.options = [word for override in options.overrides for word in ("-o", override)]
    options.out = os.path.abspath(os.path.join(options.out, "small") if options.small else options.out)
    options.results = options.results or os.path.join(options.out, "results")
    sets = sets_of(options)
    try:
        if not options.table:
            run_all(options, sets)
    except Interrupted:
        sys.exit("interrupted; the same command goes on from there")
    table(options, sets)


if __name__ == "__main__":
    main()
