# shellcheck shell=bash
. ../../TEMPLATE/asr1/path.sh
