# shellcheck shell=bash disable=SC2034
# Where corpora are, a line each; sourced by local/data.sh. `downloads`: the recipe may make
# or fetch the corpus in ./downloads. Empty: fill it in to use the recipe.
MINI_AN4=downloads
SMARTHOME=downloads
