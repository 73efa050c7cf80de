#!/usr/bin/env bash
exec ../../TEMPLATE/asr1/asr.sh "$@"
