#!/bin/bash
# Builds extensions of this checkout with the compilers at hand and runs a command on them, for a machine that has
# torch already and no package index (a GPU server, a container):
#
#   tests/from_source.sh [--cuda "sm_90"] [EXTENSION ...] -- python3 -m pytest -m cuda csrc
#
# Named extensions (all five if none is named and none is built yet) are compiled into out/native; with --cuda also
# for those architectures (sm_XX machine code, compute_XX PTX), by the nvcc of CUDA_HOME or PATH. The command sees the
# sources of every package.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
prefix=$root/out/native
all=(sparse mesh voxel raster shade)

archs=() extensions=()
while [ $# -gt 0 ]; do
    case $1 in
        --cuda) read -ra archs <<<"$2"; shift 2 ;;
        --) shift; break ;;
        -*) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
        *) extensions+=("$1"); shift ;;
    esac
done
if [ ${#extensions[@]} = 0 ]; then
    for name in "${all[@]}"; do [ -d "$prefix/trellis_$name" ] || extensions+=("$name"); done
fi

options=("-DTRELLIS_FLAVOURS=cpu")
if [ ${#archs[@]} -gt 0 ]; then
    nvcc=${CUDA_HOME:+$CUDA_HOME/bin/}nvcc
    major=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    top=$("$nvcc" --dryrun -c x.cu 2>&1 | sed -n 's/^#\$ TOP=//p')
    runtime=$(find -L "$top" -name libcudart_static.a -print -quit)
    flags=$(printf -- '-gencode=arch=compute_%s,code=%s;' $(for a in "${archs[@]}"; do echo "${a#*_} $a"; done))
    options=("-DTRELLIS_FLAVOURS=cpu;cuda$major" "-DTRELLIS_CUDA${major}_COMPILER=$nvcc;--threads;4"
        "-DTRELLIS_CUDA${major}_FLAGS=${flags%;}" "-DTRELLIS_CUDA${major}_LIBRARIES=$runtime"
        "-DTRELLIS_CUDA${major}_ARCHS=$(IFS=';'; echo "${archs[*]}")")
fi

generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
build() {
    local folder=$root/out/cmake/from-source/$1
    {
        cmake "${generator[@]}" -S "$root/csrc/$1" -B "$folder" -DCMAKE_BUILD_TYPE=Release "${options[@]}" &&
            cmake --build "$folder" --parallel "${JOBS:-$(nproc)}" && CMAKE_INSTALL_ALWAYS=1 cmake --install "$folder" --prefix "$prefix"
    } >"$folder.log" 2>&1 || { grep -E "error|Error" -A4 "$folder.log" | head -60 >&2; echo "$folder.log" >&2; return 1; }
}
mkdir -p "$root/out/cmake/from-source"
pids=()
for name in "${extensions[@]}"; do build "$name" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid"; done

export TRELLIS_NATIVE_DIR=$prefix
paths=$root/build:$root/diagnostics:$root/regression:$root/pipeline
for name in native "${all[@]}" compat; do paths=$paths:$root/csrc/$name/python; done
export PYTHONPATH=$paths${PYTHONPATH:+:$PYTHONPATH}
cd "$root"
exec "$@"
