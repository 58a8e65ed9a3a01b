"""Three nodes beside PostgreSQL with two synchronous standbys: what `bench.py --nodes 3` runs.

All six servers share one machine, and a run of pgbench goes to one of the two sides at a time. PostgreSQL commits when
one of its two standbys has the record on disk (`ANY 1 (s1,s2)`), Cairn when two of its three nodes have the entry.
Writes of PostgreSQL go to the primary; those of Cairn to the node with the lease, or spread over all three.
"""

import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

from peers import Cairn, Peer, Postgres, check_balances, free_port, progress, quarter_of_memory_mib

NODES = 3

# Script, clients, whether they are spread over Cairn's nodes, and the ratio wanted.
WORK = [
    ("tpcb-like", 8, False, 1.0),
    ("tpcb-like", 8, True, 0.7),
    ("simple-update", 1, False, 1 / 0.9),
]
SCRIPTS = {"simple-update": "-N", "tpcb-like": "-b tpcb-like"}

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """Of a process, its live descendants and those that it has waited for."""
    stats = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may contain anything.
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        stats[int(path.parent.name)] = (int(fields[1]), sum(map(int, fields[11:13])), sum(map(int, fields[13:15])))
    if pid not in stats:
        sys.exit(f"process {pid} has ended")
    family, ticks = [pid], stats[pid][2]
    for member in family:
        ticks += stats[member][1]
        family += [child for child, (parent, _, _) in stats.items() if parent == member]
    return ticks / TICKS


class Standby(Postgres):
    """Follows a primary."""

    def __init__(self, root, name, primary):
        super().__init__(root)
        self.name, self.primary = name, primary
        self.data = pathlib.Path(root) / name

    def start(self):
        self.make_directory()
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={self.name}"
        self.run(self.bin / "pg_basebackup", "-D", self.data, "-d", source, "-R", "-X", "stream", "-c", "fast")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(f"port = {self.port}\n")
        self.run(self.bin / "pg_ctl", "-D", self.data, "-l", self.data / "log", "-w", "start")
        self.wait_until_ready()


class ReplicatedPostgres(Postgres):
    """A primary that waits for one of two standbys."""

    def __init__(self, root):
        super().__init__(root)
        self.memory_mib = quarter_of_memory_mib() // NODES
        self.standbys = [Standby(root, name, self) for name in ("s1", "s2")]

    def start(self):
        super().start()
        for standby in self.standbys:
            standby.start()
        self.psql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (s1,s2)'", "SELECT pg_reload_conf()")
        for _ in range(500):
            if self.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'").strip() == "2":
                return
            time.sleep(0.02)
        sys.exit("the standbys do not follow")

    def stop(self):
        for server in [*self.standbys, super()]:
            server.stop()

    def endpoints(self, _spread):
        return [self]

    def processes(self):
        servers = [self, *self.standbys]
        return [int((server.data / "postmaster.pid").read_text().split()[0]) for server in servers]


class CairnNode(Cairn):
    """A node of a cluster, which is not awaited by itself."""

    def __init__(self, root, binary, number):
        super().__init__(root, binary)
        self.name = f"cairn {number}"
        self.store = pathlib.Path(root) / f"cairn-{number}"
        self.rpc = f"127.0.0.1:{free_port()}"

    def launch(self, nodes):
        command = [self.binary, "start", "--store", str(self.store), "--http-addr", "none", "--log-level", "warn"]
        command += ["--sql-addr", f"127.0.0.1:{self.port}", "--rpc-addr", self.rpc]
        command += ["--join", ",".join(node.rpc for node in nodes)]
        command += ["--cache-size", f"{quarter_of_memory_mib() // NODES}MiB"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)


class CairnCluster(Peer):
    name = "cairn"

    def __init__(self, root, binary):
        self.binary = binary
        self.nodes = [CairnNode(root, binary, number) for number in range(1, NODES + 1)]

    @property
    def port(self):
        return self.nodes[0].port

    def start(self):
        for node in self.nodes:
            node.launch(self.nodes)
        self.ask("init")
        for node in self.nodes:
            node.wait_until_ready()
        for _ in range(1000):
            if [row["replica"] for row in self.status()] == ["voter"] * NODES:
                return
            time.sleep(0.02)
        sys.exit(f"not all nodes vote: {self.status()}")

    def ask(self, *command):
        done = subprocess.run([self.binary, *command, "--host", self.nodes[0].rpc], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"cairn {command}: {done.stderr}")
        return done.stdout

    def status(self):
        rows = [re.split(r"\s{2,}", line.strip()) for line in self.ask("node", "status").splitlines()]
        return [dict(zip(rows[0], row)) for row in rows[1:]]

    def stop(self):
        for node in self.nodes:
            if node.process:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            if node.process and node.process.wait(timeout=120) != 0:
                sys.exit(f"{node.name} did not end cleanly")

    def leader_first(self):
        holder = [row["address"] for row in self.status() if row["lease"] == "yes"]
        if len(holder) != 1:
            sys.exit(f"who has the lease? {self.status()}")
        return sorted(self.nodes, key=lambda node: node.rpc != holder[0])

    def endpoints(self, spread):
        return self.leader_first()[: NODES if spread else 1]

    def processes(self):
        return [node.process.pid for node in self.leader_first()]


def measure(args, root):
    peers = [ReplicatedPostgres(root), CairnCluster(root, args.cairn)]
    results = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "pgbench": []}
    results |= {"seconds": args.seconds, "runs": args.runs, "scale": args.scale}
    try:
        for peer in peers:
            peer.start()
        results["idle"] = {peer.name: idle(peer, 2 if args.smoke else 20) for peer in peers}
        for peer in peers:
            begin = time.monotonic()
            init = ["pgbench", "-i", "-q", "-s", str(args.scale), *peer.endpoints(False)[0].connection()]
            subprocess.run(init, check=True, capture_output=True)
            progress(f"{peer.name}: pgbench -i -s {args.scale}: {time.monotonic() - begin:.1f} s")
        for script, clients, spread, wanted in WORK:
            for mode in args.modes.split(","):
                results["pgbench"].append(pgbench(args, peers, script, mode, clients, spread, wanted))
        for peer in peers:
            check_balances(peer)
    finally:
        for peer in peers:
            peer.stop()
    return results


def commit():
    return subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()


def idle(peer, seconds):
    """Share of a core that all nodes together take while nobody asks anything."""
    before = [cpu_seconds(pid) for pid in peer.processes()]
    time.sleep(seconds)
    after = [cpu_seconds(pid) for pid in peer.processes()]
    share = (sum(after) - sum(before)) / seconds
    progress(f"{peer.name}: {share:.1%} of a core while idle")
    return share


def pgbench(args, peers, script, mode, clients, spread, wanted):
    rates = {peer.name: [] for peer in peers}
    cpu = {peer.name: [] for peer in peers}
    for _ in range(args.runs):
        for peer in peers:
            pids = peer.processes()
            before = [cpu_seconds(pid) for pid in pids]
            rate, count = run(args, peer, script, mode, clients, spread)
            used = [cpu_seconds(pid) - was for pid, was in zip(pids, before)]
            rates[peer.name].append(rate)
            # The leader, and one follower on average.
            cpu[peer.name].append((used[0] / count * 1e6, sum(used[1:]) / (NODES - 1) / count * 1e6))
    where = "spread over the nodes" if spread else "at the leader"
    name = f"{script}, {mode}, {clients} client{'s' if clients > 1 else ''} {where}"
    result = {"name": name, "wanted": wanted}
    for peer in peers:
        result[peer.name] = statistics.median(rates[peer.name])
        result[f"{peer.name}_cpu"] = [statistics.median(part) for part in zip(*cpu[peer.name])]
    result["ratio"] = round(result["cairn"] / result["postgres"], 3)
    progress(f"{result}")
    return result


def run(args, peer, script, mode, clients, spread):
    """Transactions per second, and transactions, of as many pgbench as there are nodes to go to."""
    endpoints = peer.endpoints(spread)
    running = []
    for turn, endpoint in enumerate(endpoints):
        share = clients // len(endpoints) + (turn < clients % len(endpoints))
        command = ["pgbench", "-n", *SCRIPTS[script].split(), "-M", mode, "-c", str(share), "-j", str(min(share, 2))]
        command += ["-T", str(args.seconds), *endpoint.connection()]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    rate = count = 0
    for process in running:
        out, errors = process.communicate()
        found = [re.search(f"{what} ?[:=] ?([\\d.]+)", out) for what in ("failed transactions", "tps", "processed")]
        if process.returncode != 0 or None in found or found[0][1] != "0":
            sys.exit(f"{peer.name}: {process.args}: {out}{errors}")
        rate += float(found[1][1])
        count += int(found[2][1])
    return rate, count


def report(results):
    lines = [
        f"# Three nodes beside PostgreSQL 15 with two synchronous standbys, {results['date']}",
        "",
        f"`make bench BENCH='--nodes 3'` at {results['commit']}: all six servers on {results['cores']} cores, scale "
        f"{results['scale']}, {results['seconds']} s a run, median of {results['runs']}, interleaved.",
        "Transactions per second; ratios above 1: Cairn is faster. CPU in µs a transaction: leader / follower.",
        "",
        "| what | PostgreSQL | Cairn | ratio | wanted | CPU, PostgreSQL | CPU, Cairn |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in results["pgbench"]:
        cpu = [" / ".join(f"{part:,.0f}" for part in row[f"{name}_cpu"]) for name in ("postgres", "cairn")]
        rates = f"{row['postgres']:,.0f} | {row['cairn']:,.0f} | {row['ratio']:.2f} | {row['wanted']:.2f}"
        lines.append(f"| {row['name']} | {rates} | {cpu[0]} | {cpu[1]} |")
    shares = ", ".join(f"{name} {share:.1%}" for name, share in results["idle"].items())
    lines += ["", f"Idle, all three servers together, of one core: {shares}.", ""]
    return "\n".join(lines)
