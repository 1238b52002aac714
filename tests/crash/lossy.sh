#!/bin/sh
# SPDX-License-Identifier: MIT
# Power cuts on a disk that keeps nothing but what was synced.
exec "${SRCDIR:-.}/tests/crash/kill.py" --lossy --rounds 3
