"""The line protocol of a benchmark peer: one JSON request a line on stdin, one JSON answer a line on stdout.

A script defines `prepare(peer, case, quick)`, which builds the inputs of a case and returns a function without
arguments that does one run and returns the seconds it took, or None when the peer does not have the case; then it
calls `serve(prepare, versions)`.
"""

import json
import os
import sys


def serve(prepare, versions):
    # Whatever a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    cases = {}

    def answer(**fields):
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    answer(versions=versions)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if request["do"] == "forget":
                cases.clear()
                answer()
                continue
            key = request["peer"], request["case"]
            if request["do"] == "prepare":
                run = prepare(*key, request["quick"])
                if run is not None:
                    cases[key] = run
                answer(known=run is not None)
            else:
                repeats = request["repeats"]
                answer(seconds=sum(cases[key]() for _ in range(repeats)) / repeats)
        except Exception as error:  # the harness decides what a failure means
            answer(error=f"{type(error).__name__}: {error}")
