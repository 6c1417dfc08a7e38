"""Make a built template one that is deployed gradually: `make build CANARY=1`, as for prod.

The functions that send get an alias, which their queues invoke, and CodeDeploy moves it: a tenth of the
messages for ten minutes, then all; back at once if an alarm comes. Not in template.yaml itself, for two
reasons. The emulator has no CodeDeploy. And SAM gives the alias a new version only where the text of the
template changes: a parameter that changed would be ignored, silently. Here each build is a release of its
own, so each deployment moves the alias.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import yaml

from tools.progress import REPOSITORY
from tools.template import read_template

BUILT = REPOSITORY / ".aws-sam" / "build" / "template.yaml"
ALIAS = "live"

# Alarms that a new version itself can bring. One of age or dead letters may stand while its fix is
# deployed, and CodeDeploy would refuse that.
_ALARMS = {
    "DispatcherFunction": ("DispatcherErrorsAlarm", "InternalErrorsAlarm"),
    "DrainerFunction": ("DrainerErrorsAlarm", "DrainRunsAbortedAlarm", "InternalErrorsAlarm"),
}


def make_canary(built_template: Path, *, release: str) -> None:
    """Change a built template in its place. `release` must differ from that of every deployment before."""
    template = read_template(built_template)
    template["Globals"]["Function"]["Environment"]["Variables"]["RELEASE"] = release
    for function, alarms in _ALARMS.items():
        template["Resources"][function]["Properties"] |= {
            "AutoPublishAlias": ALIAS,
            "DeploymentPreference": {
                "Type": "Canary10Percent10Minutes",
                "Alarms": [{"Ref": alarm} for alarm in alarms],
            },
        }
    built_template.write_text(yaml.safe_dump(template, sort_keys=False))


if __name__ == "__main__":
    make_canary(BUILT, release=datetime.now(UTC).isoformat(timespec="seconds"))
    sys.stdout.write(f"{BUILT.relative_to(REPOSITORY)} is deployed gradually\n")
