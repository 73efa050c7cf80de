# shellcheck shell=bash
. ../../TEMPLATE/asr1/db.sh
