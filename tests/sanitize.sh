#!/bin/bash
# Runs the small CUDA cases of every extension (or of those named, or of test files) under compute-sanitizer,
# memcheck and racecheck, on one GPU: a process for some cases of a file and a tool, as many at once as there are
# processors.
#
#   tests/from_source.sh --cuda sm_90 -- tests/sanitize.sh [EXTENSION | FILE ...]
#
# Small cases are those that tests/small_cases.txt picks by name (pytest's -k; SELECT takes its place);
# tests/kernel_coverage.py says whether they launch every kernel. Prints a line for each process, the errors of those
# that have any, and fails then. TOOLS="memcheck" picks tools (memcheck, racecheck, initcheck, synccheck), CASES the most
# cases in a process (16: most of a process's time goes into what the tool does to a kernel on its first call), JOBS the
# number of processes, LIMIT the seconds that one may take (1200), PYTHON the interpreter. Memory is asked for piece by
# piece here, not taken from torch's pool, so that a step beyond an array is seen. racecheck and synccheck look at our
# kernels only: those of libraries pass on what their authors know to be safe. memcheck and initcheck look at all:
# initcheck takes what a kernel that it does not see has written, a sort of CUB's say, for not written.
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

# Ours are in namespace tk or in an unnamed one; torch has unnamed ones too. cuBLAS's nvjet kernels, which multiply 16-bit
# matrices on Hopper, are looked at besides: racecheck 2025.3.1 makes them read memory that is not theirs when it leaves
# them out by name ("failed to handle a hardware exception"), of whatever other name, and finds nothing in them.
ours=(--kernel-name kernel_substring=2tk --kernel-name kernel_substring=_GLOBAL__N_ --kernel-name kernel_substring=nvjet
    --kernel-name-exclude kernel_substring=_ZN2at --kernel-name-exclude kernel_substring=_ZN3cub)
check() {  # TOOL FILE CASES
    local tool=$1 file=$2 cases=$3 log status summary label filter=()
    label="$tool $file (${cases##*/cases-})"
    log=$logs/$tool-${cases##*/}
    local options=(--tool "$tool" --error-exitcode 9 --report-api-errors no --print-limit 20)
    [ "$tool" = memcheck ] || [ "$tool" = initcheck ] || read -ra filter <<<"$OURS"
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 TRELLIS_NUM_THREADS=2 OMP_NUM_THREADS=2 timeout "$LIMIT" "$sanitizer" "${options[@]}" ${filter[@]+"${filter[@]}"} \
        "$python" -m pytest -q -p no:cacheprovider --durations=3 "@$cases" >"$log" 2>&1
    status=$?
    summary="$(grep -E '(passed|failed|error|skipped|no tests).* in ' "$log" | tail -1 | tr -d =); $(grep -E 'SUMMARY' "$log" | tail -1 | tr -d =)"
    [ $status != 0 ] || grep -qE "[0-9]+ passed" "$log" || status=5  # skipped, all of them
    case $status in
        0) echo "clean: $label: $summary" ;;
        124) echo "TOO SLOW: $label: more than $LIMIT s"; grep -E "=========" "$log" | head -30 ;;
        *) echo "FAILED ($status): $label: $summary"; grep -E "=========|^FAILED|^E  |rror:" "$log" | head -60 ;;
    esac
    [ -z "${VERBOSE:-}" ] || grep -E "^[0-9.]+s (call|setup)" "$log"
    [ $status = 0 ] || touch "$logs/failed"
}
export -f check
export logs sanitizer python LIMIT=${LIMIT:-1200} OURS="${ours[*]}"
files=()
for extension in "${extensions[@]}"; do
    [ -f "$extension" ] && files+=("$extension") || files+=("csrc/$extension/tests/"test_*.py)
done
mapfile -t files < <(grep -l "mark\.cuda" "${files[@]}")
"$python" -m pytest -q -p no:cacheprovider --collect-only -m cuda -k "${SELECT:-$(<tests/small_cases.txt)}" "${files[@]}" >"$logs/collected" 2>&1
for file in "${files[@]}"; do
    name=$(tr / - <<<"${file#csrc/}")
    grep -F "$file::" "$logs/collected" >"$logs/all" || { echo "no small case: $file"; continue; }
    # Dealt out in turn, so that the slow parameters of a test do not come together.
    split -n "r/$((($(wc -l <"$logs/all") + ${CASES:-16} - 1) / ${CASES:-16}))" -d -a 3 "$logs/all" "$logs/cases-$name-"
    for cases in "$logs/cases-$name-"*; do
        for tool in ${TOOLS:-memcheck racecheck}; do printf '%s\n%s\n%s\n' "$tool" "$file" "$cases"; done
    done
done >"$logs/work"
grep -v "^no small case" "$logs/work" | xargs -d '\n' -n 3 -P "${JOBS:-$(nproc)}" bash -c 'check "$@"' _
grep "^no small case" "$logs/work"
[ ! -e "$logs/failed" ] && [ -s "$logs/all" ]
