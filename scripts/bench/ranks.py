"""Images/s of 1, 2 and 4 ranks of one machine, which share its cores: what an exchange between ranks costs beside the
computation, by way of communicating (the variants of network_namespaces.py). Each rank has the same number of images, so with
as many cores as ranks the rate would grow with them; with fewer it stays, less what the ranks do for one another.

    python3 scripts/bench/ranks.py
    python3 scripts/bench/ranks.py --ranks 1,2 --variants dense,bf16 --rounds 5 -o train.batch_per_rank=64

Rounds go through all runs in turn, so that other work on the machine meets all of them. "To one rank" is of the same round and
variant. Bytes are those that rank 0 sent a step by its own count (comm_bytes); "not hidden" is the part of its time in which
it stood still for others."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from network_namespaces import CONFIG, HERE, VARIANTS, parse_variant


def run(options, folder, ranks, overrides):
    output = os.path.join(folder, "run")
    words = [w for o in [f"output={output}", f"ranks={ranks}", f"train.steps={options.warm_up + options.steps}",
                         *options.overrides, *overrides] for w in ("-o", o)]
    subprocess.run(["rm", "-rf", output], check=True)
    done = subprocess.run([options.program, "-c", os.path.join(folder, "config.yaml"), *words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"ranks.py: {options.program} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    with open(os.path.join(output, "metrics.jsonl")) as f:
        lines = [m for m in map(json.loads, f) if m["kind"] == "train"][options.warm_up:]
    return {key: statistics.median(m.get(key, 0) for m in lines) for key in ("images_per_s", "comm_bytes", "comm_exposed")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(HERE, "../../build/cpu/bin/plsc-train"), help="plsc-train")
    parser.add_argument("--ranks", default=[1, 2, 4], type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--variants", default="dense", help="of: " + ", ".join(VARIANTS) + " (default: dense), and those added")
    parser.add_argument("--add", action="append", default=[], type=parse_variant, metavar='"NAME: KEY=VALUE ..."',
                        help="a variant of your own; may be repeated")
    parser.add_argument("--steps", type=int, default=20, help="that are measured (default: 20)")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them (default: 3)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all variants")
    options = parser.parse_args()
    variants = {**VARIANTS, **dict(options.add)}
    chosen = options.variants.split(",") + [name for name, _ in options.add]
    if unknown := [v for v in chosen if v not in variants]:
        parser.error(f"--variants: found {', '.join(unknown)}, expected some of {', '.join(variants)}")
    found = {(name, ranks): [] for name in chosen for ranks in options.ranks}
    with tempfile.TemporaryDirectory(prefix="plsc-ranks-") as folder:
        with open(os.path.join(folder, "config.yaml"), "w") as f:
            f.write(CONFIG)
        for _ in range(options.rounds):
            for (name, ranks), results in found.items():
                results.append(run(options, folder, ranks, variants[name]))
    print("| variant | ranks | images/s | to one rank | bytes a step | not hidden |\n|---|---|---|---|---|---|")
    for (name, ranks), results in found.items():
        rate, sent, exposed = (statistics.median(r[key] for r in results) for key in ("images_per_s", "comm_bytes", "comm_exposed"))
        alone = found.get((name, 1))
        ratio = statistics.median(r["images_per_s"] / a["images_per_s"] for r, a in zip(results, alone)) if alone else None
        print(f"| {name} | {ranks} | {rate:.1f} | {ratio:.2f} | {sent:,.0f} | {exposed:.1%} |" if ratio else
              f"| {name} | {ranks} | {rate:.1f} | | {sent:,.0f} | {exposed:.1%} |")


if __name__ == "__main__":
    main()
