# shellcheck shell=bash disable=SC2034
# Where the game is: the tree that Debian's flight-of-the-amazon-queen unpacks to, or the directory
# of queen.1c. `downloads`: stage 1 may fetch the package there, if it is told to:
# --local_data_opts --download
QUEEN="${QUEEN-downloads}"
