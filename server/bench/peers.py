"""The two databases that a benchmark compares, and what it asks of either."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time


def progress(line):
    print(line, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def quarter_of_memory_mib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 >> 20


class Peer:
    """A server that psql and pgbench connect to."""

    def connection(self, database="postgres"):
        # The database goes without -d, by which pgbench 15 understands --debug: it would write every message down.
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", database]

    def psql(self, *commands):
        args = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *self.connection()]
        for command in commands:
            args += ["-c", command]
        done = subprocess.run(args, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{self.name}: {commands}: {done.stderr}")
        return done.stdout

    def timed(self, command):
        """Seconds that psql reports for a command."""
        out = self.psql("\\timing on", command)
        milliseconds = re.search(r"Time: ([\d.]+) ms", out)
        if not milliseconds:
            sys.exit(f"{self.name}: no time in {out!r}")
        return float(milliseconds[1]) / 1000

    def wait_until_ready(self):
        for _ in range(2000):
            probe = subprocess.run(["psql", "-X", *self.connection(), "-A", "-t", "-c", "SELECT 1"], capture_output=True)
            if probe.stdout.strip() == b"1":
                return
            time.sleep(0.02)
        sys.exit(f"{self.name} does not answer")


class Postgres(Peer):
    name = "postgres"

    def __init__(self, root):
        self.data = pathlib.Path(root) / "postgres"
        self.bin = pathlib.Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))
        self.port = free_port()
        self.memory_mib = quarter_of_memory_mib()

    def as_postgres(self, command):
        """PostgreSQL refuses to run as root."""
        return ["runuser", "-u", "postgres", "--", *command] if os.getuid() == 0 else command

    def run(self, *command):
        done = subprocess.run(self.as_postgres([str(c) for c in command]), capture_output=True, text=True, cwd="/")
        if done.returncode != 0:
            sys.exit(f"{command}: {done.stdout}{done.stderr}")

    def make_directory(self):
        self.data.mkdir(mode=0o700)
        if os.getuid() == 0:
            shutil.chown(self.data, "postgres")

    def start(self):
        self.make_directory()
        self.run(self.bin / "initdb", "-D", self.data, "-A", "trust", "-U", "postgres")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = on\n"
                f"shared_buffers = {self.memory_mib}MB\nmax_wal_size = 4GB\n"
            )
        self.run(self.bin / "pg_ctl", "-D", self.data, "-l", self.data / "log", "-w", "start")
        self.wait_until_ready()

    def stop(self):
        if (self.data / "postmaster.pid").exists():
            self.run(self.bin / "pg_ctl", "-D", self.data, "-m", "immediate", "stop")


class Cairn(Peer):
    name = "cairn"

    def __init__(self, root, binary):
        self.store = pathlib.Path(root) / "cairn"
        self.binary = binary
        self.port = free_port()
        self.process = None
        self.first_row = None

    def start(self):
        command = [self.binary, "start", "--store", str(self.store), "--http-addr", "none"]
        command += ["--rpc-addr", "127.0.0.1:0"]
        command += ["--sql-addr", f"127.0.0.1:{self.port}", "--cache-size", f"{quarter_of_memory_mib()}MiB"]
        begin = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.wait_until_ready()
        self.first_row = time.monotonic() - begin

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            if self.process.wait(timeout=120) != 0:
                sys.exit("cairn did not end cleanly")


def check_balances(peer):
    """Every transaction adds the same to an account and the history; TPC-B also to teller and branch."""
    sums = peer.psql(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT coalesce(sum(delta), 0) FROM pgbench_history)",
        "SELECT (SELECT sum(tbalance) FROM pgbench_tellers) - (SELECT sum(bbalance) FROM pgbench_branches)",
    ).split()
    if sums != ["0", "0"]:
        sys.exit(f"{peer.name}: balances do not agree: {sums}")
