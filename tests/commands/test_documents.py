"""What the documents tell somebody to deploy is sound."""

import subprocess
import sys
from pathlib import Path

from tests.contract.test_documents import fenced
from tests.contract.test_emitting import EMITTING


def test_the_forwarding_stack_is_sound(tmp_path: Path) -> None:
    (template,) = fenced(EMITTING, "yaml")
    path = tmp_path / "forward.yaml"
    path.write_text(template)
    linter = Path(sys.executable).parent / "cfn-lint"
    subprocess.run([linter, "--regions", "us-east-1", "--", path], check=True)
