#!/usr/bin/env bash
exec ../../TEMPLATE/sum1/sum.sh "$@"
