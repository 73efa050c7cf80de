"""Translation of English speech: Battle for Wesnoth (synthetic), two adventure games (people)."""
