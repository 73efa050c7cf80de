#!/usr/bin/env bash
exec ../../TEMPLATE/st1/st.sh "$@"
