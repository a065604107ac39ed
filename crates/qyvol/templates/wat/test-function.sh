#!/bin/sh
# Calls the function as it is here, not built and not signed.
sum=$(qyv call --quiet ./{{name}}.qyv add 2 3) || exit
[ "$sum" = 5 ] || { echo "add 2 3 is $sum" >&2; exit 1; }
echo passed
