"""Beam search of one utterance in Python lists: no cache, no batch, every score from scratch."""

import math

import torch

from mtla_espnet.search.history import Hypothesis

BLANK = 0


def ctc_log_probability(log_probability, labels, whole):
    """log P(the labelling begins with, or is, `labels`), by the forward algorithm.

    A textbook forward pass over blank-interleaved labels (Graves et al. 2006), in
    float64: P(prefix) sums, over the frame t at which the last label is first emitted,
    the probability of having just reached it.
    """
    probability = log_probability.double().exp()
    frames = len(probability)
    extended = [BLANK]
    for label in labels:
        extended += [label, BLANK]
    alpha = torch.zeros(frames + 1, len(extended), dtype=torch.float64)
    alpha[0, 0] = 1.0  # before the first frame
    first_emitted = 0.0
    for t in range(1, frames + 1):
        for s, label in enumerate(extended):
            arrive = alpha[t - 1, s].item() if t > 1 or s == 0 else 0.0
            fresh = alpha[t - 1, s - 1].item() if s >= 1 else 0.0
            if s >= 2 and label != BLANK and label != extended[s - 2]:
                fresh += alpha[t - 1, s - 2].item()
            alpha[t, s] = (arrive + fresh) * probability[t - 1, label]
            if s == len(extended) - 2:
                first_emitted += fresh * probability[t - 1, label].item()
    if whole:
        total = alpha[frames, -1].item() + (alpha[frames, -2].item() if labels else 0.0)
    else:
        total = first_emitted if labels else 1.0
    return math.log(total) if total > 0 else -math.inf


def may_follow(labels, token, sos_eos, options):
    """Whether a token may come next, by the definitions of both constraints."""
    if len(labels) < len(options.prefix):
        return token == options.prefix[len(labels)]
    size = options.no_repeat_ngram_size
    if not size or token == sos_eos:
        return True
    longer = [*labels, token]
    if len(longer) < size:
        return True
    grams = [tuple(longer[i : i + size]) for i in range(len(longer) - size + 1)]
    return grams[-1] not in grams[:-1]


def search(decoder, ctc_layer, encoded, sos_eos, options, blank=None):
    """Return the n best hypotheses of (T, d) `encoded`.

    Several decoders, with an encoder output each, score by the average of their probabilities.
    """
    decoders = decoder if isinstance(decoder, list) else [decoder]
    outputs = encoded if isinstance(encoded, list) else [encoded]
    encoded = outputs[0]
    frames = len(encoded)
    least, most = options.length_limits(frames)
    ctc = ctc_layer(encoded).log_softmax(-1) if options.ctc_weight else None
    running, ended = [([], 0.0, 0.0, 0.0)], []  # labels, total, decoder's and CTC's sums
    for step in range(most):
        candidates = []
        for labels, total, by_decoder, by_ctc in running:
            tokens = torch.tensor([[sos_eos, *labels]])
            size = torch.tensor([tokens.size(1)])
            each = []
            for one, output in zip(decoders, outputs, strict=True):
                logits = one(output[None], torch.tensor([len(output)]), tokens, size)[0][0, -1]
                each.append((logits / options.temperature).softmax(-1))
            log_p = (sum(each) / len(each)).log()
            allowed = [t for t in range(len(log_p)) if may_follow(labels, t, sos_eos, options)]
            offers = range(len(log_p))
            if ctc is not None:
                count = int(options.pre_beam_ratio * options.beam_size)
                if count < len(log_p):
                    full = torch.full_like(log_p, -math.inf, dtype=torch.float64)
                    full[allowed] = log_p[allowed].double() * (1 - options.ctc_weight)
                    offers = {*full.topk(count).indices.tolist(), sos_eos}
            for token in offers:
                if token == blank or token not in allowed:
                    continue
                score = (1 - options.ctc_weight) * log_p[token].item() + options.penalty
                added = 0.0
                if ctc is not None:
                    if token == BLANK:
                        continue
                    end = token == sos_eos
                    longer = labels if end else [*labels, token]
                    added = ctc_log_probability(ctc, longer, whole=end) - by_ctc
                    if added == -math.inf:
                        continue
                    score += options.ctc_weight * added
                candidates.append(
                    (total + score, [*labels, token], by_decoder + log_p[token].item(), added)
                    + (by_ctc + added,)
                )
        candidates.sort(key=lambda candidate: -candidate[0])
        running = []
        for total, labels, by_decoder, _, by_ctc in candidates[: options.beam_size]:
            if labels[-1] == sos_eos or step == most - 1:
                if step >= least:
                    yseq = labels if labels[-1] == sos_eos else [*labels, sos_eos]
                    scores = {"decoder": by_decoder} | ({"ctc": by_ctc} if ctc is not None else {})
                    ended.append(Hypothesis([sos_eos, *yseq], total, scores))
            else:
                running.append((labels, total, by_decoder, by_ctc))
        if not running:
            break
        if options.maxlenratio == 0 and hopeless(ended, step):
            break
    exponent = 1 if options.normalize_length else options.lenpen
    ranked = sorted(ended, key=lambda h: -h.score / (len(h.yseq) - 1) ** exponent)
    return ranked[: options.nbest]


def hopeless(ended, step):
    """Equation 50 of Watanabe et al. 2017, counted as in ESPnet."""
    if not ended:
        return False
    best = max(h.score for h in ended)
    count = 0
    for m in range(3):
        same = [h.score for h in ended if len(h.yseq) == step - m]
        count += bool(same) and max(same) - best < -10.0
    return count == 3
