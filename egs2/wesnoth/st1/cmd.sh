# shellcheck shell=bash
. ../../TEMPLATE/asr1/cmd.sh
