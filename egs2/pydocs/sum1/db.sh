# shellcheck shell=bash
# The corpus is what is installed: it needs no directory.
