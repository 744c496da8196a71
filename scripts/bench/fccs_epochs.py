#!/usr/bin/env python3
"""Epochs to the plain schedule's final accuracy, plain against FCCS (a batch that grows, LARS, a rate that is held), on
Omniglot, several seeds:

  plain  SGD with momentum, one batch size, a rate that falls by steps
  fccs   LARS, a warm-up, then the rate is held and the batch grows: train.grow
  short  plain in as many epochs as fccs, its steps moved to the same parts of the run: what a shorter run alone gives

All three have the same network and data, and are evaluated after every epoch: on images of the trained characters that were
not trained on (top-1), and on pairs of other characters (verification). "reached" is the first epoch after which a run has
what the plain run of the same seed has at its end: in top-1, in verification.

    scripts/bench/fccs_epochs.py --out runs/fccs --results scripts/bench/results/fccs --omniglot data/omniglot
    scripts/bench/fccs_epochs.py --out runs/fccs --results scripts/bench/results/fccs --table

DATA of --omniglot has background/ and evaluation/, as for configs/omniglot.yaml. What was interrupted goes on where it was:
a run that has its result is left out, one that was under way resumes from its last epoch."""
import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys

from sampling_accuracy import Interrupted, ROOT, hold_out, lines_of, raise_interrupted, read_results, train, write_result

PLAIN_EPOCHS, FCCS_EPOCHS = 20, 10
FALLS = (.5, .75, .9)  # of the plain run, where its rate is divided by ten

COMMON = """\
output: {run}
seed: {seed}
device: {device}
data: {{train: {data}/train, image_size: 28, channels: 1, resize: stretch, augment: none, cache: decoded}}
model: {{backbone: {{kind: resnet, stem: 16, widths: [16, 32, 64], blocks: [1, 1, 1]}}, embedding_size: 64}}
head: {{margin: {{m2: .3}}, scale: 32}}
{recipe}
checkpoint: {{every_epochs: 1, keep: 1}}
eval:
  every_epochs: 1
  flip_sum: false
  sets:
    - {{name: known, data: {data}/test, kind: classification}}
    - {{name: other, folder: {data}/verify, pairs: {data}/pairs.txt}}
log: {{every_steps: 1}}
"""


def plain(epochs):
    falls = ", ".join(f"{part * epochs:g}" for part in FALLS)
    return (f"optimizer: {{name: sgd, momentum: .9, weight_decay: 5e-4}}\n"
            f"schedule: {{name: step, base_lr: .1, warmup_epochs: 1, milestones: [{falls}]}}\n"
            f"train: {{batch_size: 64, epochs: {epochs}}}")


def fccs(options):
    return (f"optimizer: {{name: lars, momentum: .9, weight_decay: 5e-4, trust: {options.trust}, "
            f"head: {{name: sgd, lr: {options.head_rate}}}}}\n"
            f"schedule: {{name: constant, base_lr: {options.rate}, warmup_epochs: 1}}\n"
            f"train: {{batch_size: {options.batch}, epochs: {FCCS_EPOCHS}, "
            f"grow: {{factor: {options.factor}, from_epoch: {options.grows_from}, until_epoch: {options.until}}}}}")


def arms(options):
    return {"plain": plain(PLAIN_EPOCHS), "fccs": fccs(options), "short": plain(FCCS_EPOCHS)}


def prepare(options):
    """Makes the data's folder once; one that was left half made is made again."""
    folder = os.path.join(options.out, "data")
    if not os.path.exists(os.path.join(folder, "complete")):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(os.path.join(options.omniglot, "background"), os.path.join(folder, "train"))
        hold_out(folder)
        others = os.path.join(folder, "verify")
        os.symlink(os.path.abspath(os.path.join(options.omniglot, "evaluation")), others)
        subprocess.run([os.path.join(options.bin, "plsc-data"), "pairs", "--input", others, "--output",
                        os.path.join(folder, "pairs.txt"), "--count", "3000"], check=True)
        open(os.path.join(folder, "complete"), "w").close()
    return folder


def result_of(run):
    """What the run was after each epoch. A rate is the images of an epoch by its training time, evaluations left out."""
    epochs, images, seconds, found = {}, 0, 0.0, []
    for line in lines_of(run):
        if line["kind"] == "train":
            images += line["batch"]
            seconds += line["batch"] / line["images_per_s"]
            epochs[line["step"]] = (line["epoch"], images, seconds, line["batch"])
        elif line["kind"] == "eval" and line["set"] == "known":
            epoch, seen, spent, batch = epochs[line["step"]]
            found.append({"epoch": round(epoch), "step": line["step"], "images": seen, "seconds": spent, "batch": batch,
                          "top1": 100 * line["top1"]})
        elif line["kind"] == "eval":
            found[-1]["verification"] = 100 * line["accuracy"]
    return {"epochs": found, "images_per_s": images / seconds}


def result_path(options, arm, seed):
    return os.path.join(options.results, f"{arm}-{seed}.json")


def run_one(options, data, arm, recipe, seed):
    run = os.path.join(options.out, "runs", f"{arm}-{seed}")
    os.makedirs(os.path.dirname(run), exist_ok=True)
    text = COMMON.format(run=run, seed=seed, device=options.device, data=data, recipe=recipe)
    with open(run + ".yaml", "w") as f:
        f.write(text)
    train([os.path.join(options.bin, "plsc-train"), "-c", run + ".yaml"] + options.options, run + ".log", run)
    found = {**result_of(run), "config": text.replace(options.out, "OUT"), "overrides": options.overrides}
    write_result(result_path(options, arm, seed), found)
    shutil.rmtree(os.path.join(run, "checkpoints"), ignore_errors=True)
    return found


def run_all(options):
    os.makedirs(options.results, exist_ok=True)
    signal.signal(signal.SIGTERM, raise_interrupted)
    signal.signal(signal.SIGINT, raise_interrupted)
    data = prepare(options)
    for seed in options.seeds:
        for arm, recipe in arms(options).items():
            if arm not in options.arms or os.path.exists(result_path(options, arm, seed)):
                continue
            last = run_one(options, data, arm, recipe, seed)["epochs"][-1]
            print(f"{arm}, seed {seed}: top-1 {last['top1']:.2f} %, verification {last['verification']:.2f} % after "
                  f"{last['epoch']} epochs, {last['seconds']:.0f} s of training", flush=True)


def reached(runs, plain, metric):
    """Of each run that has a plain one, the first epoch after which it has what that has at its end, with what it took;
    None where it never has."""
    goals = {seed: run["epochs"][-1][metric] for seed, run in plain.items()}
    return [next((e for e in run["epochs"] if e[metric] >= goals[seed]), None)
            for seed, run in runs.items() if seed in goals]


def epochs_text(hits):
    return ", ".join(str(hit["epoch"]) if hit else "never" for hit in hits)


def mean(values, form):
    text = format(statistics.mean(values), form)
    return text + (f" +- {statistics.stdev(values):{form}}" if len(values) > 1 else "")


def table(options):
    results = read_results(lambda arm, seed: result_path(options, arm, seed), arms(options), options.seeds)
    print("| | seeds | epochs | updates | final top-1, % | reached after epochs, each seed | seconds until then | final "
          "verification, % | reached after epochs, each seed | images/s |\n|---|---|---|---|---|---|---|---|---|---|")
    for arm, runs in results.items():
        if not runs:
            continue
        last = [r["epochs"][-1] for r in runs.values()]
        top1, verification = (reached(runs, results["plain"], metric) for metric in ("top1", "verification"))
        seconds = [hit["seconds"] for hit in top1 if hit]
        cells = [arm, len(runs), last[0]["epoch"], last[0]["step"], mean([e["top1"] for e in last], ".2f"),
                 epochs_text(top1), mean(seconds, ".0f") if seconds else "",
                 mean([e["verification"] for e in last], ".2f"), epochs_text(verification),
                 mean([r["images_per_s"] for r in runs.values()], ".0f")]
        print("| " + " | ".join(map(str, cells)) + " |")


def make_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for data, runs and results")
    parser.add_argument("--results", metavar="DIR", help="folder of the results, OUT/results where it is not given")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/cpu/bin"), help="folder of plsc-train and plsc-data")
    parser.add_argument("--omniglot", default="data/omniglot", metavar="DATA")
    parser.add_argument("--seeds", default=[1, 2, 3], type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--arms", default=["plain", "fccs", "short"], type=lambda text: text.split(","))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rate", type=float, default=.1, help="of fccs, which is held")
    parser.add_argument("--trust", type=float, default=.03, help="of LARS")
    parser.add_argument("--head-rate", type=float, default=.3, help="of fccs: a factor on the class centres' rate")
    parser.add_argument("--batch", type=int, default=64, help="of fccs: the first one")
    parser.add_argument("--factor", type=int, default=16, help="of fccs: the last batch by the first")
    parser.add_argument("--from", dest="grows_from", type=float, default=5, help="of fccs: the epoch when the batch begins to grow")
    parser.add_argument("--until", type=float, default=8, help="of fccs: the epoch when the batch has grown")
    parser.add_argument("--table", action="store_true", help="runs nothing")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    return parser


def main():
    options = make_parser().parse_args()
    options.options = [word for override in options.overrides for word in ("-o", override)]
    options.out = os.path.abspath(options.out)
    options.results = options.results or os.path.join(options.out, "results")
    try:
        if not options.table:
            run_all(options)
    except Interrupted:
        sys.exit("interrupted; the same command goes on from there")
    table(options)


if __name__ == "__main__":
    main()
