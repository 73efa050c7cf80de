"""ROUGE-N and ROUGE-L of two lists of words, written from Lin (2004)."""


def ngrams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def overlap(reference: list, hypothesis: list) -> int:
    """Count common entries, each as often as both have it."""
    left = list(reference)
    count = 0
    for each in hypothesis:
        if each in left:
            left.remove(each)
            count += 1
    return count


def longest_common_subsequence(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
            )
    return table[-1][-1]


def f1(common: int, in_reference: int, in_hypothesis: int) -> float:
    if not common:
        return 0.0
    recall, precision = common / in_reference, common / in_hypothesis
    return 2 * precision * recall / (precision + recall)


def rouge(reference: list[str], hypothesis: list[str]) -> tuple[float, float, float]:
    """Return F1 of ROUGE-1, ROUGE-2 and ROUGE-L, times 100."""
    scores = []
    for n in (1, 2):
        ref, hyp = ngrams(reference, n), ngrams(hypothesis, n)
        scores.append(f1(overlap(ref, hyp), len(ref), len(hyp)))
    common = longest_common_subsequence(reference, hypothesis)
    scores.append(f1(common, len(reference), len(hypothesis)))
    return tuple(100 * score for score in scores)
