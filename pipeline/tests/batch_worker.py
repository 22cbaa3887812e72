"""Stands for the process that makes a batch's pictures: the name of a picture says what becomes of it. Loads no torch."""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--answers", type=int)
parser.add_argument("--parent", type=int)
parser.add_argument("--starts", type=Path)
arguments = parser.parse_args()


def answer(**what):
    os.write(arguments.answers, json.dumps(what).encode() + b"\n")


def made(job, options, left=0):
    Path(job["glb"]).write_bytes(b"glTF of " + Path(job["picture"]).read_bytes())
    digests = {k: {"sha256": hashlib.sha256(Path(job[k]).read_bytes()).hexdigest()} for k in ("picture", "glb")}
    facts = {"options": options, "input": digests["picture"], "output": digests["glb"]}
    Path(job["manifest"]).write_text(json.dumps(facts))
    answer(facts={"faces": 12, "seconds": 0.1, "left": left})


with arguments.starts.open("a") as file:
    file.write(f"{os.getpid()}\n")
options = json.loads(sys.stdin.readline())
if options["revision"] == "broken":
    answer(kind="unusable", error="holds no pipeline.json")
    sys.exit()
answer(facts={})
for line in sys.stdin:
    job = json.loads(line)
    glb = Path(job["glb"])
    print("a library prints", flush=True)
    match Path(job["picture"]).stem.split("-")[0]:
        case "bad":
            answer(kind="unusable", error="not a picture")
        case "full":
            answer(kind="disk", error="No space left on device")
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "once" if not (marker := glb.with_suffix(".once")).exists():
            marker.touch()
            glb.with_name(f".{glb.name}.0123456789ab").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            Path(job["log"]).write_text("structure")
            glb.with_name(f".{glb.name}.0123456789ab").write_bytes(b"half")
            time.sleep(60)
        case "left":
            made(job, options, left=1 << 30)
        case "exit":
            sys.exit(3)
        case _:
            made(job, options)
