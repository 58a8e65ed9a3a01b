#!/usr/bin/env python3
"""Fills in the expected results of the scripts in this folder from a PostgreSQL 15.

Usage: PGHOST=… PGPORT=… PGUSER=… ./regenerate.py [script …]

A script is a list of blocks: an expression, a line `----`, its text as PostgreSQL prints it (`NULL`
for NULL), or `ERROR <SQLSTATE>: <message>`. An expression without a result is given one; existing
results are replaced. Read the difference before committing it.
"""
import pathlib
import re
import subprocess
import sys

SETUP = "SET timezone = 'America/New_York'; SET datestyle = 'ISO, MDY'; SET client_min_messages = error;"


def expressions(text):
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.split("\n")
        comments = [line for line in lines if line.startswith("#")]
        rest = [line for line in lines if not line.startswith("#")]
        # A new script may list expressions, one a line, without results.
        if "----" in rest:
            yield comments, rest[0]
        else:
            for i, line in enumerate(rest):
                yield (comments if i == 0 else []), line
            if not rest:
                yield comments, None


def run(all_expressions):
    script = ["\\set QUIET on", "\\set VERBOSITY verbose", "\\pset null NULL", SETUP]
    for expression in all_expressions:
        script += ["\\echo =====", f"SELECT {expression};"]
    out = subprocess.run(
        ["psql", "-X", "-At", "-d", "postgres"], input="\n".join(script) + "\n",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    results = []
    for part in out.split("=====\n")[1:]:
        error = re.search(r"ERROR:  (\w{5}): (.*)", part)
        results.append(f"ERROR {error[1]}: {error[2]}" if error else part.rstrip("\n"))
    return results


def main():
    here = pathlib.Path(__file__).parent
    for path in [pathlib.Path(p) for p in sys.argv[1:]] or sorted(here.glob("*.slt")):
        blocks = list(expressions(path.read_text()))
        results = iter(run([e for _, e in blocks if e]))
        out = []
        for comments, expression in blocks:
            lines = list(comments)
            if expression:
                lines += [expression, "----", next(results)]
            out.append("\n".join(lines))
        path.write_text("\n\n".join(out) + "\n")


if __name__ == "__main__":
    main()
