# shellcheck shell=bash disable=SC2034
# Where the games are: one tree that Debian's packages of Wesnoth 1.16, beneath-a-steel-sky, drascula
# and scummvm unpack to, with flite's package unpacked in libflite1/ there. `downloads`: stage 1 may
# fetch them there, if it is told to: --local_data_opts --download
WESNOTH="${WESNOTH-downloads}"
