#!/bin/sh
# Runs the process as it is here, not built and not signed.
text=$(qyv run --quiet ./{{name}}.qyv hello) || exit
[ "$text" = "Hello, world!" ] || { echo "it says $text" >&2; exit 1; }
echo passed
