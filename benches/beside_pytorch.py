#!/usr/bin/env python3
"""Runs `--example bench` beside PyTorch doing the same work, and prints a Markdown table of ratios.

    python3 benches/beside_pytorch.py                        # all works, three pairs each
    python3 benches/beside_pytorch.py --pairs 5 lstm-2x650   # some of them
    python3 benches/beside_pytorch.py --candle-nn            # candle-nn's layers too

Needs PyTorch for the Python that runs it. The two programs take turns, so that both see the same machine; a ratio is
PyTorch's median step over ours, pair by pair, and the table has the median of these and their range. Above 1 we are that
many times faster. Both use --threads threads. Every run of ours first checks its answer against the reference.
"""
import argparse
import json
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

LM = "lm --vocab 10000 --batch 20"
WORKS = {
    "rnn-1x100": f"{LM} --cell rnn --embed 100 --hidden 100 --time 35 --steps 25",
    "lstm-1x100": f"{LM} --cell lstm --embed 100 --hidden 100 --time 35 --steps 25",
    "lstm-2x200": f"{LM} --cell lstm --embed 200 --hidden 200 --layers 2 --time 20 --steps 25",
    "lstm-2x650": f"{LM} --cell lstm --embed 650 --hidden 650 --layers 2 --time 35 --steps 9",
    "lstm-2x1500": f"{LM} --cell lstm --embed 1500 --hidden 1500 --layers 2 --time 35 --steps 5",
    "gru-2x650": f"{LM} --cell gru --embed 650 --hidden 650 --layers 2 --time 35 --steps 9",
    "lstm-2x650-tied": f"{LM} --cell lstm --embed 650 --hidden 650 --layers 2 --time 35 --steps 9 --tied",
    "lstm-odd": "lm --vocab 33278 --batch 7 --cell lstm --embed 331 --hidden 257 --layers 2 --time 41 --steps 15",
    "layer-rnn-100": "layer --cell rnn --input 100 --hidden 100 --batch 20 --time 35 --steps 101",
    "layer-lstm-100": "layer --cell lstm --input 100 --hidden 100 --batch 20 --time 35 --steps 101",
    "layer-gru-100-n1": "layer --cell gru --input 100 --hidden 100 --batch 1 --time 35 --steps 101",
    "layer-lstm-100-n1": "layer --cell lstm --input 100 --hidden 100 --batch 1 --time 35 --steps 101",
    "layer-lstm-512": "layer --cell lstm --input 512 --hidden 512 --batch 64 --time 128 --steps 7",
    "layer-gru-512": "layer --cell gru --input 512 --hidden 512 --batch 64 --time 128 --steps 7",
    "layer-lstm-512-n1": "layer --cell lstm --input 512 --hidden 512 --batch 1 --time 128 --steps 21",
    "generate-2x650": "generate --vocab 10000 --cell lstm --embed 650 --hidden 650 --layers 2 --batch 1 --tokens 200 --steps 9",
    "generate-1x100": "generate --vocab 10000 --cell lstm --embed 100 --hidden 100 --batch 1 --tokens 200 --steps 15",
}


def main():
    if sys.argv[1:2] == ["worker"]:
        return print(json.dumps(worker(sys.argv[2:])))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--candle-nn", action="store_true")
    args = parser.parse_args()
    unknown = set(args.works) - set(WORKS)
    if unknown:
        parser.error(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    root = Path(__file__).resolve().parent.parent
    subprocess.run(["cargo", "build", "--release", "--example", "bench"], cwd=root, check=True)
    ours = [str(root / "target/release/examples/bench")]
    theirs = [sys.executable, __file__, "worker"]

    import torch

    print(f"PyTorch {torch.__version__}, Python {platform.python_version()}, {cpu()}, {args.threads} threads\n")
    print("| work | ours, ms | PyTorch, ms | ratio | range | memory, MB | of PyTorch's |", end="")
    print(" candle-nn's time over ours |" if args.candle_nn else "")
    print("|---|---|---|---|---|---|---|" + ("---|" if args.candle_nn else ""))
    for name in args.works or WORKS:
        flags = shlex.split(WORKS[name]) + ["--threads", str(args.threads)]
        # candle-nn has no plain RNN, and its model here has no weights that are tied.
        candle = args.candle_nn and "rnn" not in flags and "--tied" not in flags
        runs = []
        for _ in range(args.pairs):
            run = [measure(ours + flags), measure(theirs + flags)]
            if candle:
                few = flags[: flags.index("--steps")] + ["--steps", "3", "--threads", str(args.threads)]
                run.append(measure(ours + few + ["--way", "candle-nn"]))
            runs.append(run)
        row(name, runs, args.candle_nn)


def row(name, runs, candle):
    def middle(i, key):
        return statistics.median(run[i][key] for run in runs)

    def ratios(i):
        return sorted(run[i]["ms"] / run[0]["ms"] for run in runs)

    pairs = ratios(1)
    memory = max(run[0]["peak_rss_mb"] for run in runs)
    share = memory / max(run[1]["peak_rss_mb"] for run in runs)
    cells = [name, f"{middle(0, 'ms'):.2f}", f"{middle(1, 'ms'):.2f}", f"**{statistics.median(pairs):.2f}**"]
    cells += [f"{pairs[0]:.2f} to {pairs[-1]:.2f}", f"{memory:.0f}", f"{share:.2f}"]
    if candle:
        cells.append(f"{statistics.median(ratios(2)):.1f}" if len(runs[0]) > 2 else "")
    print("| " + " | ".join(cells) + " |", flush=True)


def measure(command):
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def worker(argv):
    """The same work by PyTorch: training steps, a layer there and back, or words one at a time."""
    import torch
    from torch import nn

    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    parser.add_argument("--cell")
    defaults = dict(vocab=0, embed=0, input=0, hidden=0, layers=1, batch=0, time=0, tokens=0, steps=9, threads=2, warmup=2)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--tied", action="store_true")
    a = parser.parse_args(argv)
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    cell = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[a.cell]

    if a.work == "layer":
        layer = cell(a.input, a.hidden, a.layers, batch_first=True)
        xs = torch.randn(a.batch, a.time, a.input, requires_grad=True)
        dhs = torch.randn(a.batch, a.time, a.hidden)

        def step():
            layer.zero_grad(set_to_none=True)
            xs.grad = None
            layer(xs)[0].backward(dhs)

    else:
        embedding = nn.Embedding(a.vocab, a.embed)
        layers = cell(a.embed, a.hidden, a.layers, batch_first=True)
        affine = nn.Linear(a.hidden, a.vocab)
        if a.tied:
            affine.weight = embedding.weight
        model = nn.ModuleList([embedding, layers, affine])
        state = None
        if a.work == "lm":
            sgd = torch.optim.SGD(model.parameters(), lr=0.1)
            ids = torch.randint(0, a.vocab, (a.batch, a.time))
            targets = torch.randint(0, a.vocab, (a.batch * a.time,))

            def step():
                nonlocal state
                sgd.zero_grad(set_to_none=True)
                hs, state = layers(embedding(ids), state)
                loss = nn.functional.cross_entropy(affine(hs).flatten(0, 1), targets)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.25)
                sgd.step()
                state = tuple(part.detach() for part in state) if a.cell == "lstm" else state.detach()

        else:
            first = torch.randint(0, a.vocab, (a.batch, 1))

            @torch.inference_mode()
            def step():
                carried, ids = None, first
                for _ in range(a.tokens):
                    hs, carried = layers(embedding(ids), carried)
                    ids = affine(hs).argmax(-1)

    for _ in range(a.warmup):
        step()
    times = []
    for _ in range(a.steps):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return {"ms": statistics.median(times), "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
