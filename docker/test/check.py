# ruff: noqa: INP001, T201 -- a script that runs commands and tells what they do
"""What `run.sh` has prepared, tried: each step is a function, and the first that finds something wrong ends it.

Prints a transcript with seconds, and at the end a line of JSON with what was measured.
"""

import json
import sys

from access import ask_for_passwords, stand_in_front, tell_operators
from data import back_up_and_restore, grow, publish_demo, rebuild
from deployments import boot_first, deploy, refuse_defaults, refuse_images, refuse_second, roll_back
from development import develop
from faults import kill_each, restart_each, roll_apis, roll_workers, scale
from stack import Wrong, compose, measured, say

STEPS = (
    refuse_defaults,
    boot_first,
    deploy,
    refuse_second,
    refuse_images,
    publish_demo,
    kill_each,
    restart_each,
    scale,
    roll_workers,
    roll_apis,
    tell_operators,
    back_up_and_restore,
    rebuild,
    roll_back,
    ask_for_passwords,
    stand_in_front,
    develop,
)
# Only where they are named: what takes long.
FURTHER = (grow,)


def main() -> int:
    """All steps, or those named."""
    wanted = sys.argv[1:]
    known = {step.__name__: step for step in (*STEPS, *FURTHER)}
    if unknown := set(wanted) - set(known):
        print(f"there is no step {', '.join(sorted(unknown))}: {', '.join(known)}", file=sys.stderr)
        return 2
    for step in [known[name] for name in wanted] if wanted else STEPS:
        try:
            step()
        except Wrong as error:
            say(f"{step.__name__}: {error}")
            print(compose("ps", "--all"), flush=True)
            lines = compose("logs", "--tail", "60", "setup", "worker", "api").splitlines()
            print("\n".join(line[:500] for line in lines if '"serving.access"' not in line), flush=True)
            print(json.dumps(measured))
            return 1
    say("all steps passed")
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
