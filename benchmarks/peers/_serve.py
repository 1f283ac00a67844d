"""The peer's side of a benchmark: answer calls that come as JSON lines. Needs nothing but the standard library."""

import json
import sys
import traceback


def serve(functions):
    """Answer calls until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": functions[request.pop("call")](**request)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        sys.stdout.write("@" + json.dumps(answer) + "\n")
        sys.stdout.flush()
