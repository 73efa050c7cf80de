import pytest

from mtla_espnet.corpora.wesnoth.german import usual_forms, write_usually

FORMS = usual_forms(
    [
        "Sie müssen die Tür der Küche neu bauen, nicht heiß.",
        "Und der Graf hat LP, LP und Heu.",
        "Ich heiße Zauber.",
    ]
)


def test_forms_are_those_inside_of_sentences():
    assert FORMS["graf"] == "Graf" and FORMS["lp"] == "LP"
    assert "sie" not in FORMS  # stood at the beginning alone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Der GRAF hat die Tür.", "Der Graf hat die Tür."),
        ("...DIE Tür. NEU bauen!", "...die Tür. Neu bauen!"),
        ("NICHT der SCHURKE!", "Nicht der Schurke!"),  # unknown: as a noun
        ("Ich HEISSE A", "Ich Heisse A"),
        ("Nur 2 LP.", "Nur 2 LP."),
    ],
)
def test_stress_goes(text, expected):
    assert write_usually(text, FORMS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SIE MueSSEN HEISSE TueREN BAUEN", "Sie müssen heiße Türen bauen"),
        ("DAS DUELL, EIN ABENTEUER", "Das Duell, Ein Abenteuer"),  # capitals are no umlauts
        ("Die Tuer der Kueche", "Die Tür der Küche"),
        ("Die neue Mauer, quer, ein Abenteuer", "Die neue Mauer, quer, ein Abenteuer"),
        ("aeH, oeffne! UND zu", "Äh, öffne! Und zu"),
        ("Sie muessen nicht", "Sie müssen nicht"),
    ],
)
def test_umlauts_come_back(text, expected):
    assert write_usually(text, FORMS, umlauts=True) == expected
