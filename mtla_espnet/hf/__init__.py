"""Language models with latent attention for Hugging Face transformers.

Importing this registers them with `AutoConfig`, `AutoModel`, `AutoModelForCausalLM` and
`AutoTokenizer`, so that `from_pretrained` loads them without code from a hub.
"""

from mtla_espnet.hf.versions import check_version

check_version()

from transformers import (  # noqa: E402
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from mtla_espnet.hf.config import LlamaMTLAConfig  # noqa: E402
from mtla_espnet.hf.model import LlamaMTLAForCausalLM, LlamaMTLAModel  # noqa: E402

__all__ = ["LlamaMTLAConfig", "LlamaMTLAForCausalLM", "LlamaMTLAModel"]

AutoConfig.register(LlamaMTLAConfig.model_type, LlamaMTLAConfig, exist_ok=True)
AutoModel.register(LlamaMTLAConfig, LlamaMTLAModel, exist_ok=True)
AutoModelForCausalLM.register(LlamaMTLAConfig, LlamaMTLAForCausalLM, exist_ok=True)
AutoTokenizer.register(LlamaMTLAConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)
