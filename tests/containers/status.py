"""What `orrery status` prints, read.

    is_complete(text, members, num_ranks, num_shards)
"""

import re


def members_in_state(text, state):
    return set(re.findall(rf"^(\S+) +{state} ", text, re.MULTILINE))


def is_complete(text, members, num_ranks, num_shards):
    """These members are ready, and so many ranks are connected with so many shards."""
    linked = re.findall(rf"^attention-.*, \S+ to {num_shards} shards", text, re.MULTILINE)
    return members_in_state(text, "ready") >= set(members) and len(linked) == num_ranks
