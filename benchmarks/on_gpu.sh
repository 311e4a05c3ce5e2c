#!/bin/sh
# Everything that a GPU is asked for, in under eight minutes: benchmarks/on_gpu.sh [--dry]
#
# Checks every path of the stepper (float32, bfloat16, compiled, one CUDA graph a step), trains CIFAR-10 to 94 % where
# $CONVSCOPE_DATA holds it, times ``fit`` beside eager and compiled torch, and says which aims were met. Output also in
# on_gpu.log and on_gpu.json of the folder $OUT (by default build/on_gpu). --dry tries the script itself on any
# computer with a few small pictures. Exit status 1 where a path trains something else than the CPU does.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
out=${OUT:-build/on_gpu}
mkdir -p "$out"
options="--limit 380 --json $out/on_gpu.json"
if [ "${1:-}" = --dry ]; then
  options="--dry --json $out/on_gpu.json"
  export OMP_NUM_THREADS=1  # the checks take 2 s of one processor; two threads on a busy one had not ended after 32
elif [ -d "${CONVSCOPE_DATA:-/nowhere}/cifar10" ]; then
  options="$options --cifar"
else
  echo "CONVSCOPE_DATA holds no cifar10: its training is left out"
fi
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no GPU here"
# A pipe would hide the exit status.
code=0
PYTHONPATH=src timeout 470 "$python" benchmarks/on_gpu.py $options > "$out/on_gpu.log" 2>&1 || code=$?
cat "$out/on_gpu.log"
exit $code
