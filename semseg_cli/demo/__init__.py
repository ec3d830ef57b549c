"""The embedded demo world: drawn scenes, and tiny models trained on them.

It gives the tool something to run on without a download. `world` finds, draws and exports it;
`recipe` trains it anew. Importing this package loads nothing; `world` and `dataset` load neither
torch nor transformers.
"""
