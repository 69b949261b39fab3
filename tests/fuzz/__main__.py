"""Fuzzing under atheris: ``python -m tests.fuzz [TARGET ...] [--runs N]``; without a target, all of them.

Each target runs in a process of its own. An input that fails is kept in the folder ``--artifacts``; give it to the
target again with ``--input FILE``. atheris measures which lines of harstream an input reaches, and mutates those that
reach new ones.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

#: Longest input in bytes, and seconds after which one input counts as a hang.
MAX_BYTES, TIMEOUT_S = 8192, 30
#: Limit of the memory of a target in MB; atheris itself keeps about 2 kB of each long input.
MEMORY_MB = 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--runs", type=int, default=1_000_000, help="executions of each target")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--artifacts", type=Path, default=Path("fuzz-artifacts"), help="folder of inputs that fail")
    parser.add_argument("--input", type=Path, help="run one target on this file, without atheris")
    given = parser.parse_args()
    if given.input is not None:
        from .targets import TARGETS

        (name,) = given.targets
        TARGETS[name].run(given.input.read_bytes())
        return 0
    if len(given.targets) == 1:
        return fuzz(given.targets[0], given.runs, given.seed, given.artifacts)
    from .targets import TARGETS

    failed = []
    for name in given.targets or TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", name, f"--runs={given.runs}", f"--seed={given.seed}"]
        print(f"--- {name}", flush=True)
        if subprocess.run([*command, f"--artifacts={given.artifacts}"]).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed) or 'none'}")
    return bool(failed)


def fuzz(name: str, runs: int, seed: int, artifacts: Path) -> int:
    """Run one target. libFuzzer ends the process, so this returns only if atheris is missing."""
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: `make fuzz` does that, or pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["harstream"], enable_loader_override=False):
        from . import mutation
        from .targets import TARGETS
    target = TARGETS[name]
    artifacts.mkdir(parents=True, exist_ok=True)
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, content in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(content)
    runs = max(1, round(runs * target.share))
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={MAX_BYTES}", f"-timeout={TIMEOUT_S}", "-len_control=0"]
    options += [f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={artifacts}/{name}-", "-print_final_stats=1"]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change bytes, as libFuzzer does, or the values of JSON."""
        rng = random.Random(seed)
        changed = data if rng.random() < 0.5 else mutation.mutate(data, rng)
        return changed[:max_size] if changed is not data else atheris.Mutate(data, max_size)

    atheris.Setup([sys.argv[0], *options, str(corpus)], target.run, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
