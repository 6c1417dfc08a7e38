"""What the fast tests notice: small changes of the product, one at a time, and whether a test fails.

    make mutants ONLY=drain_run,dispatcher # all mutants of two modules
    make mutants SAMPLE=200 SEED=7         # 200 of all modules, the same ones for the same seed

Why not mutmut or cosmic-ray: mutmut 3.8.1 was tried. It stops here, because it looks for its mutants under
the path of their file, `layers.core.lms_webhooks`, which no test imports. It changes only functions, so no
constant such as a time-out. cosmic-ray 8.7.0 writes each mutant into the source, and starts pytest for each.
Neither removes a call, and most of the changes that went unnoticed here were of that kind.
"""
