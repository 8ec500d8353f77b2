#!/usr/bin/env python3
"""Put, get, degraded get and repair of an eight-node loopback cluster (rs-4-2, TLS and verification on), as whole processes:
MB/s of user bytes, CPU seconds per GB of every process together, beside the ceiling that the primitives add up to, measured
in the same run (bench_primitives). Usage: bench/bench_cluster.py [--build build] [--mib 512] [--rounds 3]"""
import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")


def cpu_of(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            rest = f.read().rsplit(")", 1)[1].split()
        return (int(rest[11]) + int(rest[12])) / TICK
    except OSError:
        return 0.0


class Bench:
    def __init__(self, args):
        self.bin = os.path.join(args.build, "bin")
        if args.dir:
            os.makedirs(args.dir, exist_ok=True)
        self.top = tempfile.mkdtemp(prefix="stele-bench-", dir=args.dir)
        self.dir = os.path.join(self.top, "c")
        os.mkdir(self.dir)

    def stele(self, *argv, out=subprocess.DEVNULL, ok=(0,)):
        start, child = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([os.path.join(self.bin, "stele"), *argv], stdout=out, stderr=subprocess.PIPE)
        assert done.returncode in ok, (argv, done.returncode, done.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.out = done.stdout
        return time.monotonic() - start, after.ru_utime + after.ru_stime - child.ru_utime - child.ru_stime

    def pids(self):
        found = []
        for i in range(1, 9):
            try:
                with open(os.path.join(self.dir, "node%d" % i, "pid")) as f:
                    found.append(int(f.read()))
            except (OSError, ValueError):
                pass
        return found

    def timed(self, *argv, ok=(0,)):
        pids = self.pids()
        before = sum(map(cpu_of, pids))
        wall, cpu = self.stele(*argv, ok=ok)
        return wall, cpu + sum(map(cpu_of, pids)) - before


def middle(values):
    return sorted(values)[len(values) // 2]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", default="build")
    p.add_argument("--mib", type=int, default=512)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--dir", default=None, help="where the disks lie")
    args = p.parse_args()
    prim = json.loads(subprocess.check_output([os.path.join(args.build, "bin", "bench_primitives")]))
    print("primitives, ns of one core per byte: " + ", ".join("%s %.3f" % kv for kv in prim.items()))
    n = args.mib << 20
    b = Bench(args)
    rows = {"put": [], "get": [], "degraded get": [], "repair": []}
    try:
        b.stele("dev", "up", "--dir", b.dir, "--nodes", "8", "--code", "rs-4-2")
        os.environ["STELE_CLUSTER"] = os.path.join(b.dir, "cluster.json")
        rng = random.Random(1)
        for r in range(args.rounds):
            path = os.path.join(b.top, "file")
            with open(path, "wb") as f:
                for _ in range(args.mib):
                    f.write(rng.randbytes(1 << 20))
            ident = subprocess.check_output(["sha256sum", path]).split()[0].decode()
            rows["put"].append((n, *b.timed("put", path)))
            rows["get"].append((n, *b.timed("get", ident)))
            lost = [1 + (2 * r) % 8, 1 + (2 * r + 3) % 8]
            b.stele("dev", "kill", "--dir", b.dir, *map(str, lost))
            rows["degraded get"].append((n, *b.timed("get", ident)))
            pids, before = b.pids(), sum(map(cpu_of, b.pids()))
            wall, cpu = b.stele("repair", "--wait", "--json", out=subprocess.PIPE)
            rebuilt = json.loads(b.out)["bytes"]
            rows["repair"].append((rebuilt, wall, cpu + sum(map(cpu_of, pids)) - before))
            b.stele("dev", "start", "--dir", b.dir, *map(str, lost))
            os.unlink(path)
    finally:
        subprocess.run([os.path.join(b.bin, "stele"), "dev", "down", "--dir", b.dir, "--delete"],
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(b.top, ignore_errors=True)
    # Core-ns per byte: what the bytes must cost, whoever spends it.
    sha, tls, tcp = prim["sha256"], prim["tls"], prim["tcp"]
    rest = prim["crc32c"] * 1.5 + prim["encode"] + prim["memcpy"]
    ceiling = {
        "put": 2.5 * sha + 1.5 * sha + 1.5 * (tls + tcp) + rest,
        "get": 2.0 * sha + tls + tcp + prim["crc32c"] + prim["memcpy"],
        "degraded get": 2.0 * sha + tls + tcp + prim["crc32c"] + prim["memcpy"] + prim["encode"],
        "repair": 5 * sha + 4 * (tls + tcp) + 4 * prim["crc32c"] + prim["encode"],
    }
    cores = os.cpu_count()
    print("%d MiB, %d rounds, %d cores; MB/s and CPU seconds per GB: min / median / max" % (args.mib, args.rounds, cores))
    for name, runs in rows.items():
        rate = sorted(size / wall / 1e6 for size, wall, _ in runs if size)
        cost = sorted(cpu / size * 1e9 for size, _, cpu in runs if size)
        if not rate:
            continue
        top = cores * 1e3 / ceiling[name]
        print("%-13s %7.0f / %7.0f / %7.0f MB/s   %5.2f / %5.2f / %5.2f CPU s per GB   ceiling %5.0f MB/s, %4.2f CPU s per GB; "
              "reached %.2f" % (name, rate[0], middle(rate), rate[-1], cost[0], middle(cost), cost[-1], top,
                                ceiling[name], middle(rate) / top))


if __name__ == "__main__":
    main()
