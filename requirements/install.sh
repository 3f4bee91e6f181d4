#!/usr/bin/env bash
# Makes .venv from nothing: checks what a machine must have, then installs the pinned set.
#   requirements/install.sh cpu|gpu
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-cpu}
need_gb=$([ "$kind" = gpu ] && echo 20 || echo 7)

stop() { echo "set-up stopped: $*" >&2; exit 1; }
find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3 python; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.11 ]; then
            echo "$candidate"; return
        fi
    done
}

[ -f "requirements/$kind.txt" ] || stop "no such set: $kind (there are cpu and gpu)"
python=$(find_python)
[ -n "$python" ] || stop "Python 3.11 was not found; install it, or name it with PYTHON=/path/to/python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null || stop "this Python cannot make virtual environments; install its venv package (Debian: python3.11-venv)"
command -v g++ >/dev/null 2>&1 || stop "no C++ compiler (g++): PyTorch, Triton and DeepSpeed build parts of themselves at run time"
[ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || stop "no Python headers (Debian: python3.11-dev): those parts need them"
free_gb=$(df -Pk . | awk 'NR==2 {print int($4 / 1048576)}')
[ "$free_gb" -ge "$need_gb" ] || stop "$free_gb GB are free here, the $kind environment needs $need_gb"

echo "set-up: $kind environment in .venv ($("$python" --version)), a few minutes"
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
# uv does not read pip's settings: hand on where pip is told to look.
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
links=(); for place in ${PIP_FIND_LINKS:-}; do links+=(--find-links "$place"); done
install() { .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps "${links[@]}" "$@"; }

rest=$(mktemp); trap 'rm -f "$rest"' EXIT
grep -v -e '^torch==' -e '^deepspeed==' "requirements/$kind.txt" >"$rest"
torch=$(grep '^torch==' "requirements/$kind.txt")
if [ "$kind" = cpu ]; then
    # The CPU build is where pip was told to look, or on PyTorch's own index.
    install "$torch" 2>/dev/null || install --torch-backend=cpu "${torch%+cpu}"
else
    install "$torch"
fi
install -r "$rest"
# DeepSpeed comes as source and reads the installed torch while it builds.
install --no-build-isolation "$(grep '^deepspeed==' "requirements/$kind.txt")"
install --editable .
.venv/bin/python requirements/one_owner.py || stop "the packages of requirements/$kind.txt overwrite each other's files"
# Ray workers and engine processes import by the dozen, and where PYTHONDONTWRITEBYTECODE is set each
# would compile every module again: twice the start-up time. Some packages ship templates that are no
# Python, hence the true.
echo "set-up: compiling"
.venv/bin/python -m compileall -q -j 0 .venv/lib/python3.11/site-packages >/dev/null 2>&1 || true
.venv/bin/python -c 'from avr.run.versions import check_versions; check_versions()'
rm -f .venv/.ready*   # one environment: the last that was asked for
touch ".venv/.ready-$kind"
