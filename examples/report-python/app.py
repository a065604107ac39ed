"""Sums up sales: reads CSV files and writes /out/summary.csv.

`report-python [DIRECTORY]`: the files are those of the directory, or of the
application's own assets. The exit code is 0 if every line counted, 1 if nothing
could be written, 2 if the command line is not understood, and 3 if lines were
left out.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

from wit_world import exports
from wit_world.imports import environment, exit as cli_exit

ASSETS = "/assets/sales"
SUMMARY = Path("/out/summary.csv")
FIELDS = ["date", "item", "quantity", "price"]

WRITTEN, FAILED, USAGE, LEFT_OUT = 0, 1, 2, 3


class Run(exports.Run):
    def run(self) -> None:
        code = report(environment.get_arguments()[1:])
        sys.stdout.flush()
        sys.stderr.flush()
        if code != WRITTEN:
            cli_exit.exit_with_code(code)


def report(args: list[str]) -> int:
    """Writes the summary, and returns the exit code."""
    if len(args) > 1:
        return fail(USAGE, "usage: report-python [DIRECTORY]")
    directory = Path(args[0] if args else ASSETS)
    totals: dict[str, Decimal] = defaultdict(Decimal)
    left_out = 0
    try:
        files = sorted(directory.glob("*.csv"))
        if not files:
            return fail(FAILED, f"{directory} has no CSV files")
        for file in files:
            for line, sale in sales(file):
                if sale is None:
                    print(f"{file}:{line}: not a sale", file=sys.stderr)
                    left_out += 1
                else:
                    item, amount = sale
                    totals[item] += amount
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return fail(FAILED, f"can't read {directory}: {error}")
    try:
        with SUMMARY.open("w", newline="") as summary:
            writer = csv.writer(summary, lineterminator="\n")
            writer.writerow(["item", "total"])
            writer.writerows(sorted(totals.items()))
    except OSError as error:
        return fail(FAILED, f"can't write {SUMMARY}: {error}")
    print(f"{SUMMARY}: files {len(files)}, items {len(totals)}, total {sum(totals.values())}")
    return LEFT_OUT if left_out else WRITTEN


def sales(file: Path) -> Iterator[tuple[int, tuple[str, Decimal] | None]]:
    """The lines of a file by number: item and amount, or None for what is no sale."""
    with file.open(newline="", encoding="utf-8") as text:
        lines = csv.DictReader(text)
        if lines.fieldnames != FIELDS:
            yield 1, None
            return
        for sale in lines:
            yield lines.line_num, parse(sale)


def parse(sale: dict[str, str]) -> tuple[str, Decimal] | None:
    try:
        total = int(sale["quantity"]) * Decimal(sale["price"])
    except (TypeError, ValueError, InvalidOperation):
        return None
    return (sale["item"], total) if total.is_finite() else None


def fail(code: int, why: str) -> int:
    print(f"report-python: {why}", file=sys.stderr)
    return code
