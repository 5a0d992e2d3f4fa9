#!/bin/sh
# Prints the first Python on this machine that runs, is in range and can make an environment.
# A name on PATH is not enough: version managers leave shims for versions that are not installed.
for python in python3.12 python3.11 python3 /usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(not ((3, 11) <= sys.version_info < (3, 13)))' \
        >/dev/null 2>&1; then
        echo "$python"
        exit 0
    fi
done
echo python3
