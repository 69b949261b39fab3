"""Fuzzing under atheris: ``python -m tests.fuzz [TARGET ...] [--runs N]``; without a target, all of them.

An input that fails is kept in the folder ``--artifacts``; give it to the target again with ``--input FILE``. atheris
measures which lines of harstream an input reaches, and mutates those that reach new ones.
"""

from __future__ import annotations

import argparse
import logging
import random
import subprocess
import sys
import tempfile
from pathlib import Path

#: Longest input in bytes, and seconds after which one input counts as a hang.
MAX_BYTES, TIMEOUT_S = 8192, 30
#: Executions in one process, of a target with share 1. atheris itself keeps some memory for each, up to 50 kB.
PROCESS_RUNS = 250_000
#: Limit of the memory of a process in MB.
MEMORY_MB = 4096


def main() -> int:
    """Run the targets given on the command line, and return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--runs", type=int, default=1_000_000, help="executions of each target")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--artifacts", type=Path, default=Path("fuzz-artifacts"), help="folder of inputs that fail")
    parser.add_argument("--input", type=Path, help="run one target on this file, without atheris")
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)  # of a process that executes
    given = parser.parse_args()
    if given.corpus is not None:
        return execute(given.targets[0], given.runs, given.seed, given.artifacts, given.corpus)
    from .targets import TARGETS

    if given.input is not None:
        (name,) = given.targets
        TARGETS[name].run(given.input.read_bytes())
        return 0
    failed = [name for name in given.targets or TARGETS if not fuzz(name, given.runs, given.seed, given.artifacts)]
    print(f"failed: {', '.join(failed) or 'none'}")
    return bool(failed)


def fuzz(name: str, runs: int, seed: int, artifacts: Path) -> bool:
    """Run one target in several processes that hand on what they found; return False as soon as one fails."""
    from .targets import TARGETS

    target = TARGETS[name]
    left, most = max(1, round(runs * target.share)), round(PROCESS_RUNS * target.share)
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as corpus:
        for number, content in enumerate(target.seeds):
            (Path(corpus) / f"seed-{number}").write_bytes(content)
        while left:
            n_runs = min(left, most)
            print(f"--- {name}: {n_runs} of {left} executions", flush=True)
            options = [f"--runs={n_runs}", f"--seed={seed}", f"--artifacts={artifacts}", f"--corpus={corpus}"]
            if subprocess.run([sys.executable, "-m", "tests.fuzz", name, *options]).returncode:
                return False
            left, seed = left - n_runs, seed + 1
    return True


def execute(name: str, runs: int, seed: int, artifacts: Path, corpus: Path) -> int:
    """Run one target in this process. libFuzzer ends it, so this returns only if atheris is missing."""
    logging.disable(logging.CRITICAL)  # what is said of damaged journals would fill the disk
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: `make fuzz` does that, or pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["harstream"], enable_loader_override=False):
        from . import mutation
        from .targets import TARGETS

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change bytes, as libFuzzer does, or the values of JSON."""
        rng = random.Random(seed)
        changed = data if rng.random() < 0.5 else mutation.mutate(data, rng)
        return changed[:max_size] if changed is not data else atheris.Mutate(data, max_size)

    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={MAX_BYTES}", f"-timeout={TIMEOUT_S}", "-len_control=0"]
    options += [f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={artifacts}/{name}-", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name].run, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
