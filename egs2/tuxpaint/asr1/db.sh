# shellcheck shell=bash disable=SC2034
# Where the recordings are: the tree that Debian's tuxpaint-stamps-default unpacks to (it holds
# usr/share/tuxpaint/stamps). `downloads`: stage 1 may fetch the package there, if it is told
# to: --local_data_opts --download
TUXPAINT="${TUXPAINT:-downloads}"
