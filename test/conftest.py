from hypothesis import settings

# Times differ too much between machines to be a law; the blob reproduces a failure.
settings.register_profile("laws", deadline=None, print_blob=True)
settings.load_profile("laws")
