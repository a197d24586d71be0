#!/usr/bin/env bash
# Runs the benchmarks on a CUDA device; see README.md beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
python generate.py --device cuda --runs 5 ${1:+--model "$1"}
python training.py --device cuda --clips 8 --steps 20
python training.py --device cuda --clips 256 --steps 10
python settings.py --device cuda ${1:+--model "$1"}
python worlds.py --device cuda --clips 32
