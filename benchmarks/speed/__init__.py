"""Seconds and quality of Headstart beside other people's tools: same weights, same rows, same test split, same machine.

    make peers                                an environment for each benchmarks/peers*.txt, in .peers/
    python -m benchmarks.speed                what is not measured yet
    python -m benchmarks.speed SYSTEM …       these (again, if they are measured already)
    python -m benchmarks.speed --task cells   all systems of one task
    python -m benchmarks.speed --list         what there is

Two tasks: 2,000 sentences of SST-2 on MiniLM, and 1,000 photographs of solar cells on EfficientNet-Lite0 (`tasks`).
Every run is a process of its own with an empty feature cache, and every peer is used as its own documentation says
(`peers/`, a file each). The clock runs from reading the training data to the answers on the test split, imports left
out; `saved_s` is when the model lay on the disk. Ours answers the test within `fit`, before it saves, so there
`saved_s` holds the whole run; its steps stand beside it. Runs are taken by turns, so that a machine that slows down
slows all; kept are medians, and `times_ours`, the seconds over those of
"headstart, automatic" and of "headstart, best probe".

A floor is one forward pass over train and validation, what nothing that reads them once can beat (`floors`); "the
floor" of a task is the fastest of them. How fast the machine multiplies matrices is measured in the same run.

Left out: Keras, whose pretrained networks come from hubs; on its torch backend it could wrap our network, but then the
loop around the same torch modules is all that is left of it.
"""
