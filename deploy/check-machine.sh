#!/bin/sh
# Checks what `make setup` needs and prints the fix for what is missing.
set -u
python=${1:-python3}
failed=0

need() { # name, command that must succeed, fix
    if ! sh -c "$2" >/dev/null 2>&1; then
        echo "missing: $1" >&2
        echo "    fix: $3" >&2
        failed=1
    fi
}

need "Python >= 3.11 and < 3.13" \
    "$python -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 13)))'" \
    "install Python 3.11 or 3.12, or name one: make setup PYTHON=/path/to/python3.12"
need "Python's venv module" "$python -c 'import venv, ensurepip'" \
    "install it (Debian: apt-get install python3-venv)"
need "Rust >= 1.89" \
    "rustc --version | awk '{ split(\$2, v, \".\"); exit !(v[1] > 1 || v[2] >= 89) }'" \
    "install or update Rust with rustup: rustup update stable"
need "cargo" "cargo --version" "it comes with Rust: rustup update stable"
need "a C compiler" "cc --version" "install one (Debian: apt-get install gcc libc6-dev)"
need "git" "git --version" "install it (Debian: apt-get install git)"
exit $failed
