"""`tfrecal check` of mutated files, for `fuzz.py`."""
from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path

from helpers import strict_tables as strict
from helpers.fuzz_parquet import Parquet
from helpers.fuzz_tables import Files, Texts
from helpers.strict_reader import Refused

from tfrecal.cli.main import main


class Check(Texts):
    """`tfrecal check` of text files and of Parquet, in this process."""

    name, share = "check", 1.5

    def make(self, rng) -> Files:
        """Returns files without options that the command line lacks."""
        files = (super() if rng.random() < 0.7 else Parquet()).make(rng)
        files.options = {name: value for name, value in files.options.items()
                         if name in ("encoding", "separator", "bad_rows")}
        return files

    def take(self, files: Files, folder: Path):
        """Returns the numbers that the command prints, and its status."""
        paths = files.write(folder)
        words = ["check", *map(str, paths.values()), "--encoder", "none"]
        for name, value in files.options.items():
            words += [f"--{name.replace('_', '-')}", value]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
        found = re.search(r"^  ([\d,]+) rows of ([\d,]+) users and ([\d,]+) "
                          r"items", out.getvalue(), re.MULTILINE)
        if status not in (0, 2) or err.getvalue() and not found and (
                "Received" not in err.getvalue()):
            raise RuntimeError(f"status {status}: {err.getvalue()}")
        if found is None:  # refused, or there are no rows in these files
            raise ValueError(f"Received: {err.getvalue() or out.getvalue()}")
        return status, [int(one.replace(",", "")) for one in found.groups()]

    def expect(self, files: Files):
        """Returns the numbers by the rules, and the status."""
        options = {**files.options, "bad_rows": "drop", "duplicates": "last"}
        found = super().expect(replace(files, options=options))
        rows = found["rows"]
        try:
            super().expect(files)
            status = 0
        except Refused:
            status = 2
        return status, [len(rows), *(
            len({row[place] for row in rows}) for place in (0, 1))]

    def _strict(self, name, data, form) -> strict.Strict:
        if name.endswith(".parquet"):
            return strict.read_parquet(data)
        return super()._strict(name, data, form)

    def differs(self, got, wanted) -> str:
        """Says what differs; "" if nothing does."""
        return "" if got == wanted else f"{got} for {wanted}"
