#!/bin/bash
# Runs the small CUDA cases of every extension (or of those named, or of test files) under compute-sanitizer,
# memcheck and racecheck, on one GPU: a process for each test file and tool, as many at once as there are processors.
#
#   tests/from_source.sh --cuda sm_90 -- tests/sanitize.sh [EXTENSION | FILE ...]
#
# Prints a line for each, the errors of those that have any, and fails then. TOOLS="memcheck" picks tools, JOBS the
# number of processes, LIMIT the seconds that one may take (1200), PYTHON the interpreter. Memory is asked for piece
# by piece here, not taken from torch's pool, so that a step beyond an array is seen. racecheck looks at our kernels
# only: those of libraries pass on what their authors know to be safe.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
python=${PYTHON:-$(command -v python3)}
sanitizer=$(command -v compute-sanitizer || echo "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer")
[ -x "$sanitizer" ] || { echo "compute-sanitizer: not on PATH nor in CUDA_HOME" >&2; exit 2; }
"$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" || { echo "no CUDA device" >&2; exit 2; }
extensions=("$@")
[ $# -gt 0 ] || extensions=(sparse mesh voxel raster shade)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

check() {  # TOOL FILE
    local tool=$1 file=$2 log status summary
    log=$logs/$tool-${file//\//-}
    local options=(--tool "$tool" --error-exitcode 9 --report-api-errors no --print-limit 20)
    [ "$tool" = racecheck ] && options+=(--kernel-name kernel_substring=2tk)
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout "$LIMIT" "$sanitizer" "${options[@]}" \
        "$python" -m pytest -q -p no:cacheprovider -m cuda -k small "$file" >"$log" 2>&1
    status=$?
    summary="$(grep -E '(passed|failed|error|no tests).* in ' "$log" | tail -1 | tr -d =); $(grep -E 'SUMMARY' "$log" | tail -1 | tr -d =)"
    # 5: the file has no small case.
    case $status in
        0) echo "clean: $tool $file: $summary" ;;
        5) echo "no small case: $tool $file" ;;
        124) echo "TOO SLOW: $tool $file: more than $LIMIT s"; grep -E "=========" "$log" | head -30 ;;
        *) echo "FAILED ($status): $tool $file: $summary"; grep -E "=========|^FAILED|^E  |rror:" "$log" | head -60 ;;
    esac
    [ $status = 0 ] || [ $status = 5 ] || touch "$logs/failed"
}
export -f check
export logs sanitizer python LIMIT=${LIMIT:-1200}
for extension in "${extensions[@]}"; do
    files=("$extension")
    [ -f "$extension" ] || files=("csrc/$extension/tests/"test_*.py)
    for file in $(grep -l "mark\.cuda" "${files[@]}" | xargs -r grep -l "small"); do
        for tool in ${TOOLS:-memcheck racecheck}; do printf '%s\n%s\n' "$tool" "$file"; done
    done
done | xargs -n 2 -P "${JOBS:-$(nproc)}" bash -c 'check "$@"' _
[ ! -e "$logs/failed" ]
