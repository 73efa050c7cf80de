"""Run stages of espnet3: python run.py --stages all --training_config conf/training.yaml ..."""

from espnet3.systems.esp2_asr.system import ASRSystem
from espnet3.systems.launch import launch

if __name__ == "__main__":  # workers import this file
    launch(ASRSystem)
