"""The loader in processes that torch.distributed joined: an epoch is shared out whole, and goes on from a state."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

import lazygraph as lg

RANK = """
import json, os, sys
import torch
import lazygraph as lg

path, out, *budgets = sys.argv[1:]
budgets = [json.loads(budget) for budget in budgets]
rank = int(os.environ["RANK"])
ds = lg.LazyGraphDataset(path)

def made(budget, **way):
    return lg.loader(ds, shuffle=True, seed=5, **budget, **way)

def ids(batches):
    return [batch.id for batch in batches]

def told(loader, state_before, budget):
    told = {"length": len(loader), "epochs": [ids(loader), ids(loader)], "evaluation": ids(loader.evaluation(ds))}
    loader.set_epoch(1)
    iterator = iter(loader)
    told["begun"] = ids([next(iterator), next(iterator)])

    states = [loader.state_dict() if rank == 0 else None]
    torch.distributed.broadcast_object_list(states)  # as where one rank has written the checkpoint
    other = made(budget, **({"num_workers": 1} if rank == 0 else {"threads": 0}))
    other.load_state_dict(states[0])
    told["rest"], told["next"] = ids(other), ids(other)
    try:
        other.load_state_dict(state_before)
    except lg.InputError as error:
        told["refused"] = str(error)
    other.close()
    return told

loaders = [made(budget) for budget in budgets]  # before the ranks know of one another
states = [loader.state_dict() for loader in loaders]
torch.distributed.init_process_group("gloo")
json.dump(list(map(told, loaders, states, budgets)), open(f"{out}/{rank}.json", "w"))
torch.distributed.destroy_process_group()
"""
BUDGETS = {"batch_size": 32}, {"max_atoms": 200}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def told_by_two_ranks(prototypes, folder):
    """What each rank tells of each budget."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RANK, prototypes, folder, *map(json.dumps, BUDGETS)]
    runs = [
        subprocess.Popen(command, env={**os.environ, **place, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        for run in runs:
            _, err = run.communicate(timeout=120)
            assert run.returncode == 0, err
    finally:
        for run in runs:
            run.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def flat(batches):
    return [graph_id for batch in batches for graph_id in batch]


@pytest.mark.slow
def test_two_ranks_share_every_epoch_and_go_on_from_the_state_of_one(prototypes, tmp_path):
    ds = lg.LazyGraphDataset(prototypes)
    for budget, *told in zip(BUDGETS, *told_by_two_ranks(prototypes, tmp_path), strict=True):
        a, b = told
        epochs = [*zip(a["epochs"], b["epochs"], strict=True), (a["next"], b["next"])]
        for one, other in epochs:
            assert len(one) == len(other)
            assert sorted(flat(one + other)) == sorted(ds.ids)
        assert len({json.dumps(epoch) for epoch in epochs}) == 3
        assert a["length"] == b["length"] == len(a["epochs"][0]) < len(lg.loader(ds, shuffle=True, seed=5, **budget))
        assert sorted(flat(a["evaluation"] + b["evaluation"])) == ds.ids.tolist()
        for rank in told:
            assert len(rank["begun"]) == 2
            assert rank["begun"] + rank["rest"] == rank["epochs"][1]
            assert "world_size is 1 there and 2 here" in rank["refused"]


def test_ranks_that_are_given_hold_for_evaluation_too(prototypes):
    ds = lg.LazyGraphDataset(prototypes)
    shares = [lg.loader(ds[:200], 16, shuffle=True, rank=rank, world_size=2).evaluation(ds[200:]) for rank in range(2)]
    assert [batch.num_graphs for share in shares for batch in share] == [64, 36]
    assert sorted(flat(batch.id for share in shares for batch in share)) == ds.ids[200:].tolist()
