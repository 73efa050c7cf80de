#!/usr/bin/env bash
exec ../../TEMPLATE/slu1/slu.sh "$@"
