#!/usr/bin/env python3
"""Cairn beside PostgreSQL 15 on the same disk, over TCP, in the same run: what `make bench` runs.

Every figure is a ratio: the machine is noisy, so runs of the two alternate and the median of each is
compared. Cairn runs its default isolation, SERIALIZABLE; PostgreSQL its own, READ COMMITTED.
PostgreSQL has fsync on, shared_buffers of a quarter of the memory (Cairn's cache is as large) and
max_wal_size 4 GB. A failed transaction, or balances that do not agree, fail the benchmark.

Writes DIR/results.json and DIR/results.md; with --nodes 3 the cluster beside PostgreSQL with standbys, and
replicated.json and replicated.md instead. With --smoke it is a short test that all of this runs.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import replicated
from peers import Cairn, Postgres, check_balances, progress

SCRIPTS = {"select-only": "-S", "simple-update": "-N", "tpcb-like": "-b tpcb-like"}


# Workload, protocol and clients for which there is a bound.
BOUNDED = [
    ("select-only", "prepared", 8),
    ("tpcb-like", "simple", 8),
    ("tpcb-like", "prepared", 8),
    ("simple-update", "simple", 1),
    ("simple-update", "prepared", 1),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cairn", required=True, help="the binary, a release build")
    parser.add_argument("--out", default="docs/bench", help="where the results go")
    parser.add_argument("--dir", help="where the two databases live meanwhile (default: a temporary directory)")
    parser.add_argument("--seconds", type=int, default=20, help="of one run of pgbench")
    parser.add_argument("--runs", type=int, default=3, help="of each, interleaved; the median counts")
    parser.add_argument("--scales", default="1,50")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--modes", default="simple,prepared")
    parser.add_argument("--scripts", default=",".join(SCRIPTS))
    parser.add_argument("--copy-rows", type=int, default=1_000_000)
    parser.add_argument("--count-rows", type=int, default=5_000_000)
    parser.add_argument("--bounded", action="store_true", help="only what there is a bound for: see BOUNDED")
    parser.add_argument("--nodes", type=int, choices=[1, replicated.NODES], default=1, help=replicated.__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=50, help="with three nodes")
    parser.add_argument("--smoke", action="store_true", help="seconds only, and nothing is written to --out")
    args = parser.parse_args()
    if args.smoke:
        args.scale = 1
        args.seconds, args.runs, args.scales, args.clients, args.modes = 1, 1, "1", "2", "prepared"
        args.copy_rows, args.count_rows = 20_000, 100_000
    with tempfile.TemporaryDirectory(prefix="cairn-bench-", dir=args.dir) as root:
        os.chmod(root, 0o755)
        if args.nodes > 1:
            results = replicated.measure(args, root)
            return publish(args, "replicated", results, replicated.report(results))
        peers = [Postgres(root), Cairn(root, args.cairn)]
        try:
            for peer in peers:
                peer.start()
            results = measure(args, peers, pathlib.Path(root))
        finally:
            for peer in peers:
                peer.stop()
    publish(args, "results", results, report(args, results))


def publish(args, name, results, text):
    print(text)
    if not args.smoke:
        out = pathlib.Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
        (out / f"{name}.md").write_text(text)


def measure(args, peers, root):
    cairn = peers[1]
    results = {
        "commit": replicated.commit(),
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "seconds": args.seconds,
        "runs": args.runs,
        "first_row_seconds": cairn.first_row,
        "idle_mib": cairn.resident_mib(),
        "pgbench": [],
    }
    results["copy"] = copy(args, peers, root)
    for scale in map(int, args.scales.split(",")):
        for peer in peers:
            begin = time.monotonic()
            subprocess.run(["pgbench", "-i", "-q", "-s", str(scale), *peer.connection()], check=True, capture_output=True)
            progress(f"{peer.name}: pgbench -i -s {scale}: {time.monotonic() - begin:.1f} s")
        for script in args.scripts.split(","):
            for mode in args.modes.split(","):
                for clients in map(int, args.clients.split(",")):
                    if args.bounded and (script, mode, clients) not in BOUNDED:
                        continue
                    results["pgbench"].append(pgbench(args, peers, scale, script, mode, clients))
        for peer in peers:
            check_balances(peer)
    results["count"] = count(args, peers)
    return results


def compared(name, values, less_is_better):
    """Medians of both, and the ratio: above 1 Cairn is better."""
    medians = {peer: statistics.median(found) for peer, found in values.items()}
    ratio = medians["cairn"] / medians["postgres"]
    if less_is_better:
        ratio = 1 / ratio
    progress(f"{name}: {medians} ratio {ratio:.2f}")
    return {"name": name, **medians, "ratio": round(ratio, 3)}


def pgbench(args, peers, scale, script, mode, clients):
    rates = {peer.name: [] for peer in peers}
    for _ in range(args.runs):
        for peer in peers:
            command = ["pgbench", "-n", *SCRIPTS[script].split(), "-M", mode, "-c", str(clients), "-j", str(min(clients, 2))]
            done = subprocess.run([*command, "-T", str(args.seconds), *peer.connection()], capture_output=True, text=True)
            failed = re.search(r"failed transactions: (\d+)", done.stdout)
            rate = re.search(r"tps = ([\d.]+)", done.stdout)
            if done.returncode != 0 or not rate or not failed or failed[1] != "0":
                sys.exit(f"{peer.name}: {command}: {done.stdout}{done.stderr}")
            rates[peer.name].append(float(rate[1]))
    name = f"{script}, scale {scale}, {mode}, {clients} client{'s' if clients > 1 else ''}"
    return compared(name, rates, less_is_better=False)


def copy(args, peers, root):
    rows = root / "rows.tsv"
    with open(rows, "w") as out:
        for i in range(args.copy_rows):
            out.write(f"{i}\t{i * 7919 % 1000003}\t{i / 7:.6f}\tname {i % 977} {'x' * (i % 20)}\n")
    times = {peer.name: [] for peer in peers}
    # Cairn moves intents behind the answer, and the first read of the rows waits for that.
    until_read = {peer.name: [] for peer in peers}
    for run in range(args.runs):
        for peer in peers:
            peer.psql(f"CREATE TABLE copied{run} (id bigint PRIMARY KEY, a int, b double precision, c text)")
            seconds = peer.timed(f"\\copy copied{run} from '{rows}'")
            times[peer.name].append(seconds)
            until_read[peer.name].append(seconds + peer.timed(f"SELECT count(*) FROM copied{run}"))
            if peer.psql(f"SELECT count(*) FROM copied{run}").strip() != str(args.copy_rows):
                sys.exit(f"{peer.name}: COPY lost rows")
            peer.psql(f"DROP TABLE copied{run}")
    what = f"COPY of {args.copy_rows:,} rows"
    return [
        compared(f"{what}, seconds", times, less_is_better=True),
        compared(f"{what} and the first count(*) of them, seconds", until_read, less_is_better=True),
    ]


def count(args, peers):
    """Of pgbench's accounts at the last scale."""
    times = {peer.name: [] for peer in peers}
    query = "SELECT count(*) FROM pgbench_accounts"
    for run in range(args.runs + 1):
        for peer in peers:
            seconds = peer.timed(query)
            if run > 0:
                times[peer.name].append(seconds)
    rows = int(peers[1].psql(query))
    if rows != args.count_rows:
        progress(f"count(*) is over {rows} rows, not {args.count_rows}")
    return compared(f"count(*) of {rows:,} rows, warm, seconds", times, less_is_better=True)


def report(args, results):
    only = ", only what there is a bound for" if args.bounded else ""
    lines = [
        f"# Cairn beside PostgreSQL 15, {results['date']}",
        "",
        f"`make bench` at {results['commit']}: {results['cores']} cores, {args.seconds} s a run, median of {args.runs}, interleaved{only}.",
        "Ratios above 1: Cairn is faster. pgbench: transactions per second; COPY and count(*): seconds.",
        "",
        "| what | PostgreSQL | Cairn | ratio |",
        "|---|---:|---:|---:|",
    ]
    for row in [*results["pgbench"], *results["copy"], results["count"]]:
        digits = 2 if row["postgres"] < 100 else 0
        lines.append(f"| {row['name']} | {row['postgres']:,.{digits}f} | {row['cairn']:,.{digits}f} | {row['ratio']:.2f} |")
    lines += [
        "",
        f"First row after the start of an empty node, psql's own start included: {results['first_row_seconds'] * 1000:.0f} ms.",
        f"Resident after it: {results['idle_mib']:.0f} MiB.",
        "",
    ]
    return "\n".join(lines)


main()
