#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples of the README and of vecfs(5), run as they stand: every ```console block of the one, every block under EXAMPLES of the other,
each document in one shell session, the output compared.

A line "$ command" is run ("> " continues it); the lines behind it are what it prints. "..." in them stands for any text, also of
several lines. Prints TAP, a test a command that shows its output."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

MARK = "=== end of example ==="


def blocks_of_markdown(text):
    return re.findall(r"^```console\n(.*?)^```", text, re.S | re.M)


def blocks_of_manual(text):
    examples = re.search(r"^\.SH EXAMPLES\n(.*?)^\.SH ", text, re.S | re.M).group(1)
    blocks = re.findall(r"^\.nf\n(.*?)^\.fi", examples, re.S | re.M)
    return [block.replace("\\-", "-").replace("\\(aq", "'").replace("\\&", "").replace("\\e", "\\") for block in blocks]


DOCUMENTS = [("README.md", blocks_of_markdown), ("man/vecfs.5", blocks_of_manual)]


def commands_of(blocks):
    """[(command, expected output)]"""
    found = []
    for block in blocks:
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith("> "):
                found[-1][0] += "\n" + line[2:]
            else:
                found[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in found]


def matches(expected, got):
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, got, re.S) is not None


def run(commands, directory, vecfs):
    """What each command printed, all run by one bash."""
    script = "".join(f"{command}\necho '{MARK}'\n" for command, _ in commands)
    env = dict(os.environ, PATH=os.path.dirname(vecfs) + ":" + os.environ["PATH"], LC_ALL="C")
    done = subprocess.run(["bash", "-s"], input=script, cwd=directory, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    return [part.strip("\n") for part in done.stdout.split(MARK + "\n")]


def main():
    if not os.access("/dev/fuse", os.W_OK):
        print("1..0 # SKIP there is no /dev/fuse to write to")
        return 0
    vecfs = os.environ["VECFS"]
    failed = number = 0
    for name, blocks_of in DOCUMENTS:
        with open(os.path.join(os.environ.get("SRCDIR", "."), name), encoding="utf-8") as file:
            commands = commands_of(blocks_of(file.read()))
        for command, expected, got in run_all(commands, vecfs):
            number += 1
            failed += not report(number, name, command, expected, got)
    print(f"1..{number}")
    return 1 if failed else 0


def run_all(commands, vecfs):
    """A session of its own: [(command, expected, got)]"""
    directory = tempfile.mkdtemp()
    try:
        outputs = run(commands, directory, vecfs)
    finally:
        subprocess.run(["fusermount3", "-q", "-u", "-z", os.path.join(directory, "mnt")], check=False)
        shutil.rmtree(directory, ignore_errors=True)
    return [(command, expected, got) for (command, expected), got in zip(commands, outputs)]


def report(number, name, command, expected, got):
    good = matches(expected, got)
    print(f"{'ok' if good else 'not ok'} {number} - {name}: {command.splitlines()[0].replace('#', '')}")
    if not good:
        print("".join(f"# expected: {line}\n" for line in expected.splitlines()), end="")
        print("".join(f"#      got: {line}\n" for line in got.splitlines()), end="")
    return good


if __name__ == "__main__":
    sys.exit(main())
