import subprocess
import sys

PROGRAM = """
import sys, time, jax, numpy
before, start = set(sys.modules), time.process_time()
from jtl import losses
seconds = time.process_time() - start
packages = {name.partition(".")[0] for name in set(sys.modules) - before}
third_party = packages - {"jtl", "jax", "jaxlib", "numpy", "jaxtyping"} - sys.stdlib_module_names
assert not third_party - {"wadler_lindig"}, third_party  # jaxtyping's own and only dependency
assert seconds < 0.2, seconds
"""


def test_importing_losses_is_quick_and_needs_jax_and_jaxtyping_only() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
