"""What each part of a system for very many classes brings, one after another, on four ranks over a shaped link (after the
table of Song et al., KDD 2020: 3.9 times the throughput and 8 epochs for 20 with all of them):

  baseline   full softmax, gradients that wait for the end of the backward pass, dense and in fp32, the plain schedule
  + knn      the class centres nearest to the batch's alone: head.sampling
  + overlap  gradients in buckets while the pass goes on, and a pipeline of micro-batches: comm.bucket, train.pipeline
  + top-k    a thousandth of the gradients: comm.compress
  + fccs     a rate that is held and a batch that grows, half as many epochs: train.grow and LARS

    sudo python3 scripts/bench/whole_system.py --out runs/system --results scripts/bench/results/system --omniglot data/omniglot
    python3 scripts/bench/whole_system.py --out runs/system --results scripts/bench/results/system --table

Data, network and schedules are those of fccs_epochs.py, and "reached" is meant as there: the first epoch after which a run has
what the baseline of the same seed has at its end, of top-1 and of verification. Hosts and the counting of bytes are those of network_namespaces.py: each
rank is a namespace of its own, so this takes root. Bytes are of the interfaces, a step and a rank, evaluations and
checkpoints among them. A run that has its result is left out; one that was interrupted starts again."""
import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys

import fccs_epochs
from fccs_epochs import COMMON, PLAIN_EPOCHS, epochs_text, mean, reached, result_of
from network_namespaces import hosts
from sampling_accuracy import ROOT, read_results, write_result

# One bucket: its sum starts when the backward pass has ended.
WAITS = ["comm.bucket=1GiB"]
KNN = ["head.sampling={method: knn, ratio: .1, rebuild: {every_epochs: 1}}"]
PIPELINE = ["train.pipeline=2"]
TOP_K = ["comm.compress={method: topk, ratio: .001}"]
ARMS = {
    "baseline": (False, WAITS),
    "+ knn": (False, WAITS + KNN),
    "+ overlap": (False, KNN + PIPELINE),
    "+ top-k": (False, KNN + PIPELINE + TOP_K),
    "+ fccs": (True, KNN + PIPELINE + TOP_K),
}


def recipe(grows):
    # What fccs_epochs.py takes where nothing is said.
    return fccs_epochs.fccs(fccs_epochs.make_parser().parse_args(["--out", "none"])) if grows else fccs_epochs.plain(PLAIN_EPOCHS)


def result_path(options, arm, seed):
    return os.path.join(options.results, f"{arm.replace('+ ', '')}-{seed}.json")


def run_one(options, cluster, arm, seed):
    grows, overrides = ARMS[arm]
    name = os.path.splitext(os.path.basename(result_path(options, arm, seed)))[0]
    run = os.path.join(options.out, "runs", name)
    shutil.rmtree(run, ignore_errors=True)
    os.makedirs(os.path.dirname(run), exist_ok=True)
    text = COMMON.format(run=run, seed=seed, device="cpu", data=options.data, recipe=recipe(grows))
    with open(run + ".yaml", "w") as f:
        f.write(text)
    words = [w for o in ["train.threads=1", *overrides, *options.overrides] for w in ("-o", o)]
    before = [h.counters()[1] for h in cluster.hosts]
    with open(run + ".log", "w") as log:
        done = subprocess.run(cluster.mpirun(os.path.join(options.bin, "plsc-train"), "-c", run + ".yaml", *words),
                              env=cluster.env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{arm}, seed {seed}: ended with {done.returncode}; see {run}.log")
    sent = [h.counters()[1] - b for h, b in zip(cluster.hosts, before)]
    found = result_of(run)
    found.update(bytes_a_step=statistics.mean(sent) / found["epochs"][-1]["step"], rate=options.rate,
                 config=text.replace(options.out, "OUT"), overrides=overrides + options.overrides)
    write_result(result_path(options, arm, seed), found)
    shutil.rmtree(os.path.join(run, "checkpoints"), ignore_errors=True)
    return found


def run_all(options):
    if why := hosts.missing(shaped=True):
        sys.exit(f"whole_system.py: {why}")
    os.makedirs(options.results, exist_ok=True)
    options.data = fccs_epochs.prepare(options)
    missing = [(arm, seed) for seed in options.seeds for arm in options.arms
               if not os.path.exists(result_path(options, arm, seed))]
    if not missing:
        return
    cluster = hosts.SwitchedHosts(4, options.rate)
    try:
        cluster.start()
        for i, (arm, seed) in enumerate(missing):
            found = run_one(options, cluster, arm, seed)
            last = found["epochs"][-1]
            print(f"[{i + 1}/{len(missing)}] {arm}, seed {seed}: top-1 {last['top1']:.2f} % after {last['epoch']} epochs, "
                  f"{found['images_per_s']:.0f} images/s, {found['bytes_a_step']:,.0f} bytes a step", flush=True)
    finally:
        cluster.stop()


def table(options):
    results = read_results(lambda arm, seed: result_path(options, arm, seed), ARMS, options.seeds)
    base = results["baseline"]
    print("| | seeds | images/s | to baseline | bytes a step and rank | epochs | final top-1, % | reached after epochs, each seed "
          "| final verification, % | reached after epochs, each seed | seconds until then |\n|---|---|---|---|---|---|---|---|---|"
          "---|---|")
    for arm, runs in results.items():
        if not runs:
            continue
        last = [r["epochs"][-1] for r in runs.values()]
        ratios = [r["images_per_s"] / base[seed]["images_per_s"] for seed, r in runs.items() if seed in base]
        top1, verification = (reached(runs, base, metric) for metric in ("top1", "verification"))
        seconds = [hit["seconds"] for hit in verification if hit]
        cells = [arm, len(runs), mean([r["images_per_s"] for r in runs.values()], ".0f"), mean(ratios, ".2f") if ratios else "",
                 f"{statistics.mean(r['bytes_a_step'] for r in runs.values()):,.0f}", last[0]["epoch"],
                 mean([e["top1"] for e in last], ".2f"), epochs_text(top1), mean([e["verification"] for e in last], ".2f"),
                 epochs_text(verification), mean(seconds, ".0f") if seconds else ""]
        print("| " + " | ".join(map(str, cells)) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for data, runs and results")
    parser.add_argument("--results", metavar="DIR", help="folder of the results, OUT/results where it is not given")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/cpu/bin"), help="folder of plsc-train and plsc-data")
    parser.add_argument("--omniglot", default="data/omniglot", metavar="DATA")
    parser.add_argument("--rate", default="1gbit", help="of each cable, both ways, as tc has it (default: 1gbit)")
    parser.add_argument("--seeds", default=[1, 2, 3], type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--arms", default=list(ARMS), type=lambda text: text.split(","),
                        help="of: " + ", ".join(ARMS) + " (default: all)")
    parser.add_argument("--table", action="store_true", help="runs nothing")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    options = parser.parse_args()
    if unknown := [a for a in options.arms if a not in ARMS]:
        parser.error(f"--arms: found {', '.join(unknown)}, expected some of {', '.join(ARMS)}")
    options.out = os.path.abspath(options.out)
    options.results = options.results or os.path.join(options.out, "results")
    # Both go through the end of the hosts.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    if not options.table:
        run_all(options)
    table(options)


if __name__ == "__main__":
    main()
