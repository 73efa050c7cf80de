"""A student follows its teacher, where there are labels."""

import pytest
import torch
from transformers import TrainingArguments

from mtla_espnet.hf.distillation import DistillationTrainer, divergence
from mtla_espnet.hf.from_llama import perplexity, to_mla
from small_models import QUIET_TRAINING, small_llama


def test_divergence_is_that_of_the_definition():
    torch.manual_seed(0)
    own, teacher = torch.randn(2, 3, 4, 5)
    labels = torch.tensor([[1, 2, 3, -100], [0, -100, 1, 4], [2, 2, 2, 2]])
    wanted = 0.0
    for row in range(3):
        for column in range(3):
            if labels[row, column + 1] != -100:
                p, q = (x[row, column].div(2.0).softmax(-1) for x in (teacher, own))
                wanted += 4 * float((p * (p / q).log()).sum())
    assert float(divergence(own, teacher, labels, 2.0)) == pytest.approx(wanted, rel=1e-4)
    assert float(divergence(own, own, labels, 1.0)) == pytest.approx(0, abs=1e-5)


def test_a_converted_model_comes_back_to_its_teacher(tmp_path):
    teacher = small_llama(vocab_size=20, intermediate_size=32, num_key_value_heads=4)
    tokens = torch.randint(0, 20, (16, 12))
    student, _ = to_mla(teacher, [tokens], 8, 4)

    def apart():
        with torch.no_grad():
            logits = student(tokens).logits, teacher(tokens).logits
        return float(divergence(*logits, tokens, 1.0))

    before = apart()
    arguments = TrainingArguments(
        tmp_path,
        max_steps=30,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        **QUIET_TRAINING,
    )
    data = [{"input_ids": row, "labels": row} for row in tokens.tolist()]
    told = dict(teacher=teacher, share=1.0, train_dataset=data, eval_dataset=data)
    trainer = DistillationTrainer(student, arguments, **told)
    trainer.train()
    assert apart() < 0.5 * before
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    plain = torch.tensor(perplexity(student.eval(), tokens.split(1))).log()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(plain), rel=1e-3)
