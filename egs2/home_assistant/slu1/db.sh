# shellcheck shell=bash disable=SC2034
# Where Home Assistant's templates are: the directory of en.json and de.json, or the unpacked wheel
# home-assistant-intents. `downloads`: stage 1 may fetch them and flite there, if it is told to:
# --local_data_opts --download
HOME_ASSISTANT="${HOME_ASSISTANT-downloads}"
