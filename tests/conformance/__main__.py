"""Print a table: each row of the kit, and what each sender makes of it.

python -m tests.conformance [module of a sender]...
"""

import importlib
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.conformance.certificates import Certificates
from tests.conformance.rows import ROWS
from tests.conformance.running import run

DEFAULT = ("tests.conformance.senders.lms_webhooks_sender", "tests.conformance.senders.plain_requests")
_WIDTH = 48


def main(modules: list[str]) -> None:
    """Run every sender against every row, over each scheme of it, and print as it goes."""
    conform: Counter[str] = Counter()
    cells = 0
    with tempfile.TemporaryDirectory() as directory:
        certificates = Certificates(Path(directory))
        senders = {
            module.rpartition(".")[2]: importlib.import_module(module).make(certificates.ca_file)
            for module in modules
        }
        print(f"{'the receiver':{_WIDTH}} {'':5}", *(f"{name:28}" for name in senders))
        for row in ROWS:
            for scheme in row.over:
                cells += 1
                told = []
                for name, send in senders.items():
                    report = run(send, row, scheme, certificates)
                    conform[name] += not report.flaws
                    told.append("; ".join(report.flaws) or ("ok" if report.is_best else "ok, not the best"))
                print(
                    f"{row.name[:_WIDTH]:{_WIDTH}} {scheme:5}", *(f"{each:28}" for each in told), flush=True
                )
        print(f"{'conform':{_WIDTH}} {'':5}", *(f"{f'{conform[name]} of {cells}':28}" for name in senders))


if __name__ == "__main__":
    main(sys.argv[1:] or list(DEFAULT))
