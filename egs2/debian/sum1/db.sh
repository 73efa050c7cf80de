# shellcheck shell=bash disable=SC2034
# A directory with Packages and Translation-en of a release of Debian. `downloads`: stage 1 may
# fetch them there, if it is told to: --local_data_opts --download
DEBIAN="${DEBIAN-downloads}"
