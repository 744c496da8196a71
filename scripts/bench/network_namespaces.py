"""One rank on each of two or four hosts that are joined by a switch of a given rate: images/s, and bytes on the wire as the
interfaces count them beside those that `plsc-train plan` predicts. The hosts are network namespaces on this machine, shaped
by tc (tbf) in both directions, so this takes root; nothing is left of them afterwards.

    sudo python3 scripts/bench/network_namespaces.py                                 # 2 hosts, 1 Gbit/s
    sudo python3 scripts/bench/network_namespaces.py --hosts 4 --rate 100mbit --variants dense,exact
    sudo python3 scripts/bench/network_namespaces.py --add "bucket: comm.timeout=60 train.accumulate=2"

Of each variant it makes two runs, one of more steps than the other; what the longer one sent more is that of the steps
between, without what a start and an end send. Bytes are the mean over the hosts, a step. The plan's are of tensors, in so many
messages; on the wire a frame of 1514 bytes, as interfaces count it, holds 1448 of them: 1500 less 20 of IP and 32 of TCP with
time stamps, and 14 of Ethernet besides. Each message has a last frame that is not full, and a header of MPI's. To acknowledge
what came, a frame of 66 bytes goes back for two of those at the most, which is 2.2 % more, and none where tensors go the same
way and carry it: the plan has none. The hosts send a packet a frame (gso_max_segs 1), as cards do: else
counters would see pieces of 64 KiB with one header each.

"Hidden" is of the backbone's gradients, from the run's trace: the part of the time in which a bucket of them was on its way
that no rank stood still for; "hidden of the head" the same of embeddings, sums of the logits and gradients of embeddings. "Not
hidden" is of all communication: the part of all time that ranks stood still for it.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../tests/support"))
import hosts  # noqa: E402

# What a variant changes of CONFIG.
VARIANTS = {
    "dense": [],
    "bf16": ["comm.dtype=bf16"],
    # As after the warm-up; each rank has a host to itself.
    "topk": ["comm.compress={method: topk, ratio: .001, warmup_epochs: 0, intra_node: none}"],
    "pipeline": ["train.pipeline=4"],
    "accumulate": ["train.accumulate=4"],  # the pipeline's micro-batches one after another
    "exact": ["train.deterministic=true", "model.sync_batch_norm=true"],  # gradients in fp64
}

# 11.9 MB of gradients in fp32.
CONFIG = """\
device: cpu
data: {train: synthetic, synthetic: {classes: 10000, images: 100000}, image_size: [32, 32], channels: 3}
model: {backbone: {kind: iresnet, stem: 32, widths: [32, 64, 128, 256], blocks: [1, 1, 2, 2]}, embedding_size: 256}
head: {classes: 10000, sampling: {method: uniform, ratio: .1}}
train: {batch_per_rank: 16, threads: 1}
checkpoint: {every_epochs: none, at_end: false}
log: {every_steps: 1}
"""

MTU = 1500
HEADERS = 20 + 32    # IP; TCP with its time stamps
ETHERNET = 14
PAYLOAD = MTU - HEADERS
MESSAGE = 48         # of MPI: about what Open MPI puts before each


def on_the_wire(tensors, messages):
    """Bytes that an interface counts where so many bytes of tensors are sent, without acknowledgements of their own."""
    frames = tensors / PAYLOAD + messages
    return tensors + messages * MESSAGE + frames * (HEADERS + ETHERNET)


def busy(spans):
    """Seconds in which one of these (begin, end) or more were under way."""
    total, until = 0, -1
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, until))
        until = max(until, end)
    return total


GRADIENTS = ("gradient bucket", "compressed gradients")
HEAD = ("embeddings", "sums of the logits", "largest cosines", "largest logits", "gradient of the embeddings")


def hidden(trace, names):
    """The part of the time on the wire of what is called like that which no rank stood still for, over all ranks of a trace."""
    under_way = exposed = 0
    for rank in {e["pid"] for e in trace}:
        buckets = [e for e in trace if e["pid"] == rank and e["name"].startswith(names) and "bytes" in e["args"]]
        under_way += busy((e["ts"], e["ts"] + e["dur"]) for e in buckets)
        exposed += sum(e["args"]["not hidden, us"] for e in buckets)
    return 1 - exposed / under_way


class Bench:
    """The hosts, and a folder for runs. Ends with `with`."""

    def __init__(self, program, count, rate, overrides=(), config=CONFIG):
        self.program, self.overrides, self.runs = program, list(overrides), 0
        self.cluster = hosts.SwitchedHosts(count, rate)
        self.config = os.path.join(self.cluster.folder, "config.yaml")
        self.cluster.write("config.yaml", config)

    def __enter__(self):
        try:
            self.cluster.start()
        except BaseException:
            self.cluster.stop()
            raise
        return self

    def __exit__(self, *_):
        self.cluster.stop()

    def words(self, overrides):
        return [w for o in [*self.overrides, *overrides] for w in ("-o", o)]

    def run(self, steps, overrides):
        """Bytes that each host sent meanwhile, and the folder of the run."""
        self.runs += 1
        output = os.path.join(self.cluster.folder, f"run{self.runs}")
        before = [h.counters()[1] for h in self.cluster.hosts]
        done = subprocess.run(self.cluster.mpirun(self.program, "-c", self.config, "-o", f"output={output}", *self.words(overrides),
                                                  "-o", f"train.steps={steps}"), env=self.cluster.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.program} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        sent = [h.counters()[1] - b for h, b in zip(self.cluster.hosts, before)]
        return sent, output

    def planned(self, overrides):
        """Bytes that a rank sends a step, and in how many messages, by the plan."""
        done = subprocess.run([self.program, "plan", "-c", self.config, "-o", "output=none", *self.words(overrides), "--json",
                               "--ranks", str(self.cluster.ranks)], stdout=subprocess.PIPE, text=True, check=True)
        plan = json.loads(done.stdout)
        # The plan is of tensors. Beside them each rank sends every other its labels (of 8 bytes), and whether it goes on.
        others = self.cluster.ranks - 1
        return (sum(phase["sent"] for phase in plan["phases"]) + others * 8 * (plan["images"] + 1),
                sum(phase["messages"] for phase in plan["phases"]) + others * 2)

    def measure(self, overrides, warm_up, steps):
        """Of one variant: images/s (the median step's), the bytes a step that were counted, those of the plan as tensors and on
        the wire, how far the count is off that, and what was hidden and what was not."""
        first, _ = self.run(warm_up, overrides)
        trace = os.path.join(self.cluster.folder, f"trace{self.runs}.json")
        both, output = self.run(warm_up + steps, [*overrides, f"log.trace={trace}", f"log.trace_first={warm_up}",
                                                  f"log.trace_steps={steps}"])
        with open(os.path.join(output, "metrics.jsonl")) as f:
            lines = [m for m in map(json.loads, f) if m["kind"] == "train"][warm_up:]
        with open(trace) as f:
            events = [e for e in json.load(f)["traceEvents"] if e["ph"] == "X"]
        counted = statistics.mean(b - f for b, f in zip(both, first)) / steps
        tensors, messages = self.planned(overrides)
        planned = on_the_wire(tensors, messages)
        return dict(rate=statistics.median(m["images_per_s"] for m in lines), counted=counted, tensors=tensors, messages=messages,
                    planned=planned, off=counted / planned - 1, hidden=hidden(events, GRADIENTS),
                    hidden_of_head=hidden(events, HEAD),
                    exposed=statistics.mean(m["comm_exposed"] for m in lines))


def parse_variant(text):
    """"name: key=value key=value" as a variant."""
    name, colon, keys = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"found '{text}', expected \"name: key=value ...\"")
    return name.strip(), keys.split()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(HERE, "../../build/cpu/bin/plsc-train"), help="plsc-train")
    parser.add_argument("--hosts", type=int, choices=(2, 4), default=2)
    parser.add_argument("--rate", default="1gbit", help="of each cable, both ways, as tc has it (default: 1gbit); 0: none")
    parser.add_argument("--variants", default="dense", help="of: " + ", ".join(VARIANTS) + " (default: dense), and those added")
    parser.add_argument("--add", action="append", default=[], type=parse_variant, metavar='"NAME: KEY=VALUE ..."',
                        help="a variant of your own; may be repeated")
    parser.add_argument("--steps", type=int, default=20, help="that are measured (default: 20)")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them (default: 3)")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all variants")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each variant in place of the table")
    options = parser.parse_args()
    variants = {**VARIANTS, **dict(options.add)}
    chosen = options.variants.split(",") + [name for name, _ in options.add]
    unknown = [v for v in chosen if v not in variants]
    if unknown:
        parser.error(f"--variants: found {', '.join(unknown)}, expected some of {', '.join(variants)}")
    if why := hosts.missing(shaped=True):
        sys.exit(f"network_namespaces.py: {why}")
    # Both go through the end of `with`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    rate = "" if options.rate == "0" else options.rate
    failed = False
    with Bench(os.path.abspath(options.program), options.hosts, rate, options.overrides) as bench:
        if not options.json:
            print(f"{options.hosts} hosts, {rate or 'no limit'}, {options.steps} steps\n\n"
                  "| variant | images/s | bytes counted | planned on the wire | of these tensors | off | hidden | hidden of the head | not hidden |\n"
                  "|---|---|---|---|---|---|---|---|---|",
                  flush=True)
        for name in chosen:
            try:
                m = bench.measure(variants[name], options.warm_up, options.steps)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"network_namespaces.py: {name}: {error}", file=sys.stderr)
                failed = True
                continue
            if options.json:
                print(json.dumps({"variant": name, **m}), flush=True)
            else:
                print(f"| {name} | {m['rate']:.1f} | {m['counted']:,.0f} | {m['planned']:,.0f} | {m['tensors']:,.0f} | "
                      f"{m['off']:+.1%} | {m['hidden']:.0%} | {m['hidden_of_head']:.0%} | {m['exposed']:.1%} |", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
