"""Language models with latent attention for Hugging Face transformers.

Models of text to text that recipes trained are here too. Importing this registers all of them with
`AutoConfig`, `AutoModel`, `AutoModelForCausalLM`, `AutoModelForSeq2SeqLM` and `AutoTokenizer`, so
that `from_pretrained` loads them without code from a hub.
"""

from mtla_espnet.hf.versions import check_version

check_version()

from transformers import (  # noqa: E402
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from mtla_espnet.hf.config import LlamaMTLAConfig  # noqa: E402
from mtla_espnet.hf.model import LlamaMTLAForCausalLM, LlamaMTLAModel  # noqa: E402
from mtla_espnet.hf.text2text import (  # noqa: E402
    Text2TextMTLAConfig,
    Text2TextMTLAForConditionalGeneration,
)
from mtla_espnet.hf.text2text_tokenizer import Text2TextMTLATokenizer  # noqa: E402

__all__ = [
    "LlamaMTLAConfig",
    "LlamaMTLAForCausalLM",
    "LlamaMTLAModel",
    "Text2TextMTLAConfig",
    "Text2TextMTLAForConditionalGeneration",
    "Text2TextMTLATokenizer",
]

AutoConfig.register(LlamaMTLAConfig.model_type, LlamaMTLAConfig, exist_ok=True)
AutoModel.register(LlamaMTLAConfig, LlamaMTLAModel, exist_ok=True)
AutoModelForCausalLM.register(LlamaMTLAConfig, LlamaMTLAForCausalLM, exist_ok=True)
AutoTokenizer.register(LlamaMTLAConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)

AutoConfig.register(Text2TextMTLAConfig.model_type, Text2TextMTLAConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(
    Text2TextMTLAConfig, Text2TextMTLAForConditionalGeneration, exist_ok=True
)
AutoTokenizer.register(
    Text2TextMTLAConfig, slow_tokenizer_class=Text2TextMTLATokenizer, exist_ok=True
)
