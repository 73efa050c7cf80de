"""`mtla-espnet convert`: trained models with heads of keys and values become MLA or MTLA."""
