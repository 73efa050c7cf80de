"""A folder of Whisper's encoder with a tiny configuration, as `import_whisper` makes one."""

from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder


def write_whisper(folder):
    """Write it, with random parameters."""
    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16
    )
    WhisperEncoder(config).save_pretrained(folder)
