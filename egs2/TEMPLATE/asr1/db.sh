# shellcheck shell=bash disable=SC2034
# Where corpora are, a line each; sourced by local/data.sh. `downloads`: the recipe may make
# or fetch the corpus in ./downloads. Empty: fill it in to use the recipe. A variable of the
# environment wins: AMI=/corpora/ami ./run.sh
AMI=${AMI:-}
MINI_AN4=${MINI_AN4:-downloads}
MUST_C=${MUST_C:-}
SLURP=${SLURP:-}
SMARTHOME=${SMARTHOME:-downloads}
XSUM=${XSUM:-}
